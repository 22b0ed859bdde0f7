"""Small JSON files with a checksum of their content, and JSON that is read without trusting it.

Such a file is one JSON object, ``{"checksum":"xxh3_128:<32 hex digits>","<kind>":<body>}``, and a newline. The checksum
is that of the exact bytes of the body, so JSON needs no canonical form, and common tools can read the file. Everything
outside the body is compared literally. So no byte of the file can change unnoticed.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import xxhash

from perdure.errors import DamagedError, StoreError

_START = '{{"checksum":"xxh3_128:{}","{}":'
_END = b"}\n"

# The most digits of a JSON number: more than any counter or seed has, few enough for any reader.
_LONGEST_INTEGER = 1000

# How many lists and objects may be in each other. What Perdure writes itself needs ten.
_DEEPEST = 200

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def digest(data: bytes | memoryview) -> str:
    """The checksum of `data`, in 32 hexadecimal digits.

    XXH3 finds damage at the speed of memory. It does not protect against somebody who forges a file, and nothing in
    Perdure relies on it for that.
    """
    return xxhash.xxh3_128_hexdigest(data)


def dump_json(value: Any) -> bytes:
    """`value` as compact JSON, in ASCII.

    :raises ValueError: if it is not JSON-able: NaN, infinity, a cycle.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def load_json(data: bytes, where: str) -> Any:
    """The value that the JSON text `data` stands for.

    This is stricter than the standard: no duplicate keys, no NaN, no number that a float or a counter cannot hold.

    :param where: the file, for the message.
    :raises DamagedError: if it is not such JSON, or is nested too deeply.
    :raises StoreError: if there is not enough memory to read it.
    """
    try:
        value = json.loads(
            data.decode("ascii"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short,
        )
        if _is_deeper(value, _DEEPEST):
            raise ValueError(f"more than {_DEEPEST} lists and objects are in each other")
    except MemoryError:
        # Not damage: a machine with more memory may be able to read it.
        raise StoreError(f"{where} takes more memory to read than this process may have") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is not JSON as Perdure writes it: {error!s:.200}") from error
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Whether more than `most` lists and dicts are in each other; without recursion, which is what it guards."""
    level: list[Any] = [[value]]
    for _ in range(most + 1):
        children = (each.values() if type(each) is dict else each for each in level)
        level = [child for some in children for child in some if type(child) is list or type(child) is dict]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def _short(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"an integer has {len(text)} digits")
    return int(text)


def dump_checksummed(kind: str, body: Any) -> bytes:
    """The content of a file with a checksum. The inverse of :func:`load_checksummed`."""
    content = dump_json(body)
    return _START.format(digest(content), kind).encode("ascii") + content + _END


def load_checksummed(kind: str, data: bytes, where: str) -> dict[str, Any]:
    """The verified body of a file with a checksum.

    :param where: the file, for the message.
    :raises DamagedError: if the checksum is not that of the content, or the content is not a JSON object.
    """
    body = load_json(verified(kind, data, where), where)
    if not isinstance(body, dict):
        raise DamagedError(f"{where}: expected a JSON object in it, found {type(body).__name__}")
    return body


def is_of_another_program(data: bytes) -> bool:
    """Whether this is JSON that another program wrote into a file of the same name, and not a damaged one of ours."""
    if b"checksum" in data[:64] or b"xxh3_128" in data[:64]:
        return False
    try:
        return isinstance(json.loads(data), dict | list)
    except (ValueError, RecursionError):
        return False


def verified(kind: str, data: bytes, where: str) -> bytes:
    """The text of the body of a file with a checksum, verified and not parsed.

    :raises DamagedError: if the checksum is not that of the content.
    """
    start = len(_START.format("0" * 32, kind))
    content = data[start : -len(_END)]
    if data != _START.format(digest(content), kind).encode("ascii") + content + _END:
        raise DamagedError(f"{where} is damaged: its checksum is not that of its content")
    return content


def to_plain(value: Any, where: str) -> Any:
    """A caller's value as JSON-able data.

    NaN and infinities become the strings that Protocol Buffers use: metrics are often NaN, and a checkpoint must not
    fail because of that. Scalars of NumPy and torch become Python's.

    :param where: what the value is, for the message.
    :raises TypeError: if it is not made of None, booleans, numbers, strings, lists, and dicts with string
        keys, or nested too deeply.
    """
    return _plain(value, where, _DEEPEST - 2)


def _plain(value: Any, where: str, levels: int) -> Any:
    if levels < 0:
        raise TypeError(f"{where:.80}... holds itself, or more than {_DEEPEST} lists and dicts in each other")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value.bit_length() > 3 * _LONGEST_INTEGER:
            raise TypeError(
                f"{where} is an integer of {value.bit_length()} bits, too large to be noted; give a string"
            )
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", levels - 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r:.80}, expected only strings as keys")
        return {str(key): _plain(item, f"{where}[{key!r}]", levels - 1) for key, item in value.items()}
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        plain = value.item()
        if type(plain) is not type(value):
            return _plain(plain, where, levels)
    raise TypeError(
        f"{where} is a {type(value).__name__}, expected None, a boolean, a number, a string, a list or a "
        "dict of such"
    )


def from_plain(value: Any) -> Any:
    """The inverse of :func:`to_plain` for floats that are not finite."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: from_plain(item) for key, item in value.items()}
    return value
