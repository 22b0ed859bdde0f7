"""The `State` tree: the one type in which live objects and durable bytes meet.

`perdure.state` makes it from live objects and writes it back into them; `perdure.store` makes it durable. This module
knows neither. It defines the nodes, how paths are written, and the JSON document that stands for a tree.

None, bool, int, float and str are their own nodes. Everything else is a `Node`. What is shared in the world is the
same `Node` instance here, so identity and cycles need no notation of their own.

The document is a flat table of nodes that refer to each other by index. Sharing and cycles are indices too, and neither
writing nor reading recurses, however deep a world is nested (or a hostile file claims it is).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from perdure.errors import FormatError

Plain: TypeAlias = None | bool | int | float | str
PLAIN_TYPES = frozenset({type(None), bool, int, float, str})


class Source(Protocol):
    """Where the bytes of an array lie until they are wanted."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        ...

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable, exactly `nbytes` long), verifying what is read."""
        ...


class Node:
    """Anything in a tree that is not a plain value."""

    __slots__ = ()


class Value(Node):
    """An immutable value that JSON has no notation for: `kind` says which, `data` is JSON-able."""

    __slots__ = ("data", "kind")

    def __init__(self, kind: str, data: Any) -> None:
        self.kind = kind
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and (self.kind, self.data) == (other.kind, other.data)

    def __hash__(self) -> int:
        return hash((self.kind, repr(self.data)))


class Array(Node):
    """A NumPy array or a torch tensor.

    :param library: "numpy" or "torch".
    :param dtype: the library's own notation ("<f4", "float32"; a structured NumPy dtype as a list of fields).
    :param shape: in elements.
    :param order: the axes from the slowest to the fastest in memory; the bytes are in memory order.
    :param data: the live array (taken by reference), or the source its bytes are read from, or None where `base` is
        given: then this array is a window onto the bytes of another.
    :param extra: what else belongs to it: `device`, `requires_grad`, `parameter` for torch.
    """

    __slots__ = (
        "base",
        "data",
        "dtype",
        "extra",
        "grad",
        "library",
        "name",
        "offset",
        "order",
        "shape",
        "strides",
    )

    def __init__(
        self,
        library: str,
        dtype: Any,
        shape: tuple[int, ...],
        order: tuple[int, ...],
        data: np.ndarray[Any, Any] | torch.Tensor | Source | None,
        extra: dict[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.library = library
        self.dtype = dtype
        self.shape = shape
        self.order = order
        self.data = data
        self.extra = extra or {}
        self.name = name
        self.grad: Array | None = None
        self.base: Array | None = None
        self.offset = 0
        self.strides: tuple[int, ...] = ()


class Items(Node):
    """A list, tuple, set, frozenset, deque, named tuple, object array, or a subclass of one (`type` says which)."""

    __slots__ = ("extra", "fields", "items", "type")

    def __init__(self, type_: str, items: list[Any], extra: Any = None) -> None:
        self.type = type_
        self.items = items
        self.extra = extra
        self.fields: dict[str, Any] | None = None


class Repeat(Node):
    """Inside `Items.items`: `count` separate but equal elements."""

    __slots__ = ("count", "item")

    def __init__(self, item: Any, count: int) -> None:
        self.item = item
        self.count = count


class Packed(Node):
    """Inside `Items.items`: a run of plain numbers of one type ("int", "float" or "bool"), kept as one array."""

    __slots__ = ("array", "of")

    def __init__(self, of: str, array: Array) -> None:
        self.of = of
        self.array = array


class Mapping(Node):
    """A dict, OrderedDict, defaultdict or a subclass of one, with keys of any kind, in order."""

    __slots__ = ("extra", "fields", "pairs", "type")

    def __init__(self, type_: str, pairs: list[tuple[Any, Any]], extra: Any = None) -> None:
        self.type = type_
        self.pairs = pairs
        self.extra = extra
        self.fields: dict[str, Any] | None = None


class Object(Node):
    """An instance of a Python class: its attributes by name."""

    __slots__ = ("fields", "type")

    def __init__(self, type_: str, fields: dict[str, Any]) -> None:
        self.type = type_
        self.fields = fields


class Handled(Node):
    """What a registered handler returned for an object of class `type`."""

    __slots__ = ("payload", "type")

    def __init__(self, type_: str, payload: Any) -> None:
        self.type = type_
        self.payload = payload


class Skipped(Node):
    """Left out on purpose."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class State:
    """A captured world.

    :param root: an `Object` whose fields are the parts, by name.
    """

    __slots__ = ("root",)

    def __init__(self, root: Object) -> None:
        self.root = root

    def leaves(self) -> Iterator[tuple[str, Any]]:
        """Every leaf with its path: plain values, `Value`, `Array`, `Packed`, `Skipped`, and empty containers.

        A node that several paths lead to is listed once, under the first.
        """
        seen: set[int] = set()
        stack: list[tuple[str, Any]] = [("", self.root)]
        while stack:
            path, node = stack.pop()
            if not isinstance(node, Node):
                yield path, node
                continue
            if id(node) in seen:
                continue
            seen.add(id(node))
            below = list(children(node, path))
            if not below or isinstance(node, Array):
                yield path, node
            stack.extend(reversed(below))

    def __len__(self) -> int:
        return sum(1 for _ in self.leaves())


