"""Immutable values that JSON cannot express: to `Value` nodes and back. Knows no containers and no files."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import pathlib
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import DamagedError
from perdure.state._class_names import class_name
from perdure.tree import Value


class NotThere(Exception):
    """A value names a class that the live side does not know."""


class Unsupported(Exception):
    """A value has no notation; the message says which one and what to do."""


_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}
_CONSTANTS: dict[str, Any] = {
    repr(constant): constant
    for constant in (
        Ellipsis,
        NotImplemented,
        torch.contiguous_format,
        torch.channels_last,
        torch.channels_last_3d,
        torch.preserve_format,
        *(layout for layout in vars(torch).values() if isinstance(layout, torch.layout)),
    )
}


# -- from values to nodes ------------------------------------------------------------------------------------


def _numpy_scalar(value: np.generic) -> list[str]:
    if isinstance(value, np.object_) or value.dtype.names is not None or value.dtype.hasobject:
        raise Unsupported("structured NumPy scalars are not supported. Keep an array of shape () instead")
    return [value.dtype.str, value.tobytes().hex()]


def _slice(value: slice) -> list[str | None]:
    bounds = (value.start, value.stop, value.step)
    if any(type(bound) not in (int, type(None)) for bound in bounds):
        raise Unsupported("slices of anything but integers are not supported")
    return [None if bound is None else hex(bound) for bound in bounds]


def _moment(value: datetime.datetime | datetime.time) -> list[Any]:
    if not (value.tzinfo is None or type(value.tzinfo) is datetime.timezone):
        raise Unsupported("only fixed time zones (datetime.timezone) are supported. Keep it in UTC instead")
    name = None if value.tzinfo is None else _zone(value.tzinfo)[3]
    return [value.isoformat(), value.fold, *([] if name is None else [name])]


def _zone(value: datetime.timezone) -> list[Any]:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return [offset.days, offset.seconds, offset.microseconds, name[0] if name else None]


def _enum(value: enum.Enum) -> list[str]:
    # A flag may combine members, or have bits that belong to no member, so its number is recorded instead of a name.
    member = hex(value._value_) if isinstance(value, enum.Flag) else value._name_
    return [class_name(type(value)), member]


def _path(value: pathlib.PurePath) -> list[str]:
    return [type(value).__name__, str(value)]


#: For each class its kind, and the function that turns a value into JSON.
_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    complex: ("complex", lambda value: [value.real.hex(), value.imag.hex()]),
    bytes: ("bytes", bytes.hex),
    torch.dtype: ("torch.dtype", lambda value: str(value).removeprefix("torch.")),
    # There are few devices, and torch is slow to name them.
    torch.device: ("torch.device", lru_cache(maxsize=256)(str)),
    torch.Size: ("torch.Size", list),
    torch.memory_format: ("constant", str),
    torch.layout: ("constant", str),
    type(Ellipsis): ("constant", str),
    type(NotImplemented): ("constant", str),
    slice: ("slice", _slice),
    range: ("range", lambda value: [hex(value.start), hex(value.stop), hex(value.step)]),
    datetime.datetime: ("datetime", _moment),
    datetime.time: ("time", _moment),
    datetime.date: ("date", datetime.date.isoformat),
    datetime.timezone: ("timezone", _zone),
    datetime.timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    decimal.Decimal: ("decimal", str),
    fractions.Fraction: ("fraction", lambda value: [hex(value.numerator), hex(value.denominator)]),
    uuid.UUID: ("uuid", str),
    np.str_: ("numpy.str", lambda value: str(value).encode("utf-8", "surrogatepass").hex()),
    np.bytes_: ("numpy.bytes", lambda value: bytes(value).hex()),
    pathlib.PurePosixPath: ("path", _path),
    pathlib.PureWindowsPath: ("path", _path),
    pathlib.PosixPath: ("path", _path),
    pathlib.WindowsPath: ("path", _path),
}


def writer(cls: type) -> tuple[str, Callable[[Any], Any]] | None:
    """The kind of values of a class, and the function that gives their data; None if they are not values.

    The function raises `Unsupported` for a value that has no notation.
    """
    if cls in _WRITERS:
        return _WRITERS[cls]
    if issubclass(cls, enum.Enum):
        return "enum", _enum
    if issubclass(cls, np.dtype):
        return "numpy.dtype", _dtype
    if issubclass(cls, np.generic):
        return "numpy", _numpy_scalar
    return None


def _dtype(value: np.dtype[Any]) -> Any:
    if value == np.dtype(object):
        return "O"
    try:
        return tree.numpy_notation(value)
    except (ValueError, DamagedError) as error:
        raise Unsupported(str(error)) from error


# -- from nodes to values ------------------------------------------------------------------------------------


def _read_numpy(data: Any) -> Any:
    dtype = tree.numpy_dtype(data[0])
    return np.frombuffer(bytes.fromhex(data[1]), dtype, count=1)[0]


def _read_moment(cls: type[datetime.datetime] | type[datetime.time]) -> Callable[[Any], Any]:
    def read_moment(data: Any) -> datetime.datetime | datetime.time:
        found = cls.fromisoformat(data[0]).replace(fold=data[1])
        offset = found.utcoffset()
        return (
            found
            if len(data) < 3 or offset is None
            else found.replace(tzinfo=datetime.timezone(offset, data[2]))
        )

    return read_moment


def _read_zone(data: Any) -> datetime.timezone:
    offset = datetime.timedelta(*data[:3])
    if data[3] is None:
        return datetime.timezone(offset) if offset else datetime.UTC
    return datetime.timezone(offset, data[3])


def _read_path(data: Any) -> pathlib.PurePath:
    classes = (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
    return {cls.__name__: cls for cls in classes}[data[0]](data[1])


#: Hexadecimal digits. To reduce a fraction takes the square of their number.
_LONGEST_FRACTION = 200_000


def _read_fraction(data: Any) -> fractions.Fraction:
    if any(len(part) > _LONGEST_FRACTION for part in data):
        raise ValueError(f"a fraction of more than {_LONGEST_FRACTION:,} digits")
    return fractions.Fraction(*(int(part, 16) for part in data))


_READERS: dict[str, Callable[[Any], Any]] = {
    "complex": lambda data: complex(float.fromhex(data[0]), float.fromhex(data[1])),
    "bytes": bytes.fromhex,
    "torch.dtype": _DTYPES.__getitem__,
    "torch.device": torch.device,
    "torch.Size": torch.Size,
    "constant": _CONSTANTS.__getitem__,
    "slice": lambda data: slice(*(None if bound is None else int(bound, 16) for bound in data)),
    "range": lambda data: range(*(int(bound, 16) for bound in data)),
    "datetime": _read_moment(datetime.datetime),
    "time": _read_moment(datetime.time),
    "date": datetime.date.fromisoformat,
    "timezone": _read_zone,
    "timedelta": lambda data: datetime.timedelta(*data),
    "decimal": decimal.Decimal,
    "fraction": _read_fraction,
    "uuid": uuid.UUID,
    "path": _read_path,
    "numpy": _read_numpy,
    "numpy.str": lambda data: np.str_(bytes.fromhex(data).decode("utf-8", "surrogatepass")),
    "numpy.bytes": lambda data: np.bytes_(bytes.fromhex(data)),
    "numpy.dtype": lambda data: np.dtype(object) if data == "O" else tree.numpy_dtype(data),
}


def read(value: Value, find: Callable[[str], type | None]) -> Any:
    """The Python value of a node.

    :param find: the live side's class of a recorded name, or None.
    :raises NotThere: if it is a member of an enum that the live side does not know.
    :raises ValueError: if the data do not fit the kind.
    """
    try:
        if value.kind == "enum":
            return _member(value, find)
        return _READERS[value.kind](value.data)
    except NotThere:
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error!s:.200}") from error


def _member(value: Value, find: Callable[[str], type | None]) -> enum.Enum:
    name, member = value.data
    cls = find(name)
    if cls is None or not issubclass(cls, enum.Enum):
        raise NotThere(name)
    return cls(int(member, 16)) if issubclass(cls, enum.Flag) else cls.__members__[member]
