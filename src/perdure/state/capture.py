"""From live objects to a `State`: one walk through attributes and containers. It only reads, and it knows no files."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch

from perdure import tree
from perdure.errors import CaptureError
from perdure.state import rng
from perdure.state.patterns import matches
from perdure.state.registry import (
    WALL_CLOCK,
    WALL_CLOCK_ATTRIBUTES,
    Adapter,
    Handler,
    Refuse,
    Skip,
    known,
    on_change,
    slot_names,
    type_name,
)
from perdure.tree import Array, Handled, Items, Node, Object, Packed, Repeat, Skipped, State, Value

#: The path of a node while it is walked: the parent's path, and what was added. Written out only where it is needed.
Path: TypeAlias = "tuple[Path, str, Any] | None"

_PACK_FROM = 16
#: Python frames; a few for each level of nesting. Not more, because native code that a world's objects bring along (a
#: descriptor, a handler) takes C stack for each of its own.
_DEPTH = 10_000


def write_path(path: Path) -> str:
    """The path as text."""
    parts: list[tuple[str, Any]] = []
    while path is not None:
        parent, kind, name = path
        parts.append((kind, name))
        path = parent
    text = ""
    for kind, name in reversed(parts):
        text = tree.field_path(text, name) if kind == "." else tree.key_path(text, name)
    return text


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Let a walk go as deep as a world may be nested; pure Python calls need no C stack."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def capture(world: Any, *, skip: Sequence[str] = ()) -> State:
    """The state of everything that can be reached from a world's parts, and of the process's random generators.

    Arrays and tensors are taken by reference: the state is that of this moment only until training goes on. Nothing that
    is captured is changed, and no random stream is shifted, whatever a handler draws.

    :param world: a :class:`perdure.World`, a mapping of names to objects, or a single object (whose part is `world`).
    :param skip: paths to leave out, with `*` and `?` as wildcards ("envs.*.viewer").
    :raises CaptureError: if something can neither be captured nor be left out; it lists every such path.
    """
    generators = rng.get_state()
    try:
        walker = Walker(skip)
        root = walker.parts({**parts_of(world), rng.PART: rng.Process(generators)})
        walker.finish()
    finally:
        rng.set_state(generators)
    return State(root)


def parts_of(world: Any) -> dict[str, Any]:
    """The parts of a world, of a mapping, or of a single object."""
    parts = getattr(world, "parts", None)
    if callable(parts) and isinstance(found := parts(), dict):
        return found
    if isinstance(world, Mapping):
        return dict(world)
    return {"world": world}


class Walker:
    """One walk. Also what is learnt on the way about the live side: its classes."""

    def __init__(self, skip: Sequence[str] = ()) -> None:
        self.skip = tuple(skip)
        self.memo: dict[int, Node] = {}
        self.alive: list[Any] = []
        self.refused: list[tuple[str, str]] = []
        self.arrays: list[Array] = []
        self.classes: dict[str, type] = {}

    def parts(self, parts: Mapping[str, Any]) -> Object:
        root = Object("perdure:World", {})
        with deep_recursion():
            for name, part in parts.items():
                root.fields[name] = self.node(part, (None, ".", name))
        return root

    def finish(self) -> None:
        """Name the arrays that are windows onto others, and raise what was refused."""
        if self.refused:
            listed = "\n".join(f"  {path}: {reason}" for path, reason in self.refused[:20])
            more = f"\n  and {len(self.refused) - 20} more" if len(self.refused) > 20 else ""
            raise CaptureError(f"{len(self.refused)} part(s) of the world cannot be captured:\n{listed}{more}")
        find_windows(self.arrays)

    def node(self, value: Any, path: Path) -> Any:
        cls = type(value)
        if cls in tree.PLAIN_TYPES:
            return value
        found = self.memo.get(id(value))
        if found is not None:
            return found
        if self.skip and matches(write_path(path), self.skip):
            return Skipped("left out by the user")
        take = _TAKERS.get(cls)
        if take is None:
            take = _TAKERS[cls] = _taker(cls)
        return take(self, value, path)

    def remember(self, value: Any, node: Node) -> None:
        # The object is kept alive with its node: an id is only good as long as its object lives.
        self.memo[id(value)] = node
        self.alive.append(value)

    # -- one method for each kind of thing ----------------------------------------------------------------------------

    def object(self, value: Any, path: Path) -> Node:
        cls = type(value)
        fields: dict[str, Any] = {}
        node = Object(self.class_name(cls), fields)
        self.remember(value, node)
        self.attributes(value, path, fields)
        return node

    def attributes(self, value: Any, path: Path, fields: dict[str, Any]) -> None:
        cls = type(value)
        left_out = known(cls).left_out
        for name, child in attributes_of(value).items():
            if name in left_out:
                fields[name] = Skipped(left_out[name])
            elif name in WALL_CLOCK_ATTRIBUTES and isinstance(child, float | int | np.ndarray):
                fields[name] = Skipped(WALL_CLOCK)
            else:
                fields[name] = self.node(child, (path, ".", name))

    def adapted(self, value: Any, path: Path, adapter: Adapter) -> Node:
        cls = type(value)
        fields: dict[str, Any] = {}
        node = Object(self.class_name(cls), fields)
        self.remember(value, node)
        left_out = known(cls).left_out
        given = adapter.fields(value)
        self.alive.append(given)  # it may hold containers made for this walk only
        for name, child in given.items():
            fields[name] = (
                Skipped(left_out[name]) if name in left_out else self.node(child, (path, ".", name))
            )
        return node

    def handled(self, value: Any, path: Path, handler: Handler) -> Node:
        node = Handled(self.class_name(type(value)), None)
        self.remember(value, node)
        try:
            payload = handler.capture(value)
        except Exception as error:
            raise CaptureError(
                f"{write_path(path)}: the handler registered for {node.type} failed to capture it: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.alive.append(payload)
        node.payload = self.node(payload, path)
        return node

    def refuse(self, value: Any, path: Path, reason: str) -> Node:
        self.refused.append((write_path(path), f"{type(value).__name__}: {reason}"))
        return Skipped(reason)

    def mapping(self, value: dict[Any, Any], path: Path) -> Node:
        cls = type(value)
        node = tree.Mapping(_BUILTIN.get(cls) or self.class_name(cls), [])
        self.remember(value, node)
        pairs = node.pairs
        for position, (key, child) in enumerate(value.items()):
            if type(key) is str:
                pairs.append((key, self.node(child, (path, "[", key))))
            else:
                key_node = self.node(key, (path, "[", position))
                shown = position if isinstance(key_node, Node) and not isinstance(key_node, Value) else key_node
                pairs.append((key_node, self.node(child, (path, "[", shown))))
        if isinstance(value, collections.defaultdict):
            factory = value.default_factory
            node.extra = _FACTORIES.get(factory, "") if factory is not None else None
            if isinstance(factory, type):
                self.class_name(factory)
        if cls not in _BUILTIN:
            self.subclass(value, path, node)
        return node

    def items(self, value: Any, path: Path) -> Node:
        cls = type(value)
        node = Items(_BUILTIN.get(cls) or self.class_name(cls), [])
        self.remember(value, node)
        node.items = self.elements(value, path)
        if isinstance(value, collections.deque):
            node.extra = value.maxlen
        if cls not in _BUILTIN and not hasattr(cls, "_fields"):
            self.subclass(value, path, node)
        return node

    def subclass(self, value: Any, path: Path, node: Items | tree.Mapping) -> None:
        fields: dict[str, Any] = {}
        self.attributes(value, path, fields)
        node.fields = fields or None

    def elements(self, value: Sequence[Any], path: Path) -> list[Any]:
        if len(value) >= _PACK_FROM:
            whole = self.homogeneous(value, path)
            if whole is not None:
                return [whole]
        return [self.node(child, (path, "[", index)) for index, child in enumerate(value)]

    def homogeneous(self, value: Sequence[Any], path: Path) -> Packed | Repeat | None:
        """One leaf for many equal or similar elements; each test runs at the speed of C."""
        kinds = set(map(type, value))
        if len(kinds) != 1:
            return None
        (kind,) = kinds
        if kind is float or kind is bool or kind is int:
            if kind is int and not (min(value) > -(1 << 62) and max(value) < 1 << 62):
                return None
            packed = np.array(list(value), dtype={float: np.float64, bool: np.bool_, int: np.int64}[kind])
            return Packed(kind.__name__, self.array(packed, path))
        if kind is type(None):
            return Repeat(None, len(value))
        if kind in (dict, list) and not any(value) and len(set(map(id, value))) == len(value):
            return Repeat(tree.Mapping("dict", []) if kind is dict else Items("list", []), len(value))
        return None

    def array(self, value: np.ndarray[Any, Any], path: Path) -> Array:
        dtype: Any = value.dtype.str if value.dtype.names is None else np.lib.format.dtype_to_descr(value.dtype)
        node = Array("numpy", dtype, value.shape, tree.memory_order(value.shape, value.strides), value)
        node.name = write_path(path)
        self.remember(value, node)
        self.arrays.append(node)
        return node

    def numpy_array(self, value: np.ndarray[Any, Any], path: Path) -> Node:
        if not value.dtype.hasobject:
            return self.array(value, path)
        if value.dtype.names is not None:
            return self.refuse(value, path, "structured arrays that hold Python objects are not supported")
        node = Items("ndarray", [], list(value.shape))
        self.remember(value, node)
        node.extra = Value("shape", list(value.shape))
        node.items = self.elements(value.ravel().tolist(), path)
        return node

    def tensor(self, value: torch.Tensor, path: Path) -> Node:
        if value.layout is not torch.strided or value.is_quantized or value.device.type == "meta":
            return self.refuse(value, path, "only dense tensors are supported")
        name = str(value.dtype).removeprefix("torch.")
        if name not in tree.TORCH_DTYPES:
            return self.refuse(value, path, f"tensors of dtype {name} are not supported")
        shape = tuple(value.shape)
        extra: dict[str, Any] = {}
        if value.device.type != "cpu":
            extra["device"] = str(value.device)
        if isinstance(value, torch.nn.Parameter):
            extra["parameter"] = True
        if value.is_leaf and value.requires_grad:
            extra["requires_grad"] = True
        node = Array("torch", name, shape, tree.memory_order(shape, value.stride()), value, extra)
        node.name = write_path(path)
        self.remember(value, node)
        self.arrays.append(node)
        if value.is_leaf and value.grad is not None:
            grad = self.node(value.grad, (path, ".", "grad"))
            if isinstance(grad, Array):
                node.grad = grad
        return node

    def class_name(self, cls: type) -> str:
        name = type_name(cls)
        self.classes[name] = cls
        return name


def attributes_of(value: Any) -> dict[str, Any]:
    """All attributes an object holds itself, in its `__dict__` and its slots."""
    found = dict(getattr(value, "__dict__", ()))
    for name in slot_names(type(value)):
        try:
            found[name] = getattr(value, name)
        except AttributeError:
            continue
    return found


# -- which method takes which class -----------------------------------------------------------------------------------

_BUILTIN = {
    dict: "dict",
    collections.OrderedDict: "OrderedDict",
    collections.defaultdict: "defaultdict",
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    collections.deque: "deque",
}
_FACTORIES: dict[Any, str] = {
    int: "int",
    float: "float",
    list: "list",
    dict: "dict",
    set: "set",
    str: "str",
    bool: "bool",
    collections.deque: "deque",
}

Taker: TypeAlias = Callable[[Walker, Any, Path], Any]
_TAKERS: dict[type, Taker] = {}


def _value(kind: str, data: Callable[[Any], Any]) -> Taker:
    return lambda walker, value, path: Value(kind, data(value))


def _numpy_scalar(walker: Walker, value: np.generic, path: Path) -> Any:
    if isinstance(value, np.void | np.object_):
        return walker.refuse(value, path, "structured NumPy scalars are not supported. Keep an array of shape ()")
    return Value("numpy", [value.dtype.str, value.tobytes().hex()])


def _enum(walker: Walker, value: enum.Enum, path: Path) -> Any:
    return Value("enum", [walker.class_name(type(value)), value.name, str(value.value)])


def _optional_hex(number: complex) -> list[str]:
    return [number.real.hex(), number.imag.hex()]


_VALUES: dict[type, Taker] = {
    complex: _value("complex", _optional_hex),
    bytes: _value("bytes", bytes.hex),
    bytearray: _value("bytearray", lambda value: bytes(value).hex()),
    torch.dtype: _value("torch.dtype", lambda value: str(value).removeprefix("torch.")),
    torch.device: _value("torch.device", str),
    torch.Size: _value("torch.Size", list),
    torch.memory_format: _value("constant", str),
    torch.layout: _value("constant", str),
    slice: _value("slice", lambda value: repr((value.start, value.stop, value.step))),
    range: _value("range", lambda value: [value.start, value.stop, value.step]),
    type(Ellipsis): _value("constant", str),
    type(NotImplemented): _value("constant", str),
    datetime.datetime: _value("datetime", datetime.datetime.isoformat),
    datetime.date: _value("date", datetime.date.isoformat),
    datetime.timedelta: _value("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    decimal.Decimal: _value("decimal", str),
    fractions.Fraction: _value("fraction", str),
    uuid.UUID: _value("uuid", str),
}


def _taker(cls: type) -> Taker:
    """How objects of a class are taken; asked once for each class."""
    entry = known(cls).entry
    match entry:
        case Skip():
            skipped = Skipped(entry.reason)
            return lambda walker, value, path: skipped
        case Handler():
            return lambda walker, value, path: walker.handled(value, path, entry)
        case Adapter():
            return lambda walker, value, path: walker.adapted(value, path, entry)
    if cls in _VALUES:
        return _VALUES[cls]
    if issubclass(cls, pathlib.PurePath):
        return _value("path", str)
    if issubclass(cls, enum.Enum):
        return _enum
    if issubclass(cls, np.dtype):
        return _value("numpy.dtype", np.lib.format.dtype_to_descr)
    if issubclass(cls, np.generic):
        return _numpy_scalar
    if issubclass(cls, torch.Tensor):
        return Walker.tensor
    if cls in (np.ndarray, np.memmap):
        return Walker.numpy_array
    if issubclass(cls, dict):
        return Walker.mapping
    if issubclass(cls, list | tuple | set | frozenset | collections.deque):
        return Walker.items
    if cls in (int, float, str) or issubclass(cls, int | float | str):
        return lambda walker, value, path: walker.refuse(
            value, path, f"a subclass of {cls.__mro__[1].__name__} that is not an Enum is not supported"
        )
    if isinstance(entry, Refuse):
        reason = entry.reason
        return lambda walker, value, path: walker.refuse(value, path, reason)
    return Walker.object


on_change.append(_TAKERS.clear)


# -- arrays that share memory -----------------------------------------------------------------------------------------


def extent(data: np.ndarray[Any, Any] | torch.Tensor) -> tuple[str, int, int, bool]:
    """Device, first and last byte (exclusive) of an array, and whether it fills all that lies between."""
    if isinstance(data, torch.Tensor):
        size, start, strides = data.element_size(), data.data_ptr(), data.stride()
        low = 0
        high = sum((n - 1) * s for n, s in zip(data.shape, strides, strict=True)) * size + size
        device, nbytes = str(data.device) if data.device.type != "cpu" else "cpu", data.numel() * size
    else:
        size, start, nbytes, device = data.itemsize, data.__array_interface__["data"][0], data.nbytes, "cpu"
        if data.flags.forc:
            return device, start, start + nbytes, True
        low = sum((n - 1) * s for n, s in zip(data.shape, data.strides, strict=True) if s < 0)
        high = sum((n - 1) * s for n, s in zip(data.shape, data.strides, strict=True) if s > 0) + size
    return device, start + low, start + high, high - low == nbytes and low == 0


def byte_strides(data: np.ndarray[Any, Any] | torch.Tensor) -> tuple[int, ...]:
    """The strides of an array, in bytes."""
    if isinstance(data, torch.Tensor):
        return tuple(s * data.element_size() for s in data.stride())
    return data.strides


def find_windows(arrays: Sequence[Array]) -> None:
    """Turn every array whose memory lies inside another captured array into a window onto that one."""
    placed = []
    for node in arrays:
        data = node.data
        assert isinstance(data, np.ndarray | torch.Tensor)
        if 0 in node.shape:
            continue
        device, start, end, dense = extent(data)
        # Among equals the owner of the memory comes first, so that it is the one that is looked onto.
        owner = getattr(data, "base", None) is None if isinstance(data, np.ndarray) else bool(node.extra)
        placed.append((device, start, -end, not dense, not owner, len(placed), node))
    placed.sort(key=lambda entry: entry[:6])
    base: Array | None = None
    base_device, base_start, base_end = "", 0, 0
    for device, start, negative_end, sparse, _, _, node in placed:
        inside = device == base_device and start >= base_start and -negative_end <= base_end
        if inside and base is not None and "parameter" not in node.extra:
            assert isinstance(node.data, np.ndarray | torch.Tensor)
            first = (
                node.data.data_ptr()
                if isinstance(node.data, torch.Tensor)
                else node.data.__array_interface__["data"][0]
            )
            node.base, node.offset, node.strides = base, first - base_start, byte_strides(node.data)
        elif not sparse and (device != base_device or start >= base_end):
            base, base_device, base_start, base_end = node, device, start, -negative_end


