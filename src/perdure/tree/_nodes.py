"""What a `State` tree consists of, how it is walked, and how paths are written. Knows no objects but arrays, and no
files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

Plain: TypeAlias = bool | int | float | str | None
PLAIN_TYPES = frozenset({type(None), bool, int, float, str})


class Source(Protocol):
    """Reads the bytes of an array when they are needed.

    A source that several threads can read at once also has a method `parts(buffer)`. It returns independent calls that
    together fill the buffer, each with the number of bytes it reads.
    """

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        ...

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable, exactly `nbytes` long), and verify what is read."""
        ...


class Staged:
    """A copy of an array's bytes at one moment, which can be written while the training changes the array.

    :param nbytes: of the array.
    :param pieces: the stretches that were copied: where each begins, and its bytes (flat). Sorted, without overlaps
        and without empty ones.
    :param base: holds the bytes that were not copied; None if everything was.
    :param long_lived: whether the copied bytes will probably be needed for as long as rows of a replay buffer are.
    :param whole: instead of `pieces`, a memory in which all bytes lie together, and where they begin in it.
    """

    __slots__ = ("_pieces", "_whole", "base", "long_lived", "nbytes")

    def __init__(
        self,
        nbytes: int,
        pieces: Sequence[tuple[int, memoryview]] = (),
        base: Source | None = None,
        *,
        long_lived: bool = False,
        whole: tuple[memoryview, int] | None = None,
    ) -> None:
        self.nbytes = nbytes
        self._pieces = pieces
        self._whole = whole
        self.base = base
        self.long_lived = long_lived

    @property
    def pieces(self) -> Sequence[tuple[int, memoryview]]:
        """Where each stretch begins, and its bytes."""
        if self._whole is None or not self.nbytes:
            return self._pieces
        # Sliced here and not earlier, because here it is the writing thread that spends the time.
        memory, at = self._whole
        return ((0, memory[at : at + self.nbytes]),)

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`; see :class:`Source`."""
        if self.base is not None:
            self.base.read_into(buffer)
        for start, piece in self.pieces:
            buffer[start : start + piece.nbytes] = piece


LiveArray: TypeAlias = "np.ndarray[Any, Any] | torch.Tensor"
#: What gives the bytes of an array: the array itself while it is live, or a source, such as a staged copy.
Content: TypeAlias = "LiveArray | Source"


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

    :param framework: "numpy" or "torch".
    :param dtype: the library's own notation ("<f4", "float32"; a structured NumPy dtype as a list of fields).
    :param shape: in elements.
    :param order: its physical layout: the axes from the slowest to the fastest in memory. The bytes are stored in this
        order.
    :param data: the live array (by reference), or the source that its bytes are read from. None if `base` is given:
        then this array is a view of the bytes of another one.
    :param extra: what else torch knows of a tensor: `device`, `requires_grad`, `parameter`.
    :param name: its path, for messages; or the steps of it, because it is seldom needed as text.
    :param memory: what `span` and `flat` are to be, where that is known already.

    Of live data, `span` is its address and how many bytes it has, which stay the same when a view of it is made anew.
    `flat` is whether its bytes lie in memory as they are stored, row after row. `fields` are the attributes that a
    program has set on a tensor, by name; None if they are not known, as of checkpoints of the first kind.
    """

    __slots__ = (
        "_data",
        "_name",
        "base",
        "dtype",
        "extra",
        "fields",
        "flat",
        "framework",
        "grad",
        "offset",
        "order",
        "rows",
        "shape",
        "span",
        "strides",
    )

    def __init__(
        self,
        framework: str,
        dtype: Any,
        shape: tuple[int, ...],
        order: tuple[int, ...],
        data: Content | None,
        extra: dict[str, Any] | None = None,
        name: str | Path = "",
        memory: tuple[tuple[int, int], bool] | None = None,
    ) -> None:
        self.framework = framework
        self.dtype = dtype
        self.shape = shape
        self.order = order
        self._data = data
        self.extra = extra or {}
        self._name = name
        self.span, self.flat = self._find_memory() if memory is None else memory
        #: How the rows of a live array are written, where that is known (`perdure.state.buffers.Rows`). A tree only
        #: carries it.
        self.rows: object | None = None
        self.grad: Array | None = None
        self.fields: dict[str, Any] | None = None
        self.base: Array | None = None
        self.offset = 0
        self.strides: tuple[int, ...] = ()

    @property
    def data(self) -> Content | None:
        """The live array, or what its bytes are read from."""
        return self._data

    @data.setter
    def data(self, data: Content | None) -> None:
        self._data = data
        self.span, self.flat = self._find_memory()

    def _find_memory(self) -> tuple[tuple[int, int], bool]:
        data = self._data
        plain = self.order == tuple(range(len(self.shape)))
        if isinstance(data, torch.Tensor):
            return (data.data_ptr(), data.nbytes), plain and data.is_contiguous()
        if isinstance(data, np.ndarray):
            address = int(data.__array_interface__["data"][0])
            return (address, data.nbytes), plain and data.flags.c_contiguous
        return (0, 0 if data is None else data.nbytes), False

    @property
    def name(self) -> str:
        """Its path, for messages."""
        if not isinstance(self._name, str):
            self._name = write_path(self._name)
        return self._name

    @name.setter
    def name(self, name: str | Path) -> None:
        self._name = name


class SequenceNode(Node):
    """A list, tuple, set, frozenset, deque, named tuple, object array, or a subclass of one (`type` says
    which)."""

    __slots__ = ("extra", "fields", "items", "type")

    def __init__(self, type_: str, items: list[Any], extra: Any = None) -> None:
        self.type = type_
        self.items = items
        self.extra = extra
        self.fields: dict[str, Any] | None = None


#: The type of a `SequenceNode` for an array of objects that is a view of another one: its only item. `extra` has its
#: shape, and its offset and its strides in elements.
OBJECT_VIEW = "ndarray view"


class RepeatRun(Node):
    """Inside `SequenceNode.items`: `count` separate but equal elements, None or empty dicts or lists."""

    __slots__ = ("count", "item")

    def __init__(self, item: Any, count: int) -> None:
        self.item = item
        self.count = count


class NumberRun(Node):
    """Inside `SequenceNode.items`: a run of numbers of one type ("int", "float", "bool", or "numpy" scalars), kept
    as one array."""

    __slots__ = ("array", "of")

    def __init__(self, of: str, array: Array) -> None:
        self.of = of
        self.array = array


class MappingNode(Node):
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


class Custom(Node):
    """What a registered handler returned for an object of class `type`."""

    __slots__ = ("payload", "type")

    def __init__(self, type_: str, payload: Any) -> None:
        self.type = type_
        self.payload = payload


class Omitted(Node):
    """Left out on purpose."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class State:
    """A captured world.

    :param root: an `Object` whose fields are the parts, by name.
    :param arrays: all its arrays that have bytes of their own, each once, in any order. Whoever knows them gives them;
        otherwise they are looked for when they are needed.
    """

    __slots__ = ("_arrays", "root")

    def __init__(self, root: Object, arrays: Sequence[Array] | None = None) -> None:
        self.root = root
        self._arrays = arrays

    @property
    def arrays(self) -> Sequence[Array]:
        """All arrays that have bytes of their own, each once: all but views."""
        if self._arrays is None:
            found = (node for _, node in walk(self.root))
            self._arrays = [node for node in found if isinstance(node, Array) and node.base is None]
        return self._arrays

    def leaves(self) -> Iterator[tuple[str, Any]]:
        """Every leaf with its path: plain values, `Value`, `Array`, `NumberRun`, `RepeatRun`, `Omitted`, empty
        containers.

        A node that several paths lead to is listed once, under the first.
        """
        for path, node in walk(self.root, below=children):
            if not isinstance(node, Node) or isinstance(node, _LEAVES) or next(edges(node), None) is None:
                yield path, node

    def __len__(self) -> int:
        return sum(1 for _ in self.leaves())


_LONGEST_PATH = 2_000
_MOST_STEPS = 40

#: A place inside a node: an attribute's name, an element's position, a key's position, or what the kind of
#: node has.
Slot: TypeAlias = "str | int | tuple[str, int]"
#: The slots of an array's base and gradient. They are no names, because a tensor may have an attribute `base`.
BASE: tuple[str, int] = ("base", 0)
GRAD: tuple[str, int] = ("grad", 0)
#: The path of a node while it is walked: the parent's path, and the step from there (see `step_path`). Written
#: out only where it is needed.
Path: TypeAlias = "tuple[Path, str, Any] | None"


def field_path(path: str, name: str) -> str:
    """The path of attribute `name` of the object at `path`."""
    return f"{_bounded(path)}.{name}" if path else name


def key_path(path: str, key: Any) -> str:
    """The path of the element of the container at `path` that a key node or an index stands for."""
    if isinstance(key, Value):
        key = key.data
    elif isinstance(key, Node):
        key = type(key).__name__
    return f"{_bounded(path)}[{shown(key)}]"


def step_path(path: str, kind: str, name: Any) -> str:
    """The path one step below `path`, as `edges` describes the step."""
    match kind:
        case ".":
            return field_path(path, name)
        case "[":
            return key_path(path, name)
        case ":":
            return f"{_bounded(path)}[{name[0]}:{name[1]}]"
        case "key":
            return f"{_bounded(path)}.key({name})"
    return path


def write_path(path: Path) -> str:
    """The path as text; of a very long one only its end."""
    steps: list[tuple[str, Any]] = []
    while path is not None and len(steps) < _MOST_STEPS:
        path, kind, name = path
        steps.append((kind, name))
    text = "" if path is None else "\N{HORIZONTAL ELLIPSIS}"
    for kind, name in reversed(steps):
        text = step_path(text, kind, name)
    return text


def shown(value: Any) -> str:
    """A plain value for people; Python refuses to write very long integers as decimals."""
    return hex(value) if type(value) is int and value.bit_length() > 4_000 else repr(value)


def _bounded(path: str) -> str:
    # A chain of a million objects must not have paths of a million names.
    return (
        path
        if len(path) <= _LONGEST_PATH
        else f"{path[:200]}\N{HORIZONTAL ELLIPSIS}{path[300 - _LONGEST_PATH :]}"
    )


def edges(node: Node) -> Iterator[tuple[Slot, Any, str, Any]]:
    """What lies directly below `node`: the place in it, the node or plain value there, and the step in a
    path."""
    match node:
        case Object():
            for name, child in node.fields.items():
                yield name, child, ".", name
        case SequenceNode():
            index = 0
            for position, child in enumerate(node.items):
                if isinstance(child, RepeatRun | NumberRun):
                    count = child.count if isinstance(child, RepeatRun) else math.prod(child.array.shape)
                    yield position, child, ":", (index, index + count)
                    index += count
                else:
                    yield position, child, "[", index
                    index += 1
        case MappingNode():
            for position, (key, child) in enumerate(node.pairs):
                plain = not isinstance(key, Node) or isinstance(key, Value)
                if isinstance(key, Node):
                    yield ("key", position), key, "key", position
                yield position, child, "[", key if plain else position
        case RepeatRun():
            yield "item", node.item, "", None
        case NumberRun():
            yield "array", node.array, "", None
        case Custom():
            yield "payload", node.payload, "", None
        case Array():
            if node.base is not None:
                yield BASE, node.base, "base", None
            if node.grad is not None:
                yield GRAD, node.grad, ".", "grad"
    if isinstance(node, Array | SequenceNode | MappingNode) and node.fields:
        for name, child in node.fields.items():
            yield name, child, ".", name


def children(node: Node, path: str) -> Iterator[tuple[str, Any]]:
    """What a person sees directly below `node`, each child with its path: no keys that are plain values, nothing inside
    a run of elements, and not the base of a view."""
    if isinstance(node, NumberRun | RepeatRun):
        return
    for _, child, kind, name in edges(node):
        if kind != "base" and not (kind == "key" and isinstance(child, Value)):
            yield step_path(path, kind, name), child


def all_children(node: Node, path: str) -> Iterator[tuple[str, Any]]:
    """Everything directly below `node`, each child with its path."""
    for _, child, kind, name in edges(node):
        yield step_path(path, kind, name), child


#: Nodes that are leaves, whatever lies below them.
_LEAVES = (Array, NumberRun, Omitted, RepeatRun, Value)


def walk(
    root: Any, path: str = "", below: Callable[[Node, str], Iterable[tuple[str, Any]]] = all_children
) -> Iterator[tuple[str, Any]]:
    """Every node and plain value from `root` on, with its path; a parent comes before its children.

    Each node comes once, under the first path that leads to it. `Value` and `Omitted` have no identity, so they come
    as often as plain values do: wherever they stand. It does not recurse.

    :param path: the path of `root`.
    :param below: what to go on with below a node at a path; by default everything. `children` is what a person sees,
        and a function that returns nothing for some nodes stops there.
    """
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [(path, root)]
    while stack:
        at, node = stack.pop()
        if isinstance(node, Node) and not isinstance(node, Value | Omitted):
            if id(node) in seen:
                continue
            seen.add(id(node))
            stack.extend(reversed(list(below(node, at))))
        yield at, node
