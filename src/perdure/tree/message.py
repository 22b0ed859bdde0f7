"""The state of another process as a few flat arrays: how it travels between processes, and how it is kept inside
the state of the process that asked for it. Knows neither live objects nor files.

What a tree's document says (see `tree.encode`) stays the same from one checkpoint to the next, but for its numbers. So
it is taken apart: `form` is the document without them, which a store keeps once for all checkpoints and all alike
processes; `values` are the numbers and the small arrays, which change; larger arrays stand by themselves.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xxhash

from perdure.errors import DamagedError
from perdure.tree import _codec, _structure
from perdure.tree._arrays import Blob, flat
from perdure.tree._nodes import Array, MappingNode, SequenceNode, State
from perdure.tree._structure import CHANGING

#: The name under which encoded states are recorded.
TYPE = "perdure:WorkerState"

_PARTS = ("form", "values", "large")
#: Arrays from this size on are kept by themselves, so that one that did not change is not written again.
_LARGE = 1024
#: Where a number was taken out: a list of nothing, which a document has nowhere.
_HOLE: list[Any] = []
_NUMBERS = frozenset({bool, int, float})
_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_MOST = 1 << 20


class EncodedState(dict[str, Any]):
    """A state, packed: `form` and `values` (uint8), and `large` (a list of uint8 arrays)."""


class _Source:
    """The bytes of one array."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.nbytes = len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def encode(state: State, known: bytes = b"") -> bytes:
    """A state as bytes, for another process: what `from_bytes` makes an encoded state of.

    A process is asked again and again, and each time its state has the form that it had before: then nothing is done
    but to take the numbers and the arrays out.

    :param known: the digest of a form that the other process has, which need not be sent.
    """
    outline, taken, arrays = _structure.outline(state)
    if (mine := _forms.get(outline)) is None:
        form = _form(state)[0]
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()  # what changes all the time is not worth remembering
        mine = _forms[outline] = form, structure_digest(form)
    form = b"" if mine[1] == known else mine[0]
    buffers = [_bytes(array) for array in arrays]
    # Nothing that JSON writes holds a zero byte.
    small: list[Any] = [_json(taken), b"\0", *(each for each in buffers if len(each) < _LARGE)]
    return _sealed([form, b"".join(small), *(each for each in buffers if len(each) >= _LARGE)])


_forms: dict[Any, tuple[bytes, bytes]] = {}
_MOST_FORMS = 8


def structure_digest(form: Any) -> bytes:
    """By which two processes know a form."""
    return xxhash.xxh3_128_digest(form)


def _form(state: State) -> tuple[bytes, list[Any]]:
    """A state's document without its numbers, and those."""
    document, blobs = _codec.encode(state)
    taken: list[Any] = []
    nodes = [_opened(entry, taken) for entry in document["nodes"]]
    return _json({"root": document["root"], "nodes": nodes, "blobs": [blob.nbytes for blob in blobs]}), taken


def _bytes(array: Array) -> memoryview:
    data = array.data
    if type(data) is np.ndarray and data.nbytes and data.flags.c_contiguous:
        return flat(data)
    return Blob(array).buffer()


def _sealed(parts: Sequence[Any]) -> bytes:
    return b"".join([_COUNT.pack(len(parts)), *(_LENGTH.pack(len(part)) for part in parts), *parts])


def _view(part: Any) -> memoryview:
    return memoryview(part)


def from_bytes(content: bytes, known: np.ndarray[Any, Any] | None = None) -> EncodedState:
    """The encoded state that stands in bytes that `encode` made; its arrays look onto them.

    :param known: the form whose digest `encode` was given.

    :raises DamagedError: if they are none that `encode` could have made.
    """
    view = memoryview(content)
    if len(view) < _COUNT.size:
        raise DamagedError(f"expected a packed state, found {len(view)} bytes")
    (count,) = _COUNT.unpack_from(view)
    at = _COUNT.size + count * _LENGTH.size
    if not 2 <= count < _MOST or at > len(view):
        raise DamagedError(f"expected a packed state, found one of {count} parts in {len(view)} bytes")
    parts = []
    for number in range(count):
        (length,) = _LENGTH.unpack_from(view, _COUNT.size + number * _LENGTH.size)
        if length > len(view) - at:
            raise DamagedError(f"a packed state is cut off after {len(view)} bytes")
        parts.append(np.frombuffer(view[at : at + length], np.uint8))
        at += length
    if at != len(view):
        raise DamagedError(f"a packed state of {at} bytes has {len(view) - at} more")
    form = known if known is not None and not parts[0].size else parts[0]
    return EncodedState(form=form, values=parts[1], large=parts[2:])


