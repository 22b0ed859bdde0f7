"""One pass over a tree that makes its JSON document, with its numbers in it or apart from it.

But for its numbers, a tree hardly changes from one checkpoint to the next: the documents without numbers are equal if
two trees differ only in their numbers and in the content of their arrays. Knows neither live objects nor files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

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

#: Kinds of `Value` that change like numbers do.
CHANGING = frozenset({"int", "float", "complex", "numpy"})
#: Larger integers are written as text: not every reader of JSON takes them.
LARGEST_INTEGER = 1 << 62
#: Stands where a number was taken out: nowhere else does a document have an empty list in place of a value.
HOLE: list[Any] = []


class Encoded(NamedTuple):
    """A tree as a document.

    :param root: the reference to the root.
    :param nodes: what the document says of each node.
    :param arrays: those with bytes of their own, in the order in which their nodes stand in the document.
    """

    root: Any
    nodes: list[Any]
    arrays: list[Array]


def encode_tree(
    state: State, numbers: Sequence[Array] | None = None, values: list[Any] | None = None
) -> Encoded:
    """The document of a state.

    :param numbers: the arrays in the order in which the document is to number them; by default that of `Encoded`.
    :param values: takes the numbers, in the order of their places; the document then has holes instead.
    :raises ValueError: if the tree has an array that is not among `numbers`.
    """
    encoder = _Encoder(numbers, values)
    root = encoder.child(state.root)
    nodes = []
    for node in encoder.queue:  # grows while it is walked
        write = _WRITERS.get(type(node))
        if write is None:
            raise TypeError(f"no notation for a node of type {type(node).__name__}")
        nodes.append(write(encoder, node))
    return Encoded(root, nodes, encoder.arrays)


def is_text(value: str) -> bool:
    """Whether JSON can hold a text as it is."""
    # JSON joins two halves of a surrogate pair that Python keeps apart.
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


class _Encoder:
    """The nodes that were met so far; each method says what the document has for a node."""

    def __init__(self, numbers: Sequence[Array] | None, values: list[Any] | None) -> None:
        self.queue: list[Node] = []
        self.arrays: list[Array] = []
        self._index: dict[int, int] = {}
        self._numbers = None if numbers is None else {id(array): n for n, array in enumerate(numbers)}
        self._values = values

    def child(self, value: Any) -> Any:
        """What stands for a child: a plain value, a hole, or a reference to a node."""
        kind = type(value)
        if value is None or (kind is str and value.isascii()):
            return value
        if kind is bool or (kind is int and -LARGEST_INTEGER < value < LARGEST_INTEGER):
            if (values := self._values) is None:
                return value
            values.append(value)
            return HOLE
        if kind is float:
            if math.isfinite(value):
                if (values := self._values) is None:
                    return value
                values.append(value)
                return HOLE
            value = Value("float", value.hex())
        elif kind is int:
            value = Value("int", hex(value))
        elif kind is str:
            if is_text(value):
                return value
            value = Value("str", value.encode("utf-8", "surrogatepass").hex())
        number = self._index.get(id(value))
        if number is None:
            number = self._index[id(value)] = len(self.queue)
            self.queue.append(value)  # keeps it alive, and with it the id
        return [number]

    def _fixed(self, value: Any) -> Any:
        """What stands for a child that is no place for a hole."""
        values, self._values = self._values, None
        found = self.child(value)
        self._values = values
        return found

    def _named(self, fields: dict[str, Any]) -> dict[str, Any]:
        child = self.child
        return {name: child(value) for name, value in fields.items()}

    def object(self, node: Object) -> list[Any]:
        return ["o", node.type, self._named(node.fields)]

    def mapping(self, node: MappingNode) -> list[Any]:
        beside, values = self._beside(node)
        child, pairs = self.child, node.pairs
        entry: list[Any]
        if all(type(key) is str and is_text(key) for key, _ in pairs):
            entry = ["d", node.type, {key: child(value) for key, value in pairs}, *beside]
        else:
            entry = ["m", node.type, [[child(key), child(value)] for key, value in pairs], *beside]
        if self._values is not None:
            self._values += values
        return entry

    def sequence(self, node: SequenceNode) -> list[Any]:
        beside, values = self._beside(node)
        child = self.child
        entry = ["i", node.type, [child(item) for item in node.items], *beside]
        if self._values is not None:
            self._values += values
        return entry

    def _beside(self, node: SequenceNode | MappingNode) -> tuple[Sequence[Any], Iterable[Any]]:
        """The extra and the fields of a container, and the numbers of the fields.

        The nodes they refer to come before those of the elements; in the document, and among the numbers, they come
        after.
        """
        if node.extra is None and not node.fields:
            return (), ()
        extra = self._fixed(node.extra)
        if not node.fields:
            return (extra,), ()
        outer = self._values
        inner: list[Any] | None = None if outer is None else []
        self._values = inner
        fields = self._named(node.fields)
        self._values = outer
        return (extra, fields), inner or ()

    def array(self, node: Array) -> list[Any]:
        entry: dict[str, Any] = {"lib": node.framework, "dtype": node.dtype, "shape": list(node.shape)}
        if node.order != _AXES[len(node.shape)]:
            entry["order"] = list(node.order)
        if node.extra:
            entry["extra"] = node.extra
        if node.grad is not None:
            entry["grad"] = self.child(node.grad)
        if node.fields:
            entry["fields"] = self._named(node.fields)
        if node.base is not None:
            entry |= {"base": self.child(node.base), "offset": node.offset, "strides": list(node.strides)}
        else:
            entry["blob"] = self._number(node)
            self.arrays.append(node)
        return ["a", entry]

    def _number(self, node: Array) -> int:
        if self._numbers is None:
            return len(self.arrays)
        number = self._numbers.get(id(node))
        if number is None:
            raise ValueError(f"{node.name}: an array of the tree that is not among the state's arrays")
        return number

    def value(self, node: Value) -> list[Any]:
        if self._values is None or node.kind not in CHANGING:
            return ["v", node.kind, node.data]
        self._values.append(node.data)
        return ["v", node.kind, HOLE]

    def omitted(self, node: Omitted) -> list[Any]:
        return ["x", node.reason]

    def custom(self, node: Custom) -> list[Any]:
        return ["h", node.type, self.child(node.payload)]

    def repeat(self, node: RepeatRun) -> list[Any]:
        return ["r", self._fixed(node.item), node.count]

    def run(self, node: NumberRun) -> list[Any]:
        return ["p", node.of, self.child(node.array)]


#: The axes in their own order, for each number of them.
_AXES = [tuple(range(count)) for count in range(65)]
_WRITERS: dict[type, Callable[[_Encoder, Any], list[Any]]] = {
    Object: _Encoder.object,
    MappingNode: _Encoder.mapping,
    SequenceNode: _Encoder.sequence,
    Array: _Encoder.array,
    Value: _Encoder.value,
    Omitted: _Encoder.omitted,
    Custom: _Encoder.custom,
    RepeatRun: _Encoder.repeat,
    NumberRun: _Encoder.run,
}
