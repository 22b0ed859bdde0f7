"""Immutable values that JSON has no notation for, read back. The other half is in `capture`."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import fractions
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.tree import Value


class NotThere(Exception):
    """A value names a class that the live side does not know."""


def _numpy(data: Any) -> Any:
    dtype = tree.numpy_dtype(data[0])
    return np.frombuffer(bytes.fromhex(data[1]), dtype, count=1)[0]


def _slice(data: str) -> slice:
    start, stop, step = ast.literal_eval(data)
    return slice(start, stop, step)


_READERS: dict[str, Callable[[Any], Any]] = {
    "complex": lambda data: complex(float.fromhex(data[0]), float.fromhex(data[1])),
    "bytes": bytes.fromhex,
    "bytearray": lambda data: bytearray(bytes.fromhex(data)),
    "torch.dtype": lambda data: tree.TORCH_DTYPES[data],
    "torch.device": torch.device,
    "slice": _slice,
    "range": lambda data: range(*data),
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "timedelta": lambda data: datetime.timedelta(*data),
    "decimal": decimal.Decimal,
    "fraction": fractions.Fraction,
    "uuid": uuid.UUID,
    "path": pathlib.Path,
    "numpy": _numpy,
    "numpy.dtype": tree.numpy_dtype,
    "torch.Size": torch.Size,
    "shape": tuple,
}
_CONSTANTS: dict[str, Any] = {
    repr(constant): constant
    for constant in (
        Ellipsis,
        NotImplemented,
        torch.strided,
        torch.contiguous_format,
        torch.channels_last,
        torch.channels_last_3d,
        torch.preserve_format,
    )
}


def read(value: Value, find: Callable[[str], type | None]) -> Any:
    """The Python value that `value` stands for.

    :param find: the live side's class of a recorded name, or None.
    :raises NotThere: if it is a member of an enum that the live side does not know.
    :raises ValueError: (or a relative) if the data do not fit the kind.
    """
    if value.kind == "enum":
        cls = find(value.data[0])
        if cls is None or not issubclass(cls, enum.Enum):
            raise NotThere(value.data[0])
        return cls[value.data[1]]
    if value.kind == "constant":
        return _CONSTANTS[value.data]
    reader = _READERS.get(value.kind)
    if reader is None:
        raise ValueError(f"unknown kind of value {value.kind!r:.80}")
    return reader(value.data)