def field_path(path: str, name: str) -> str:
    """The path of attribute `name` of the object at `path`."""
    return f"{path}.{name}" if path else name


def key_path(path: str, key: Any) -> str:
    """The path of the element of the container at `path` that a key node or an index stands for."""
    if isinstance(key, Value):
        key = key.data
    elif isinstance(key, Node):
        key = type(key).__name__
    return f"{path}[{key!r}]"


def children(node: Node, path: str) -> Iterator[tuple[str, Any]]:
    """The nodes directly below `node`, each with its path."""
    match node:
        case Object():
            for name, child in node.fields.items():
                yield field_path(path, name), child
        case Items():
            index = 0
            for child in node.items:
                if isinstance(child, Repeat | Packed):
                    count = child.count if isinstance(child, Repeat) else math.prod(child.array.shape)
                    yield f"{path}[{index}:{index + count}]", child
                    index += count
                else:
                    yield key_path(path, index), child
                    index += 1
        case Mapping():
            for position, (key, child) in enumerate(node.pairs):
                if isinstance(key, Node) and not isinstance(key, Value):
                    yield f"{path}.key({position})", key
                yield (
                    key_path(path, position if isinstance(key, Node) and not isinstance(key, Value) else key),
                    child,
                )
        case Repeat():
            yield path, node.item
        case Handled():
            yield path, node.payload
        case Array() if node.grad is not None:
            yield field_path(path, "grad"), node.grad
    if isinstance(node, Items | Mapping) and node.fields:
        for name, child in node.fields.items():
            yield field_path(path, name), child


# -- bytes of an array ------------------------------------------------------------------------------------------------

TORCH_DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}
_SAFETENSORS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def numpy_dtype(notation: Any) -> np.dtype[Any]:
    """The NumPy dtype that a document's notation stands for.

    :raises FormatError: if it stands for none, or for one that holds Python objects.
    """
    try:
        dtype = (
            np.dtype(notation)
            if isinstance(notation, str)
            else np.lib.format.descr_to_dtype(_fields(notation))
        )
    except (TypeError, ValueError, SyntaxError, RecursionError) as error:
        raise FormatError(
            f"expected the notation of a NumPy dtype, found {notation!r:.200}: {error}"
        ) from None
    if dtype.hasobject:
        raise FormatError(
            f"the dtype {notation!r:.200} holds Python objects; such arrays are never stored as bytes"
        )
    return dtype


