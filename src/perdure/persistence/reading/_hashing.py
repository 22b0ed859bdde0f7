"""Keys of dictionaries and sets in a policy file: Python must hash them quickly and without running a class's code.

Knows no files and no pickles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import time
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from perdure.persistence.reading._classes import NotMadeError, dotted, handler_of, register_line
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.state import slots

_BATCH = 16


class Clock:
    """The time that filling dictionaries and sets may take, from the length of the pickle.

    Keys can be chosen so that filling takes the square of their number, whatever the hash function. So the time itself
    is measured, that of this thread alone.
    """

    FLOOR = 0.2
    PER_BYTE = 5e-6
    SLOW = "has keys that take far longer to tell apart than a file of its size may"

    def __init__(self, length: int) -> None:
        self.left = self.FLOOR + self.PER_BYTE * length

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that is spent inside.

        :raises MalformedError: if it is more than is left.
        """
        began = time.thread_time()
        try:
            yield
        finally:
            self.left -= time.thread_time() - began
            if self.left < 0:
                raise MalformedError(self.SLOW)


def insert(clock: Clock, put: Callable[..., object], entries: Sequence[tuple[Any, ...]]) -> None:
    """Put entries into a container of keys one by one; the first part of each is its key.

    :raises NotMadeError: if a key has a class that hashes or compares in Python and is not registered.
    :raises TypeError: if one cannot be a key, or consists of too much.
    :raises MalformedError: if the keys are such that this takes out of proportion long.
    """
    for start in range(0, len(entries), _BATCH):
        with clock.running():
            for entry in entries[start : start + _BATCH]:
                check_key(entry[0])
                put(*entry)


MOST_PARTS = 1_000
"""What a key may consist of, with everything in it counted as often as it is in it: that is how Python hashes it."""

_PLAIN = (
    str,
    bytes,
    int,
    float,
    bool,
    complex,
    type(None),
    range,
    datetime.date,
    datetime.time,
    datetime.datetime,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    type(pathlib.Path()),
    torch.dtype,
    torch.device,
    torch.layout,
)


def check_key(key: Any) -> None:
    """See that Python can hash a key quickly and without running code of a class."""
    if type(key) in _PLAIN:
        return
    stack, count = [key], 0
    while stack:
        part = stack.pop()
        count += 1
        kind = type(part)
        if kind in _PLAIN or issubclass(kind, np.generic | np.dtype):
            continue
        if issubclass(kind, tuple | frozenset) and inherits_hash(kind, tuple, frozenset):
            if len(part) + len(stack) + count > MOST_PARTS:
                raise TypeError(f"a key consists of more than {MOST_PARTS:,} parts")
            stack.extend(tuple.__iter__(part) if issubclass(kind, tuple) else frozenset.__iter__(part))
        elif kind is slice:
            stack.extend((part.start, part.stop, part.step))
        elif (fields := _hashed_fields(kind)) is not None:
            stack.extend(_field(part, name) for name in fields)
        else:
            _check_hash(kind)


def _hashed_fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a class that is hashed and compared as Python makes a dataclass do it: as a tuple of them."""
    own = vars(kind)
    parameters = own.get("__dataclass_params__")
    if parameters is None or not (parameters.eq and parameters.frozen):
        return None
    made = all(_is_generated(own.get(name)) for name in ("__hash__", "__eq__"))
    fields = dataclasses.fields(kind)
    return tuple(each.name for each in fields if each.hash in (None, True)) if made else None


def _is_generated(method: Any) -> bool:
    """Whether `dataclasses` wrote a method: it has no file, and lies in no module of the user's."""
    return type(method) is types.FunctionType and method.__code__.co_filename == "<string>"


def _field(part: Any, name: str) -> Any:
    """A field's value, found as Python does without asking the class."""
    descriptor = slots(type(part)).get(name)
    if descriptor is not None:
        return descriptor.__get__(part)
    return object.__getattribute__(part, "__dict__")[name]


def inherits_hash(kind: type, *bases: type) -> bool:
    """Whether objects of a class are hashed and compared as those of one of these bases are."""
    return any(
        _of_class(kind, "__hash__") is _of_class(base, "__hash__")
        and _of_class(kind, "__eq__") is _of_class(base, "__eq__")
        for base in bases
    )


def _of_class(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _check_hash(kind: type) -> None:
    if _of_class(kind, "__hash__") is None:
        raise TypeError(f"a key is a {kind.__qualname__}, which cannot be one")
    same = inherits_hash(kind, object, int, float, str, bytes, type)
    if same or kind in (torch.Tensor, torch.nn.Parameter) or handler_of(kind) is not None:
        return
    if issubclass(kind, enum.Enum) and _of_class(kind, "__hash__") is vars(enum.Enum)["__hash__"]:
        return
    raise NotMadeError(
        dotted(kind),
        "it is a key, and its class hashes or compares in Python, which loading does not run. Register it: "
        f"{register_line(kind)}",
    )