def to_bytes(encoded: Any) -> bytes:
    """The bytes of an encoded state, as `encode` made them.

    :raises DamagedError: if it is no whole encoded state.
    """
    if not isinstance(encoded, EncodedState) or any(name not in encoded for name in _PARTS):
        raise DamagedError(f"expected the packed state of a process, found a {type(encoded).__name__}")
    large = encoded["large"]
    parts = [encoded["form"], encoded["values"], *(large if isinstance(large, list) else [large])]
    if any(not isinstance(part, np.ndarray) or part.dtype != np.uint8 or part.ndim != 1 for part in parts):
        raise DamagedError("expected the packed state of a process to consist of arrays of uint8")
    return _sealed([_view(np.ascontiguousarray(part)) for part in parts])


def from_node(node: Any) -> EncodedState:
    """The encoded state that a state holds at a node, its arrays read.

    :raises DamagedError: if there is none.
    """
    if isinstance(node, MappingNode) and node.type == TYPE:
        content = dict(node.pairs)
        large = content.get("large")
        if content.keys() == set(_PARTS) and isinstance(large, SequenceNode):
            return EncodedState(
                form=_read(content["form"]),
                values=_read(content["values"]),
                large=[_read(each) for each in large.items],
            )
    raise DamagedError("expected the packed state of a process, found something else")


def _read(node: Any) -> np.ndarray[Any, Any]:
    if not isinstance(node, Array) or node.dtype != "|u1" or len(node.shape) != 1 or node.data is None:
        raise DamagedError("expected the packed state of a process to consist of arrays of uint8")
    if isinstance(node.data, np.ndarray):
        return node.data
    found = np.empty(node.shape, np.uint8)
    if found.nbytes and not isinstance(node.data, torch.Tensor):
        node.data.read_into(_view(found))
    return found


def decode(encoded: EncodedState) -> State:
    """The state that was packed.

    :raises DamagedError: if it is none that `encode` could have made.
    """
    # A whole one: what it consists of is checked on the way.
    encoded = from_bytes(to_bytes(encoded))
    text, _, small = bytes(encoded["values"]).partition(b"\0")
    try:
        form, taken = json.loads(bytes(encoded["form"])), iter(json.loads(text))
        table = [_filled(entry, taken) for entry in form["nodes"]]
        sources = list(_sources(form["blobs"], memoryview(small), encoded["large"]))
        if next(taken, _HOLE) is not _HOLE:
            raise ValueError("there are more values than places for them")
        document = {"root": form["root"], "nodes": table}
    except (ValueError, TypeError, KeyError, IndexError, StopIteration, RuntimeError) as error:
        raise DamagedError(f"the packed state of a process is malformed: {error!s:.200}") from error
    return _codec.decode(document, sources)


def _sources(sizes: Any, small: memoryview, large: Sequence[np.ndarray[Any, Any]]) -> Iterator[_Source]:
    at, alone = 0, iter(large)
    for size in sizes:
        if size >= _LARGE:
            yield _Source(_view(next(alone)))
        else:
            yield _Source(small[at : at + size])
            at += size


def share_parts(states: Sequence[EncodedState]) -> None:
    """Let encoded states that have equal parts have the same ones: alike processes differ in their numbers alone."""
    known: dict[bytes, np.ndarray[Any, Any]] = {}

    def one(part: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return known.setdefault(structure_digest(_view(part)), part)

    for encoded in states:
        encoded["form"] = one(encoded["form"])
        encoded["large"] = [one(part) for part in encoded["large"]]


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


# -- taking the numbers out of a document's nodes, and putting them back -------------------------------------


def _opened(entry: list[Any], taken: list[Any]) -> list[Any]:
    def out(value: Any) -> Any:
        if type(value) in _NUMBERS:
            taken.append(value)
            return _HOLE
        return value

    if entry[0] == "v" and entry[1] in CHANGING:
        taken.append(entry[2])
        return [*entry[:2], _HOLE]
    return _each_value(entry, out)


def _filled(entry: Any, taken: Iterator[Any]) -> list[Any]:
    def back(value: Any) -> Any:
        return next(taken) if value == _HOLE else value

    if not isinstance(entry, list) or len(entry) < 2:
        raise ValueError("expected a node")
    if entry[0] == "v" and entry[1] in CHANGING:
        return [*entry[:2], back(entry[2])]
    return _each_value(entry, back)


def _each_value(entry: list[Any], change: Any) -> list[Any]:
    """A node's notation with each value that it holds changed; references are values too."""
    match entry[0]:
        case "o" | "d":
            content: Any = {name: change(child) for name, child in entry[2].items()}
        case "m":
            content = [[change(key), change(child)] for key, child in entry[2]]
        case "i":
            content = [change(child) for child in entry[2]]
        case "h":
            return [*entry[:2], change(entry[2])]
        case _:
            return entry
    changed = [*entry[:2], content, *entry[3:]]
    if len(changed) > 4:
        changed[4] = {name: change(child) for name, child in entry[4].items()}
    return changed
