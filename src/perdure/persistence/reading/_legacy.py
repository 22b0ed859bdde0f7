"""Files that torch wrote before version 1.6: five pickles, one after the other, and then the data of the tensors.

Each pickle is followed with symbols, as that of a newer file is; none is run. Knows no classes.
"""

from __future__ import annotations

import io
import sys
from pickletools import genops
from typing import Any

from perdure.persistence.reading._pickle_steps import Budget, MalformedError, Node, Program, parse
from perdure.persistence.reading._storages import STORAGE_TYPES

#: What each of these files begins with: a pickle of this number.
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_SIZE = 8


def is_legacy(content: bytes) -> bool:
    """Whether a file begins as torch's did."""
    return content[:1] == b"\x80" and _MAGIC.to_bytes(10, "little") in content[:20]


def read_legacy(content: bytes, budget: Budget) -> tuple[Program, dict[str, memoryview], int]:
    """What the pickle of the objects describes, the data of the tensors by key, and the length of that pickle.

    :raises MalformedError: if it is not whole.
    """
    stream = io.BytesIO(content)
    magic, version, about, objects, keys = (_next(stream, content) for _ in range(5))
    if _root(magic, budget) != _MAGIC or _root(version, budget) != _VERSION:
        raise MalformedError("is of another version than torch's are")
    if _pairs(_root(about, budget)).get("little_endian", True) is not (sys.byteorder == "little"):
        raise MalformedError("was written for another kind of processor (byte order)")
    program = parse(objects, budget)
    sizes = _element_sizes(program)
    data: dict[str, memoryview] = {}
    rest = memoryview(content)[stream.tell() :]
    for key in _items(_root(keys, budget)):
        if not isinstance(key, str) or key in data:
            raise MalformedError("has the data of a tensor under a key that is none")
        length = int.from_bytes(rest[:_SIZE], "little") * sizes.get(key, 1)
        data[key], rest = rest[_SIZE : _SIZE + length], rest[_SIZE + length :]
        if len(data[key]) != length:
            raise MalformedError("is cut off in the data of a tensor")
    if len(rest):
        raise MalformedError("has something after its end")
    return program, data, len(objects)


def _next(stream: io.BytesIO, content: bytes) -> bytes:
    """The bytes of the next pickle."""
    start = stream.tell()
    try:
        for _ in genops(stream):
            pass
    except (
        Exception
    ) as error:  # what pickletools comes upon: ValueError, struct.error, UnicodeDecodeError, ...
        raise MalformedError(f"is no whole pickle ({type(error).__name__}: {error!s:.200})") from error
    return content[start : stream.tell()]


def _root(pickle: bytes, budget: Budget) -> Any:
    return parse(pickle, budget).root


def _filled(root: Any, how: str) -> list[Any]:
    fills = (root.fills or ()) if isinstance(root, Node) else ()
    return [each for step in fills if step.how == how for each in step.content]


def _items(root: Any) -> list[Any]:
    return _filled(root, "items")


def _pairs(root: Any) -> dict[Any, Any]:
    found = _filled(root, "pairs")
    plain = (each if not isinstance(each, Node) else None for each in found[::2])
    return dict(zip(plain, found[1::2], strict=True))


def _element_sizes(program: Program) -> dict[str, int]:
    """How many bytes an element of each tensor's data has."""
    found: dict[str, int] = {}
    for step in program.steps:
        if isinstance(step, Node) and step.kind == "storage" and len(step.parts) > 2:
            _, kind, key, *_ = step.parts
            dtype = (
                STORAGE_TYPES.get(kind.what.name)
                if isinstance(kind, Node) and kind.what is not None
                else None
            )
            if isinstance(key, str) and dtype is not None:
                found.setdefault(key, dtype.itemsize)
    return found
