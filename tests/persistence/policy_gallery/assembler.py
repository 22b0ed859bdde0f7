"""Pickles by hand, and the archives around them."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


class Attack(NamedTuple):
    name: str
    reason: str
    make: Callable[[], bytes]
    harmless: bool


ATTACKS: list[Attack] = []


def attack(reason: str, *, harmless: bool = False) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Put a forged file into the gallery.

    :param harmless: it may load: what it holds is odd and does nothing.
    """

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        name = f"{make.__module__.rpartition('.')[2]}: {make.__name__.replace('_', ' ')}"
        ATTACKS.append(Attack(name, reason, make, harmless))
        return make

    return add


# -- pickles -------------------------------------------------------------------------------------------------


def g(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def s(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def i(number: int) -> bytes:
    if -(1 << 31) <= number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def t(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t" if items else b")"


def l(*items: bytes) -> bytes:  # noqa: E743
    return b"](" + b"".join(items) + b"e" if items else b"]"


def d(pairs: Mapping[str, bytes] | None = None, *more: bytes) -> bytes:
    content = b"".join(s(key) + value for key, value in (pairs or {}).items()) + b"".join(more)
    return b"}(" + content + b"u" if content else b"}"


def call(function: bytes, *args: bytes) -> bytes:
    return function + t(*args) + b"R"


def new(cls: bytes, *args: bytes, state: bytes | None = None) -> bytes:
    return cls + t(*args) + b"\x81" + (b"" if state is None else state + b"b")


def put(key: int) -> bytes:
    return b"r" + struct.pack("<I", key)


def get(key: int) -> bytes:
    return b"j" + struct.pack("<I", key)


def v(name: str) -> bytes:
    return g("policy_gallery.victims", name)


TRUE, FALSE, NONE = b"\x88", b"\x89", b"N"
DICT = g("collections", "OrderedDict")
GETATTR = g("__builtin__", "getattr")
EMPTY_BYTES = call(g("_codecs", "encode"), s(""), s("latin1"))


def raw(content: bytes) -> bytes:
    return call(g("_codecs", "encode"), s(content.decode("latin1")), s("latin1"))


def module(cls: bytes, **attributes: bytes) -> bytes:
    tables = {name: d() for name in ("_parameters", "_buffers", "_modules")}
    return new(cls, state=d({"training": FALSE, **tables, **attributes}))


def storage(key: str, count: int, kind: bytes = g("torch", "FloatStorage"), location: str = "cpu") -> bytes:
    return t(s("storage"), kind, s(key), s(location), i(count)) + b"Q"


def tensor(
    storage: bytes, offset: int = 0, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,)
) -> bytes:
    shape = (t(*map(i, size)), t(*map(i, stride)))
    return call(g("torch._utils", "_rebuild_tensor_v2"), storage, i(offset), *shape, FALSE, call(DICT))


# -- archives ------------------------------------------------------------------------------------------------

DATA = {"0": struct.pack("<4f", 1, 2, 3, 4)}


def archive(stream: bytes, data: Mapping[str, bytes] = DATA, *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A file such as torch.save writes, with any pickle in it."""
    file = io.BytesIO()
    records = {"data.pkl": stream, "byteorder": sys.byteorder.encode(), "version": b"3\n"}
    with zipfile.ZipFile(file, "w", method) as target:
        for name, content in {**records, **{f"data/{key}": each for key, each in data.items()}}.items():
            target.writestr(f"policy/{name}", content)
    return file.getvalue()


def pickle(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def whole(value: bytes, data: Mapping[str, bytes] = DATA) -> bytes:
    """A file that holds nothing but the value."""
    return archive(pickle(value), data)


def policy(value: bytes, **attributes: bytes) -> bytes:
    """The pickle of a policy with a forged attribute `x`."""
    return module(v("Policy"), x=value, **attributes)


def in_policy(value: bytes, data: Mapping[str, bytes] = DATA, **attributes: bytes) -> bytes:
    """A policy with a forged attribute `x`."""
    return whole(policy(value, **attributes), data)


def honest() -> bytes:
    """A file that torch itself wrote."""
    from policy_gallery.victims import Policy

    file = io.BytesIO()
    made = Policy()
    made.kinds = []
    torch.save(made, file)
    return file.getvalue()
