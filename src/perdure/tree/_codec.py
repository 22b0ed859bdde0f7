"""The JSON document of a `State` tree, and the tree that a document stands for.

A document is a flat table of nodes that refer to each other by index. An object that is shared is one node with several
references to it, and a cycle is made of references too. So neither writing nor reading recurses, however deeply a world
is nested, or a hostile file claims it is. Knows neither live objects nor files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from perdure.errors import DamagedError
from perdure.tree._arrays import (
    Blob,
    brief,
    itemsize,
    numpy_dtype,
)
from perdure.tree._encoder import LARGEST_INTEGER, encode_tree
from perdure.tree._nodes import (
    OBJECT_VIEW,
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    Source,
    State,
    Value,
    edges,
)

#: Says of a document that it has the attributes of tensors. Where it is not, nothing is known of them.
ATTRIBUTES = "attributes"
_LIMIT = LARGEST_INTEGER
_MOST_REPEATED = 1 << 28
_PLAIN_READERS: dict[str, Callable[[str], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "str": lambda text: bytes.fromhex(text).decode("utf-8", "surrogatepass"),
}
#: What any number of references to one value may cost each, and all others together beyond twice their document.
_SHORT = 100
_MOST_SHARED = 1 << 20
_PLAIN_JSON = (str, bool, int, type(None))


def encode(state: State) -> tuple[dict[str, Any], list[Blob]]:
    """The JSON-able document that stands for `state`, and its arrays in the order in which they are numbered there."""
    root, nodes, arrays = encode_tree(state)
    return _whole(root, nodes), [Blob(array) for array in arrays]


def document(state: State) -> dict[str, Any]:
    """The JSON-able document that stands for `state`; it numbers the arrays as `state.arrays` does.

    :raises ValueError: if the tree has an array that is not among them.
    """
    root, nodes, _ = encode_tree(state, state.arrays)
    return _whole(root, nodes)


def _whole(root: Any, nodes: list[Any]) -> dict[str, Any]:
    return {"root": root, "nodes": nodes, ATTRIBUTES: True}


def decode(document: Any, sources: Sequence[Source]) -> State:
    """The tree that `document` stands for; its arrays are read from `sources` when they are needed.

    :raises DamagedError: if the document is not one that `encode` could have made.
    """
    try:
        return _Decoder(document, sources).state()
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise DamagedError(
            f"the state's document is malformed: {type(error).__name__}: {error!s:.300}"
        ) from error


def _expect(condition: bool, what: str, found: Any) -> None:
    if not condition:
        raise DamagedError(f"the state's document is malformed: expected {what}, found {brief(found)}")


def _count(element: Any) -> int:
    match element:
        case RepeatRun():
            return element.count
        case NumberRun():
            return math.prod(element.array.shape)
    return 1


def _length(data: Any) -> int:
    """How much JSON holds of a value, roughly."""
    length, pending = 0, [data]
    while pending:
        part = pending.pop()
        length += len(part) if isinstance(part, str | list) else 1
        if isinstance(part, list):
            pending += part
    return length


class _Decoder:
    def __init__(self, document: Any, sources: Sequence[Source]) -> None:
        _expect(isinstance(document, dict), "an object with `root` and `nodes`", document)
        self.table = document["nodes"]
        _expect(isinstance(self.table, list), "a list of nodes", self.table)
        self.root = document["root"]
        self.has_attributes = document.get(ATTRIBUTES) is True
        self.sources = sources
        self.used: set[int] = set()
        #: What values were read already, and how much may be referred to: a long one referred to again and again would
        #: take more time and memory than its document by any factor.
        self.plain: dict[int, Any] = {}
        self.lengths: list[int] = []
        self.allowed = 0

    def state(self) -> State:
        self.nodes = [self.shell(entry) for entry in self.table]
        self.lengths = [_length(node.data) if isinstance(node, Value) else 0 for node in self.nodes]
        self.allowed = _MOST_SHARED + 2 * sum(self.lengths)
        for node, entry in zip(self.nodes, self.table, strict=True):
            self.fill(node, entry)
        for node in self.nodes:
            self.check(node)
        root = self.ref(self.root)
        _expect(isinstance(root, Object), "an object at the root", self.root)
        return State(root)

    def shell(self, entry: Any) -> Node:
        _expect(isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[0], str), "a node", entry)
        match entry[0]:
            case "o":
                return Object(self.text(entry[1]), {})
            case "a":
                return Array("", "", (), (), None)
            case "d" | "m":
                return MappingNode(self.text(entry[1]), [])
            case "i":
                return SequenceNode(self.text(entry[1]), [])
            case "v":
                return Value(self.text(entry[1]), entry[2])
            case "x":
                return Omitted(self.text(entry[1]))
            case "h":
                return Custom(self.text(entry[1]), None)
            case "r":
                return RepeatRun(None, 0)
            case "p":
                return NumberRun(self.text(entry[1]), Array("", "", (), (), None))
        raise DamagedError(f"the state's document has a node of unknown kind {brief(entry[0])}")

    def fill(self, node: Node, entry: list[Any]) -> None:
        match node:
            case Object():
                node.fields = self.named(entry[2])
            case Array():
                self.fill_array(node, entry[1])
            case MappingNode():
                if entry[0] == "d":
                    node.pairs = [(key, self.ref(child)) for key, child in self.named_raw(entry[2]).items()]
                else:
                    _expect(isinstance(entry[2], list), "pairs of keys and values", entry[2])
                    node.pairs = [(self.ref(key), self.ref(child)) for key, child in entry[2]]
                self.fill_extra(node, entry)
            case SequenceNode():
                _expect(isinstance(entry[2], list), "a list of elements", entry[2])
                node.items = [self.ref(child, element=True) for child in entry[2]]
                self.fill_extra(node, entry)
            case Custom():
                node.payload = self.ref(entry[2])
            case RepeatRun():
                node.item = self.ref(entry[1])
                node.count = self.size(entry[2])
                # An element is small; this many of them fill no memory that a real world would not fill.
                _expect(node.count <= _MOST_REPEATED, f"at most {_MOST_REPEATED} repetitions", node.count)
            case NumberRun():
                _expect(node.of in ("int", "float", "bool", "numpy"), "int, float, bool or numpy", node.of)
                array = self.ref(entry[2])
                _expect(isinstance(array, Array), "an array", entry[2])
                node.array = array

    def fill_extra(self, node: SequenceNode | MappingNode, entry: list[Any]) -> None:
        if len(entry) > 3:
            node.extra = self.ref(entry[3])
        if len(entry) > 4:
            node.fields = self.named(entry[4])

    def fill_array(self, node: Array, entry: Any) -> None:
        _expect(isinstance(entry, dict) and entry.get("lib") in ("numpy", "torch"), "an array", entry)
        node.framework = entry["lib"]
        node.dtype = entry["dtype"]
        _expect(isinstance(entry["shape"], list) and len(entry["shape"]) <= 64, "a shape", entry["shape"])
        node.shape = tuple(self.size(extent) for extent in entry["shape"])
        node.order = tuple(entry.get("order", range(len(node.shape))))
        _expect(
            sorted(node.order) == list(range(len(node.shape))), "an order of the axes", entry.get("order")
        )
        node.extra = self.extra(entry.get("extra", {}))
        size = itemsize(node)
        # Also of an empty array: its other axes must be such that an array can have them.
        _expect(
            max(size, 1) * math.prod(n for n in node.shape if n) < _LIMIT,
            "a shape that fits memory",
            entry["shape"],
        )
        if "grad" in entry:
            grad = self.ref(entry["grad"])
            _expect(isinstance(grad, Array), "an array as gradient", entry["grad"])
            node.grad = grad
        if node.framework == "torch" and self.has_attributes:
            node.fields = self.named(entry.get("fields", {}))
        if "base" in entry:
            base = self.ref(entry["base"])
            _expect(isinstance(base, Array) and base is not node, "the base array of a view", entry["base"])
            node.base = base
            node.offset = self.size(entry["offset"])
            node.strides = tuple(entry["strides"])
            _expect(
                len(node.strides) == len(node.shape) and all(type(s) is int for s in node.strides),
                "a stride for each axis",
                entry["strides"],
            )
        else:
            blob = self.size(entry["blob"])
            _expect(blob not in self.used, "each array's bytes to be used once", blob)
            self.used.add(blob)
            source = self.sources[blob]
            nbytes = size * math.prod(node.shape)
            _expect(source.nbytes == nbytes, f"{nbytes} bytes for array {blob}", source.nbytes)
            node.data = source

    def extra(self, value: Any) -> dict[str, Any]:
        _expect(isinstance(value, dict), "a dict", value)
        _expect(value.keys() <= {"device", "parameter", "requires_grad"}, "what belongs to a tensor", value)
        _expect(all(value[key] is True for key in value if key != "device"), "true", value)
        if "device" in value:
            device = torch.device(self.text(value["device"]))
            _expect(device.type != "meta", "a device that has memory", value["device"])
        return dict(value)

    def check(self, node: Node) -> None:
        """What can be said about a node only once all are filled."""
        match node:
            case Array():
                if node.base is not None:
                    self.check_view(node, node.base)
                if (grad := node.grad) is not None:
                    alike = (grad.framework, grad.dtype, grad.shape) == ("torch", node.dtype, node.shape)
                    _expect(alike and node.framework == "torch", "a gradient like its tensor", grad.shape)
            case RepeatRun():
                kind = getattr(node.item, "type", None)
                empty = isinstance(node.item, SequenceNode | MappingNode) and not any(
                    True for _ in edges(node.item)
                )
                _expect(node.item is None or (empty and kind in ("dict", "list")), "an empty element", kind)
            case NumberRun():
                array = node.array
                _expect(
                    array.framework == "numpy" and len(array.shape) == 1 and array.base is None,
                    "numbers",
                    array.shape,
                )
                dtype = numpy_dtype(array.dtype)
                fitting = {"int": dtype == np.int64, "float": dtype == np.float64, "bool": dtype == np.bool_}
                _expect(
                    fitting.get(node.of, dtype.kind in "biufc"), f"numbers of type {node.of}", array.dtype
                )
            case SequenceNode() if node.type == "ndarray":
                shape: Any = node.extra.data if isinstance(node.extra, Value) else None
                _expect(isinstance(shape, list) and len(shape) <= 32, "the shape of an object array", shape)
                count = sum(_count(child) for child in node.items)
                _expect(math.prod(map(self.size, shape)) == count, f"a shape of {count} elements", shape)
            case SequenceNode() if node.type == OBJECT_VIEW:
                self.check_object_view(node)
            case SequenceNode() if node.type == "deque" and node.extra is not None:
                _expect(
                    sum(_count(child) for child in node.items) <= self.size(node.extra), "a deque", node.extra
                )

    def check_object_view(self, node: SequenceNode) -> None:
        extra: Any = node.extra.data if isinstance(node.extra, Value) else None
        _expect(isinstance(extra, list) and len(extra) == 3, "a shape, an offset and strides", extra)
        shape, offset, strides = extra
        _expect(isinstance(shape, list) and len(shape) <= 32, "the shape of an object array", shape)
        base: Any = node.items[0] if len(node.items) == 1 else None
        _expect(isinstance(base, SequenceNode) and base.type == "ndarray", "the base of a view", base)
        numbers = isinstance(strides, list) and all(type(stride) is int for stride in strides)
        _expect(numbers and len(strides) == len(shape), "a stride for each axis", strides)
        count = math.prod(map(self.size, shape))
        _expect(0 < count <= _MOST_REPEATED, "a view that is not empty and not huge", shape)
        reach = [stride * (n - 1) for stride, n in zip(strides, shape, strict=True)]
        low = self.size(offset) + sum(min(0, way) for way in reach)
        high = offset + sum(max(0, way) for way in reach)
        total = sum(_count(child) for child in base.items)
        _expect(low >= 0 and high < total, f"a view within {total} elements", f"{low} to {high}")

    def check_view(self, node: Array, base: Array) -> None:
        _expect(base.base is None, "a view of an array that has bytes of its own", "a view of a view")
        _expect(0 not in node.shape, "a view that is not empty", list(node.shape))
        size, total = itemsize(node), itemsize(base) * math.prod(base.shape)
        reach = [stride * (n - 1) for stride, n in zip(node.strides, node.shape, strict=True)]
        low = node.offset + sum(min(0, way) for way in reach)
        high = node.offset + size + sum(max(0, way) for way in reach)
        _expect(low >= 0 and high <= total, f"a view within {total} bytes", f"{low} to {high}")
        if node.framework == "torch":
            aligned = node.offset % size == 0 and all(s >= 0 and s % size == 0 for s in node.strides)
            _expect(aligned, "strides that a tensor can have", node.offset)

    def ref(self, value: Any, element: bool = False) -> Any:
        if isinstance(value, _PLAIN_JSON):
            return value
        if isinstance(value, float):
            _expect(math.isfinite(value), "a finite number", value)
            return value
        _expect(isinstance(value, list) and len(value) == 1 and type(value[0]) is int, "a reference", value)
        _expect(0 <= value[0] < len(self.nodes), f"a reference below {len(self.nodes)}", value[0])
        node = self.nodes[value[0]]
        _expect(element or not isinstance(node, RepeatRun | NumberRun), "a value", "a run of elements")
        if isinstance(node, Value):
            self.allowed -= max(self.lengths[value[0]] - _SHORT, 0)
            _expect(self.allowed >= 0, "no long value that very many others refer to", node.kind)
            return self.value(node, value[0])
        return node

    def value(self, node: Value, number: int) -> Any:
        """The plain value that a node stands for, if it stands for one."""
        if node.kind not in _PLAIN_READERS:
            return node
        if number not in self.plain:
            self.plain[number] = _PLAIN_READERS[node.kind](self.text(node.data))
        return self.plain[number]

    def text(self, value: Any) -> str:
        _expect(isinstance(value, str), "a name", value)
        return str(value)

    def size(self, value: Any) -> int:
        _expect(type(value) is int and 0 <= value < _LIMIT, "a size", value)
        return int(value)

    def named_raw(self, value: Any) -> dict[str, Any]:
        _expect(isinstance(value, dict), "an object of names", value)
        return dict(value)

    def named(self, value: Any) -> dict[str, Any]:
        return {name: self.ref(child) for name, child in self.named_raw(value).items()}
