"""Where two states differ, path by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state.capture import deep_recursion
from perdure.state.patterns import matches
from perdure.state.restore import describe, fresh, read
from perdure.tree import Array, Handled, Items, Node, Object, Packed, Repeat, Skipped, State, Value

#: What measures the time that passed rather than what was learnt: it differs between any two runs.
CLOCKS = (
    "*collect_time",
    "*_policy_update_time",
    "*collect_speed",
    "*train_time",
    "*time_queue*",
    "*.episode_times[*",
    "*['t']",
    "*['time/*",
    "*info.episode.t",
)


@dataclass(frozen=True)
class Difference:
    """One path at which two states differ, and how."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def diff(a: State, b: State, *, ignore: Sequence[str] = CLOCKS) -> list[Difference]:
    """All paths at which two states differ; an empty list where they are equal bit for bit.

    :param ignore: paths to leave out, with `*` and `?` as wildcards; by default what measures passing time.
    """
    with deep_recursion():
        found = list(_Comparison().compare(a.root, b.root, ""))
    return [each for each in found if not matches(each.path, ignore)]


class _Comparison:
    def __init__(self) -> None:
        # Two states share alike: what was met together once must be met together again.
        self.pairs: dict[int, int] = {}
        self.back: dict[int, int] = {}

    def compare(self, a: Any, b: Any, path: str) -> Iterator[Difference]:
        if not isinstance(a, Node) or not isinstance(b, Node):
            if type(a) is not type(b) or (a != b and not (a != a and b != b)) or str(a) != str(b):
                yield Difference(path, f"{describe(a)} and {describe(b)}")
            return
        if isinstance(a, Value | Skipped):
            if isinstance(a, Value) and a != b:
                yield Difference(path, f"{a.data!r:.60} and {getattr(b, 'data', b)!r:.60}")
            return
        before, behind = self.pairs.get(id(a)), self.back.get(id(b))
        if before is not None or behind is not None:
            if before != id(b) or behind != id(a):
                yield Difference(path, "shared with other paths in one state and not in the other")
            return
        self.pairs[id(a)], self.back[id(b)] = id(b), id(a)
        if type(a) is not type(b) or getattr(a, "type", None) != getattr(b, "type", None):
            yield Difference(path, f"{describe(a)} and {describe(b)}")
            return
        match a, b:
            case Array(), Array():
                yield from self.arrays(a, b, path)
            case Object(), Object():
                yield from self.fields(a.fields, b.fields, path)
            case tree.Mapping(), tree.Mapping():
                yield from self.mappings(a, b, path)
            case Items(), Items():
                yield from self.items(a, b, path)
            case Handled(), Handled():
                yield from self.compare(a.payload, b.payload, path)

    def fields(self, a: dict[str, Any], b: dict[str, Any], path: str) -> Iterator[Difference]:
        for name in {**a, **b}:
            where = tree.field_path(path, name)
            if name not in a or name not in b:
                yield Difference(where, f"only in the {'first' if name in a else 'second'}")
            else:
                yield from self.compare(a[name], b[name], where)

    def mappings(self, a: tree.Mapping, b: tree.Mapping, path: str) -> Iterator[Difference]:
        if len(a.pairs) != len(b.pairs):
            yield Difference(path, f"{len(a.pairs)} and {len(b.pairs)} entries")
        for position, ((key_a, child_a), (key_b, child_b)) in enumerate(zip(a.pairs, b.pairs, strict=False)):
            shown = key_a if not isinstance(key_a, Node) or isinstance(key_a, Value) else position
            if list(self.compare(key_a, key_b, path)):
                yield Difference(path, f"keys {describe(key_a)} and {describe(key_b)} at position {position}")
                return
            yield from self.compare(child_a, child_b, tree.key_path(path, shown))
        yield from self.fields(a.fields or {}, b.fields or {}, path)

    def items(self, a: Items, b: Items, path: str) -> Iterator[Difference]:
        ours, theirs = list(_elements(a)), list(_elements(b))
        extra_a, extra_b = (getattr(extra, "data", extra) for extra in (a.extra, b.extra))
        if len(ours) != len(theirs) or extra_a != extra_b:
            yield Difference(path, f"{len(ours)} and {len(theirs)} elements")
        if a.type in ("set", "frozenset"):
            if len(ours) == len(theirs) and sorted(map(_plain, ours)) != sorted(map(_plain, theirs)):
                yield Difference(path, "different elements")
            return
        for index, (child_a, child_b) in enumerate(zip(ours, theirs, strict=False)):
            yield from self.compare(child_a, child_b, tree.key_path(path, index))
        yield from self.fields(a.fields or {}, b.fields or {}, path)

    def arrays(self, a: Array, b: Array, path: str) -> Iterator[Difference]:
        if (a.library, a.dtype, a.shape) != (b.library, b.dtype, b.shape):
            yield Difference(path, f"{describe(a)} and {describe(b)}")
            return
        if (a.base is None) != (b.base is None):
            yield Difference(path, "shares memory with another array in one state and not in the other")
            return
        if a.base is not None and b.base is not None:
            if (a.offset, a.strides) != (b.offset, b.strides):
                yield Difference(path, "windows onto different places")
            yield from self.compare(a.base, b.base, path)
            return
        if a.grad is not None or b.grad is not None:
            yield from self.compare(a.grad, b.grad, tree.field_path(path, "grad"))
        ours, theirs = _content(a), _content(b)
        if bytes_equal(ours, theirs):
            return
        yield Difference(path, f"{describe(a)}: {_how(ours, theirs)}")


def _elements(node: Items) -> Iterator[Any]:
    for child in node.items:
        match child:
            case Repeat():
                for _ in range(child.count):
                    item = child.item
                    # Each repetition is an object of its own.
                    yield type(item)(item.type, []) if isinstance(item, Items | tree.Mapping) else item
            case Packed():
                yield from _content(child.array).tolist()
            case _:
                yield child


def _plain(node: Any) -> str:
    return repr(node.data) if isinstance(node, Value) else repr(node)


def _content(node: Array) -> Any:
    if isinstance(node.data, np.ndarray | torch.Tensor):
        return node.data.detach().cpu() if isinstance(node.data, torch.Tensor) else node.data
    content = fresh(node)
    if isinstance(content, torch.Tensor):
        content = content.detach().cpu()
    flat = tree.flat_bytes(content, node.order)
    if flat.nbytes:
        read(node, flat)
    return content


def bytes_equal(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same bits (a NaN equals the same NaN, 0.0 does not equal -0.0)."""
    order = tuple(range(a.ndim))
    return tree.flat_bytes(a, order) == tree.flat_bytes(b, order)


def _how(a: Any, b: Any) -> str:
    if isinstance(a, torch.Tensor):
        a, b = (x.to(torch.float64).numpy() if x.dtype == torch.bfloat16 else x.numpy() for x in (a, b))
    try:
        unequal = int(np.count_nonzero(a != b))
        apart = float(np.nanmax(np.abs(a.astype(np.complex128) - b.astype(np.complex128))))
    except (TypeError, ValueError):
        return "different contents"
    return f"{unequal} of {a.size} elements differ, by {apart:.3g} at most"
