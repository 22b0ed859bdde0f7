"""The structure of a tree as one flat tuple that can be compared fast, and apart from it the numbers and arrays.

It stands for `tree.encode` where the same structure is met again and again: trees of equal outlines have documents
that differ in their numbers alone. Knows neither live objects nor files.
"""

from __future__ import annotations

import math
from typing import Any

from perdure.tree import _codec
from perdure.tree._nodes import (
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    State,
    Value,
)

#: Values that change like numbers do, by their kind.
CHANGING = frozenset({"int", "float", "complex", "numpy"})
#: What stands in an outline where a number was; no node has it as a child.
_NUMBER = object()
_LIMIT = 1 << 62


class _Outline:
    """One tree on its way to a tuple, node by node in the order of `tree.encode`."""

    def __init__(self) -> None:
        self.queue: list[Node] = []
        self.index: dict[int, int] = {}
        self.parts: list[Any] = []
        self.taken: list[Any] = []
        self.arrays: list[Array] = []

    def child(self, value: Any, taken: list[Any]) -> Any:
        """What stands for a child; a number goes to `taken`."""
        kind = type(value)
        if value is None or (kind is str and value.isascii()):
            return value
        if kind is bool or (kind is int and -_LIMIT < value < _LIMIT):
            taken.append(value)
            return _NUMBER
        if kind is float:
            if math.isfinite(value):
                taken.append(value)
                return _NUMBER
            value = Value("float", value.hex())
        elif kind is int:
            value = Value("int", hex(value))
        elif kind is str:
            if _codec.is_text(value):
                return value
            value = Value("str", value.encode("utf-8", "surrogatepass").hex())
        number = self.index.get(id(value))
        if number is None:
            number = self.index[id(value)] = len(self.queue)
            self.queue.append(value)  # keeps it alive, and with it the id
        return number

    def children(self, values: Any) -> None:
        child, taken = self.child, self.taken
        self.parts += [child(value, taken) for value in values]

    def object(self, node: Object) -> None:
        self.parts += (Object, node.type, *node.fields, len(node.fields))
        self.children(node.fields.values())

    def mapping(self, node: MappingNode) -> None:
        if node.extra is not None or node.fields:
            self.beside(node)
        named = all(type(key) is str and _codec.is_text(key) for key, _ in node.pairs)
        self.parts += (MappingNode, node.type, named, len(node.pairs))
        if named:
            self.parts += [key for key, _ in node.pairs]
            self.children([value for _, value in node.pairs])
        else:
            self.children([part for pair in node.pairs for part in pair])
        self.fields(node)

    def items(self, node: SequenceNode) -> None:
        if node.extra is not None or node.fields:
            self.beside(node)
        self.parts += (SequenceNode, node.type, len(node.items))
        self.children(node.items)
        self.fields(node)

    def beside(self, node: SequenceNode | MappingNode) -> None:
        """What an extra and fields refer to is counted first, as in a document, where the extra stays what it is."""
        extra: list[Any] = []
        self.parts.append((self.child(node.extra, extra), *((type(each), each) for each in extra)))
        for value in (node.fields or {}).values():
            self.child(value, [])

    def fields(self, node: SequenceNode | MappingNode) -> None:
        if node.fields:
            self.parts += (dict, *node.fields, len(node.fields))
            self.children(node.fields.values())

    def array(self, node: Array) -> None:
        dtype = node.dtype if type(node.dtype) is str else repr(node.dtype)
        self.parts += (Array, node.framework, dtype, node.shape, node.order)
        if node.extra:
            self.parts.append(tuple(node.extra.items()))
        if node.grad is not None:
            self.parts += ("grad", self.child(node.grad, []))
        if node.base is not None:
            self.parts += ("base", self.child(node.base, []), node.offset, node.strides)
        else:
            self.arrays.append(node)

    def value(self, node: Value) -> None:
        if node.kind in CHANGING:
            self.parts += (Value, node.kind)
            self.taken.append(node.data)
        else:
            self.parts += (Value, node.kind, repr(node.data))

    def handled(self, node: Custom) -> None:
        self.parts += (Custom, node.type, self.child(node.payload, self.taken))

    def repeat(self, node: RepeatRun) -> None:
        self.parts += (RepeatRun, self.child(node.item, []), node.count)

    def packed(self, node: NumberRun) -> None:
        self.parts += (NumberRun, node.of, self.child(node.array, []))

    def skipped(self, node: Omitted) -> None:
        self.parts += (Omitted, node.reason)


_OF: dict[type, Any] = {
    Object: _Outline.object,
    MappingNode: _Outline.mapping,
    SequenceNode: _Outline.items,
    Array: _Outline.array,
    Value: _Outline.value,
    Custom: _Outline.handled,
    RepeatRun: _Outline.repeat,
    NumberRun: _Outline.packed,
    Omitted: _Outline.skipped,
}


def outline(state: State) -> tuple[tuple[Any, ...], list[Any], list[Array]]:
    """The outline of a tree, the numbers that were taken out in the order of the document, and its arrays."""
    found = _Outline()
    found.child(state.root, found.taken)
    for node in found.queue:  # grows while it is walked
        _OF[type(node)](found, node)
    return tuple(found.parts), found.taken, found.arrays
