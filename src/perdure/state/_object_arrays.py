"""NumPy arrays of Python objects as memory: which of them share it. Knows no world and no files.

An array of objects is recorded by its elements. One that shares memory with others is recorded as a view instead: of
the array that contains it or, where no array contains all of them, of the elements that they have in common.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from perdure.state import _aliasing
from perdure.tree import OBJECT_VIEW, Path, SequenceNode, Value

Objects: TypeAlias = "np.ndarray[Any, np.dtype[np.object_]]"

#: The size of a reference.
_SIZE = np.dtype(object).itemsize
_MOST_COMPARED = 64
UNALIGNED = (
    "it shares memory with another array, and both are a field of a structured array. Keep the field as an array of "
    "its own: array['field'].copy()"
)


class Met(NamedTuple):
    """An array of objects that a walk met.

    :param array: the live array.
    :param node: its node, with all its elements.
    :param path: where it was met.
    """

    array: Objects
    node: SequenceNode
    path: Path


def find_views(met: Sequence[Met], elements: Callable[[list[Any]], list[Any]]) -> Iterator[tuple[Met, str]]:
    """Turn the nodes of arrays that share memory into views.

    :param elements: makes the nodes of a list of objects.
    :returns: arrays for which that cannot be done, and why.
    """
    # Only arrays that have an owner in common can share memory, and most have none in common.
    by_owner: dict[int, list[Met]] = collections.defaultdict(list)
    for each in met:
        if each.array.size:
            by_owner[id(_owner(each.array))].append(each)
    for members in by_owner.values():
        if len(members) > 1:
            # Of several arrays in the same place, the owner of the memory is the base.
            members.sort(key=lambda each: each.array.base is not None)
            arrays = [each.array for each in members]
            for group in _aliasing.overlapping(arrays):
                yield from _make_views([members[position] for position in group], elements)


def _make_views(group: list[Met], elements: Callable[[list[Any]], list[Any]]) -> Iterator[tuple[Met, str]]:
    extents = [_aliasing.extent(each.array) for each in group]
    start, end = min(low for _, low, _, _ in extents), max(high for _, _, high, _ in extents)
    whole = next(
        (
            each
            for each, (_, low, high, _) in zip(group, extents, strict=True)
            if (low, high) == (start, end) and each.array.flags.c_contiguous
        ),
        None,
    )
    if whole is None and len(group) <= _MOST_COMPARED:
        pairs = ((a.array, b.array) for i, a in enumerate(group) for b in group[:i])
        if not any(_aliasing.share(a, b) for a, b in pairs):
            return
    for each in group:
        lengths = zip(each.array.strides, each.array.shape, strict=True)
        ways = [stride for stride, length in lengths if length > 1]
        if any(way % _SIZE for way in (_aliasing.address(each.array) - start, *ways)):
            yield each, UNALIGNED
            return
    views = [each for each in group if each is not whole]
    if whole is None:
        base = _common(views, start, end, elements)
    else:
        base = whole.node
    for each in views:
        offset = (_aliasing.address(each.array) - start) // _SIZE
        strides = [stride // _SIZE for stride in each.array.strides]
        each.node.type, each.node.items = OBJECT_VIEW, [base]
        each.node.extra = Value("view", [list(each.array.shape), offset, strides])


def _common(
    views: Sequence[Met], start: int, end: int, elements: Callable[[list[Any]], list[Any]]
) -> SequenceNode:
    """The node of the memory that arrays have in common; what none of them shows is None in it."""
    flat: Objects = np.full((end - start) // _SIZE, None, dtype=object)
    for each in views:
        offset = (_aliasing.address(each.array) - start) // _SIZE
        _strided(flat, each.array.shape, offset, [stride // _SIZE for stride in each.array.strides])[...] = (
            each.array
        )
    return SequenceNode("ndarray", elements(flat.tolist()), Value("shape", [len(flat)]))


def _owner(array: Any) -> Any:
    """What owns the memory of an array."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def _strided(flat: Objects, shape: Sequence[int], offset: int, strides: Sequence[int]) -> Objects:
    """A view of a flat array; all in elements."""
    in_bytes = [stride * _SIZE for stride in strides]
    view: Objects = np.lib.stride_tricks.as_strided(flat[offset:], shape, in_bytes)
    return view


# -- from nodes to live arrays --------------------------------------------------------------------------------


def shape_of(node: SequenceNode) -> list[int]:
    """The shape of an array of objects, or of a view of one."""
    assert isinstance(node.extra, Value)
    data: Any = node.extra.data
    return [int(length) for length in (data[0] if node.type == OBJECT_VIEW else data)]


def fits(node: SequenceNode, live: Any) -> bool:
    """Whether a live array can be that of a node, if it is a view whether it can lie where the node says."""
    return (
        type(live) is np.ndarray
        and live.dtype == object
        and list(live.shape) == shape_of(node)
        and (node.type == OBJECT_VIEW or bool(live.flags.writeable))
    )


def lies_at(live: Objects, base: Objects, node: SequenceNode) -> bool:
    """Whether a live array is the view of `base` that a node describes."""
    assert isinstance(node.extra, Value)
    shape, offset, strides = node.extra.data
    at = _aliasing.address(live) == _aliasing.address(base) + offset * _SIZE
    ways = zip(live.strides, strides, shape, strict=True)
    return at and bool(base.flags.c_contiguous) and all(a == b * _SIZE or n == 1 for a, b, n in ways)


def view_of(base: Objects, node: SequenceNode) -> Objects:
    """A new view of `base`, as a node describes it."""
    assert isinstance(node.extra, Value)
    return _strided(base.reshape(-1), *node.extra.data)


def memory_of(lives: Sequence[Objects], nodes: Sequence[SequenceNode], base: SequenceNode) -> Objects | None:
    """The memory that live arrays have in common, if it is what `base` stands for and they lie in it as their nodes
    say."""
    owner = _owner(lives[0])
    if not (type(owner) is np.ndarray and owner.dtype == object and owner.flags.writeable):
        return None
    if not _aliasing.extent(owner)[3]:
        return None
    extra: Any = nodes[0].extra
    start = _aliasing.address(lives[0]) - extra.data[1] * _SIZE - _aliasing.address(owner)
    count = int(np.prod(shape_of(base)))
    if start < 0 or start + count * _SIZE > owner.nbytes:
        return None
    axes = sorted(range(owner.ndim), key=lambda axis: -owner.strides[axis])
    flat = owner.transpose(axes).reshape(-1)[start // _SIZE : start // _SIZE + count]
    if not np.shares_memory(flat, owner) or len(shape_of(base)) != 1:
        return None
    alike = all(lies_at(live, flat, node) for live, node in zip(lives, nodes, strict=True))
    return flat if alike else None
