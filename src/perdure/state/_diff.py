"""Where two states differ, path by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import _aliasing
from perdure.state._describe import describe, describe_at
from perdure.state._patterns import matches
from perdure.state._secrets import is_secret_path
from perdure.tree import (
    Array,
    Custom,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    State,
    Value,
    message,
)

#: Paths of values that measure time: they differ between any two runs.
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

    :param ignore: paths to leave out, with `*` and `?` as wildcards; by default those of :data:`CLOCKS`.
    """
    found = _Comparison().compare(a.root, b.root)
    return [each for each in found if not matches(each.path, ignore)]


class _Comparison:
    def __init__(self) -> None:
        # Nodes that were compared once must be compared with each other again: both states share in the same places.
        self._pairs: dict[int, int] = {}
        self._back: dict[int, int] = {}
        #: Nodes made for the comparison; an id is only valid as long as its object lives.
        self._alive: list[Any] = []
        self._found: list[Difference] = []
        self._todo: list[tuple[Any, Any, str]] = []

    def compare(self, a: Any, b: Any) -> list[Difference]:
        self._todo.append((a, b, ""))
        while self._todo:
            last = len(self._todo) - 1
            a, b, path = self._todo.pop()
            self._one(a, b, path)
            # In the order in which they stand in the tree.
            self._todo[last:] = reversed(self._todo[last:])
        return self._found

    def _differ(self, path: str, detail: str) -> None:
        self._found.append(Difference(path, detail))

    def _one(self, a: Any, b: Any, path: str) -> None:
        if not isinstance(a, Node) or not isinstance(b, Node):
            if not _same_plain(a, b):
                self._differ(path, f"{describe_at(path, a)} and {describe_at(path, b)}")
            return
        if isinstance(a, Value | Omitted) or isinstance(b, Value | Omitted):
            # Something left out in one state cannot differ.
            if not isinstance(a, Omitted) and not isinstance(b, Omitted) and a != b:
                self._differ(path, "two secrets" if is_secret_path(path) else f"{_shown(a)} and {_shown(b)}")
            return
        before, behind = self._pairs.get(id(a)), self._back.get(id(b))
        if before is not None or behind is not None:
            if before != id(b) or behind != id(a):
                self._differ(path, "shared with other paths in one state and not in the other")
            return
        self._pairs[id(a)], self._back[id(b)] = id(b), id(a)
        if type(a) is not type(b) or getattr(a, "type", None) != getattr(b, "type", None):
            self._differ(path, f"{describe(a)} and {describe(b)}")
            return
        if isinstance(a, tree.MappingNode) and a.type == message.TYPE:
            # The state of another process: its contents are compared, not their encoding.
            opened = [message.decode(message.from_node(each)).root for each in (a, b)]
            self._alive += opened
            self._fields(opened[0].fields, opened[1].fields, path)
            return
        match a, b:
            case Array(), Array():
                self._arrays(a, b, path)
            case Object(), Object():
                self._fields(a.fields, b.fields, path)
            case tree.MappingNode(), tree.MappingNode():
                self._mappings(a, b, path)
            case SequenceNode(), SequenceNode():
                self._items(a, b, path)
            case Custom(), Custom():
                self._todo.append((a.payload, b.payload, path))

    def _fields(self, a: dict[str, Any], b: dict[str, Any], path: str) -> None:
        for name in {**a, **b}:
            where = tree.field_path(path, name)
            if name in a and name in b:
                self._todo.append((a[name], b[name], where))
            elif not isinstance(a.get(name, b.get(name)), Omitted):
                self._differ(where, f"only in the {'first' if name in a else 'second'}")

    def _mappings(self, a: tree.MappingNode, b: tree.MappingNode, path: str) -> None:
        ours, theirs = _entries(a), _entries(b)
        if len(ours) != len(theirs):
            self._differ(path, f"{len(ours)} and {len(theirs)} entries")
        if a.extra != b.extra:
            self._differ(path, "other factories")
        for position, ((key_a, child_a), (key_b, child_b)) in enumerate(zip(ours, theirs, strict=False)):
            plain = not isinstance(key_a, Node) or isinstance(key_a, Value)
            if plain and not (_same_plain(key_a, key_b) if not isinstance(key_a, Node) else key_a == key_b):
                self._differ(path, f"keys {_shown(key_a)} and {_shown(key_b)} at position {position}")
                break
            if not plain:
                self._todo.append((key_a, key_b, tree.step_path(path, "key", position)))
            self._todo.append((child_a, child_b, tree.key_path(path, key_a if plain else position)))
        self._fields(a.fields or {}, b.fields or {}, path)

    def _items(self, a: SequenceNode, b: SequenceNode, path: str) -> None:
        self._fields(a.fields or {}, b.fields or {}, path)
        if a.extra != b.extra:
            self._differ(path, f"of length {_shown(a.extra)} and {_shown(b.extra)}")
        if a.type in ("set", "frozenset"):
            if sorted(_canonical(child) for child in _elements(a)) != sorted(
                _canonical(child) for child in _elements(b)
            ):
                self._differ(path, "different elements")
            return
        if _runs(a) == _runs(b):
            for (_, child_a, kind, name), (_, child_b, _, _) in zip(
                tree.edges(a), tree.edges(b), strict=False
            ):
                if isinstance(child_a, NumberRun):
                    self._todo.append((child_a.array, child_b.array, tree.step_path(path, kind, name)))
                elif kind == "[":
                    self._todo.append((child_a, child_b, tree.step_path(path, kind, name)))
            return
        ours, theirs = list(_elements(a)), list(_elements(b))
        self._alive += (ours, theirs)
        if len(ours) != len(theirs):
            self._differ(path, f"{len(ours)} and {len(theirs)} elements")
        for index, (child_a, child_b) in enumerate(zip(ours, theirs, strict=False)):
            self._todo.append((child_a, child_b, tree.key_path(path, index)))

    def _arrays(self, a: Array, b: Array, path: str) -> None:
        if (a.framework, a.dtype, a.shape) != (b.framework, b.dtype, b.shape):
            self._differ(path, f"{describe(a)} and {describe(b)}")
            return
        for what in ("parameter", "requires_grad"):
            if a.extra.get(what) != b.extra.get(what):
                self._differ(path, f"{what}: {a.extra.get(what, False)} and {b.extra.get(what, False)}")
        self._fields(a.fields or {}, b.fields or {}, path)
        if a.grad is not None or b.grad is not None:
            self._todo.append((a.grad, b.grad, tree.field_path(path, "grad")))
        if (a.base is None) != (b.base is None):
            self._differ(path, "shares memory with another array in one state and not in the other")
        elif a.base is not None and b.base is not None:
            if (a.offset, a.strides) != (b.offset, b.strides):
                self._differ(path, "views of different places")
            self._todo.append((a.base, b.base, path))
        else:
            ours, theirs = _content(a), _content(b)
            if not bytes_equal(ours, theirs):
                self._differ(path, f"{describe(a)}: {_how(ours, theirs)}")