def _fields(notation: Any) -> Any:
    # JSON has no tuples, and NumPy's notation of structured dtypes needs them.
    if not isinstance(notation, list):
        return notation
    return [
        tuple(tuple(x) if isinstance(x, list) and i == 2 else _fields(x) for i, x in enumerate(f))
        for f in notation
    ]


def itemsize(array: Array) -> int:
    """Bytes per element.

    :raises FormatError: if the dtype is unknown.
    """
    if array.library == "torch":
        dtype = TORCH_DTYPES.get(array.dtype) if isinstance(array.dtype, str) else None
        if dtype is None:
            raise FormatError(f"expected the name of a torch dtype, found {array.dtype!r:.200}")
        return dtype.itemsize
    return numpy_dtype(array.dtype).itemsize


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory."""
    # The plain cases first: this runs for every array of every checkpoint.
    if len(shape) < 2:
        return tuple(range(len(shape)))
    return tuple(sorted(range(len(shape)), key=lambda axis: (-abs(strides[axis]), axis)))


def flat_bytes(data: np.ndarray[Any, Any] | torch.Tensor, order: tuple[int, ...]) -> memoryview:
    """The bytes of a live array in memory order; without a copy where they lie together in main memory."""
    if isinstance(data, torch.Tensor):
        tensor = data.detach().resolve_conj().resolve_neg().permute(order).cpu().contiguous()
        return memoryview(tensor.reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else memoryview(b"")
    array = np.ascontiguousarray(data.transpose(order))
    return memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else memoryview(b"")


class Blob:
    """One array as the store sees it: a name, a type and a run of bytes."""

    __slots__ = ("_array", "dtype", "name", "nbytes", "shape")

    def __init__(self, array: Array) -> None:
        self._array = array
        name = array.dtype if array.library == "torch" else ""
        if array.library == "numpy" and isinstance(array.dtype, str) and array.dtype[0] in "<|":
            name = np.dtype(array.dtype).name
        self.name = array.name
        self.dtype = _SAFETENSORS.get(name, "U8")
        #: In memory order, so that a tool that reads the pack sees the axes as they lie.
        self.shape = tuple(array.shape[axis] for axis in array.order)
        self.nbytes = itemsize(array) * math.prod(array.shape)
        if name not in _SAFETENSORS:
            self.shape = (self.nbytes,)

    def buffer(self) -> memoryview:
        """All bytes, flat, in memory order."""
        data = self._array.data
        if isinstance(data, np.ndarray | torch.Tensor):
            return flat_bytes(data, self._array.order)
        assert data is not None, "a window onto another array has no bytes of its own"
        content = memoryview(bytearray(data.nbytes))
        data.read_into(content)
        return content


# -- the document -----------------------------------------------------------------------------------------------------

_LIMIT = 1 << 62
_PLAIN_JSON = (str, bool, int, type(None))


def encode(state: State) -> tuple[dict[str, Any], list[Blob]]:
    """The JSON-able document that stands for `state`, and its arrays in the order in which the document counts them."""
    index: dict[int, int] = {}
    queue: list[Node] = []
    blobs: list[Blob] = []

    def ref(node: Any) -> Any:
        kind = type(node)
        if kind is str or kind is bool or node is None:
            return node
        if kind is int:
            if -_LIMIT < node < _LIMIT:
                return node
            node = Value("int", hex(node))
        elif kind is float:
            if math.isfinite(node):
                return node
            node = Value("float", node.hex())
        number = index.get(id(node))
        if number is None:
            number = index[id(node)] = len(queue)
            queue.append(node)  # keeps the node alive, and with it the id
        return [number]

    root = ref(state.root)
    table: list[Any] = []
    for node in queue:  # grows while it is walked
        match node:
            case Object():
                table.append(["o", node.type, {name: ref(child) for name, child in node.fields.items()}])
            case Array():
                entry: dict[str, Any] = {"lib": node.library, "dtype": node.dtype, "shape": list(node.shape)}
                if node.order != tuple(range(len(node.shape))):
                    entry["order"] = list(node.order)
                if node.extra:
                    entry["extra"] = node.extra
                if node.grad is not None:
                    entry["grad"] = ref(node.grad)
                if node.base is not None:
                    entry |= {"base": ref(node.base), "offset": node.offset, "strides": list(node.strides)}
                else:
                    entry["blob"] = len(blobs)
                    blobs.append(Blob(node))
                table.append(["a", entry])
            case Mapping():
                extra = [ref(node.extra)] if node.extra is not None or node.fields else []
                if node.fields:
                    extra.append({name: ref(child) for name, child in node.fields.items()})
                if all(type(key) is str for key, _ in node.pairs):
                    table.append(["d", node.type, {key: ref(child) for key, child in node.pairs}, *extra])
                else:
                    table.append(
                        ["m", node.type, [[ref(key), ref(child)] for key, child in node.pairs], *extra]
                    )
            case Items():
                extra = [ref(node.extra)] if node.extra is not None or node.fields else []
                if node.fields:
                    extra.append({name: ref(child) for name, child in node.fields.items()})
                table.append(["i", node.type, [ref(child) for child in node.items], *extra])
            case Value():
                table.append(["v", node.kind, node.data])
            case Skipped():
                table.append(["x", node.reason])
            case Handled():
                table.append(["h", node.type, ref(node.payload)])
            case Repeat():
                table.append(["r", ref(node.item), node.count])
            case Packed():
                table.append(["p", node.of, ref(node.array)])
            case _:
                raise TypeError(f"no notation for a node of type {type(node).__name__}")
    return {"root": root, "nodes": table}, blobs


def decode(document: Any, sources: Sequence[Source]) -> State:
    """The tree that `document` stands for; its arrays read from `sources` when they are wanted.

    :raises FormatError: if the document is not one that `encode` could have made.
    """
    try:
        return _Decoder(document, sources).state()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(
            f"the state's document is malformed: {type(error).__name__}: {error!s:.300}"
        ) from error


def _expect(condition: bool, what: str, found: Any) -> None:
    if not condition:
        raise FormatError(f"the state's document is malformed: expected {what}, found {found!r:.200}")


class _Decoder:
    def __init__(self, document: Any, sources: Sequence[Source]) -> None:
        _expect(isinstance(document, dict), "an object with `root` and `nodes`", document)
        self.table = document["nodes"]
        _expect(isinstance(self.table, list), "a list of nodes", self.table)
        self.root = document["root"]
        self.sources = sources
        self.used: set[int] = set()

    def state(self) -> State:
        self.nodes = [self.shell(entry) for entry in self.table]
        for node, entry in zip(self.nodes, self.table, strict=True):
            self.fill(node, entry)
        for node in self.nodes:
            if isinstance(node, Array) and node.base is not None:
                self.check_window(node)
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
                return Mapping(self.text(entry[1]), [])
            case "i":
                return Items(self.text(entry[1]), [])
            case "v":
                return self.value(self.text(entry[1]), entry[2])
            case "x":
                return Skipped(self.text(entry[1]))
            case "h":
                return Handled(self.text(entry[1]), None)
            case "r":
                return Repeat(None, 0)
            case "p":
                return Packed(self.text(entry[1]), Array("", "", (), (), None))
        raise FormatError(f"the state's document has a node of unknown kind {entry[0]!r:.80}")

    def fill(self, node: Node, entry: list[Any]) -> None:
        match node:
            case Object():
                node.fields = self.named(entry[2])
            case Array():
                self.fill_array(node, entry[1])
            case Mapping():
                if entry[0] == "d":
                    node.pairs = [(key, self.ref(child)) for key, child in self.named_raw(entry[2]).items()]
                else:
                    _expect(isinstance(entry[2], list), "pairs of keys and values", entry[2])
                    node.pairs = [(self.ref(key), self.ref(child)) for key, child in entry[2]]
                self.fill_extra(node, entry)
            case Items():
                _expect(isinstance(entry[2], list), "a list of elements", entry[2])
                node.items = [self.ref(child, element=True) for child in entry[2]]
                self.fill_extra(node, entry)
            case Handled():
                node.payload = self.ref(entry[2])
            case Repeat():
                node.item = self.ref(entry[1])
                node.count = self.size(entry[2])
                # An element is small; this many of them fill no memory that a real world would not fill.
                _expect(node.count <= 1 << 32, "fewer than 2^32 repetitions", node.count)
            case Packed():
                _expect(node.of in ("int", "float", "bool"), "int, float or bool", node.of)
                array = self.ref(entry[2])
                _expect(isinstance(array, Array), "an array", entry[2])
                node.array = array

    def fill_extra(self, node: Items | Mapping, entry: list[Any]) -> None:
        if len(entry) > 3:
            node.extra = self.ref(entry[3])
        if len(entry) > 4:
            node.fields = self.named(entry[4])

    def fill_array(self, node: Array, entry: Any) -> None:
        _expect(isinstance(entry, dict) and entry.get("lib") in ("numpy", "torch"), "an array", entry)
        node.library = entry["lib"]
        node.dtype = entry["dtype"]
        _expect(isinstance(entry["shape"], list) and len(entry["shape"]) <= 64, "a shape", entry["shape"])
        node.shape = tuple(self.size(extent) for extent in entry["shape"])
        node.order = tuple(entry.get("order", range(len(node.shape))))
        _expect(
            sorted(node.order) == list(range(len(node.shape))), "an order of the axes", entry.get("order")
        )
        node.extra = entry.get("extra", {})
        _expect(isinstance(node.extra, dict), "a dict", node.extra)
        if "grad" in entry:
            grad = self.ref(entry["grad"])
            _expect(isinstance(grad, Array), "an array as gradient", entry["grad"])
            node.grad = grad
        nbytes = itemsize(node) * math.prod(node.shape)
        if "base" in entry:
            base = self.ref(entry["base"])
            _expect(isinstance(base, Array) and base is not node, "an array to look onto", entry["base"])
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
            _expect(source.nbytes == nbytes, f"{nbytes} bytes for array {blob}", source.nbytes)
            node.data = source

    def check_window(self, node: Array) -> None:
        base = node.base
        assert base is not None
        _expect(
            base.base is None, "a window onto an array that has bytes of its own", "a window onto a window"
        )
        size, total = itemsize(node), itemsize(base) * math.prod(base.shape)
        low = node.offset + sum(
            min(0, s * (n - 1)) for s, n in zip(node.strides, node.shape, strict=True) if n
        )
        high = (
            node.offset
            + size
            + sum(max(0, s * (n - 1)) for s, n in zip(node.strides, node.shape, strict=True) if n)
        )
        _expect(low >= 0 and high <= total, f"a window within {total} bytes", (low, high))

    def value(self, kind: str, data: Any) -> Node:
        return Value(kind, data)

    def ref(self, value: Any, element: bool = False) -> Any:
        if isinstance(value, _PLAIN_JSON):
            return value
        if isinstance(value, float):
            _expect(math.isfinite(value), "a finite number", value)
            return value
        _expect(isinstance(value, list) and len(value) == 1 and type(value[0]) is int, "a reference", value)
        _expect(0 <= value[0] < len(self.nodes), f"a reference below {len(self.nodes)}", value[0])
        node = self.nodes[value[0]]
        _expect(element or not isinstance(node, Repeat | Packed), "a value", "a run of elements")
        if isinstance(node, Value) and node.kind in ("int", "float"):
            _expect(
                isinstance(node.data, str) and len(node.data) < 1 << 20, "a number in hexadecimal", node.data
            )
            return int(node.data, 16) if node.kind == "int" else float.fromhex(node.data)
        return node

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