def _entries(node: tree.MappingNode) -> list[tuple[Any, Any]]:
    # Entries for functions belong to the script, not to the state, and so do their keys.
    return [(key, child) for key, child in node.pairs if not isinstance(child, Omitted)]


def _same_plain(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    # A NaN equals a NaN, and 0.0 does not equal -0.0.
    return a.hex() == b.hex() if type(a) is float else bool(a == b)


def _shown(value: Any) -> str:
    if isinstance(value, Value):
        return f"{value.data!r:.60}"
    return describe(value)


def _elements(node: SequenceNode) -> Iterator[Any]:
    for child in node.items:
        match child:
            case RepeatRun():
                for _ in range(child.count):
                    item = child.item
                    # Each repetition is a separate object.
                    yield item if item is None else type(item)(item.type, [])
            case NumberRun():
                numbers = _aliasing.content(child.array)
                if child.of == "numpy":
                    yield from (Value("numpy", [one.dtype.str, one.tobytes().hex()]) for one in numbers)
                else:
                    yield from numbers.tolist()
            case _:
                yield child


def _runs(node: SequenceNode) -> list[tuple[str, int]]:
    """How a container's elements are recorded: which are runs, and how long."""
    found: list[tuple[str, int]] = []
    for child in node.items:
        match child:
            case RepeatRun():
                found.append((f"repeat {describe(child.item)}", child.count))
            case NumberRun():
                found.append((f"packed {child.of} {child.array.dtype}", child.array.shape[0]))
            case _:
                found.append(("single", 1))
    return found


def _canonical(node: Any) -> str:
    """A text by which elements of sets can be sorted and compared, whatever their recorded order."""
    match node:
        case Value():
            return f"{node.kind} {node.data!r}"
        case SequenceNode():
            inner = [_canonical(child) for child in _elements(node)]
            return f"{node.type} {sorted(inner) if node.type == 'frozenset' else inner}"
        case Node():
            return f"{type(node).__name__} {getattr(node, 'type', '')}"
    return f"{type(node).__name__} {tree.shown(node)}"


def _content(node: Array) -> Any:
    """The elements of an array, its axes in their own order."""
    return _aliasing.with_own_axes(node, _aliasing.content(node))


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
