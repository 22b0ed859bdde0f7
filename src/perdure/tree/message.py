"""A state as a few flat byte arrays: so it goes from one process to another, and so a process keeps the states of
others inside its own state.

What a tree consists of stays the same from one checkpoint to the next, but for its numbers. So they are sent apart.
`form` is the document with a hole for each number; a store keeps it once for all checkpoints and all equal processes.
`values` are the numbers and the small arrays, which change. Larger arrays stand alone. Knows neither live objects nor
files.
"""

from __future__ import annotations

import json
import marshal
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xxhash

from perdure.errors import DamagedError
from perdure.tree import _codec
from perdure.tree._arrays import Blob, flat
from perdure.tree._encoder import CHANGING, HOLE, encode_tree
from perdure.tree._nodes import Array, MappingNode, SequenceNode, State

#: The name under which encoded states are recorded.
TYPE = "perdure:WorkerState"

_PARTS = ("form", "values", "large")
#: Arrays from this size on are kept by themselves, so that one that did not change is not written again.
_LARGE = 1024
_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_MOST = 1 << 20
# Made once: to make a writer takes as long as to write the numbers of an environment.
_write_json = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class EncodedState(dict[str, Any]):
    """An encoded state: `form` and `values` (uint8), and `large` (a list of uint8 arrays)."""


class _Source:
    """The bytes of one array, in memory."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.nbytes = len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def encode(state: State, known: bytes = b"") -> bytes:
    """A state as bytes for another process, which `from_bytes` makes an encoded state of.

    A process is asked for its state again and again, and it nearly always has the structure it had before. Then nothing
    is done but to take out the numbers and the arrays.

    :param known: the digest of a form that the other process has, which is then not sent.
    """
    values: list[Any] = []
    root, nodes, arrays = encode_tree(state, values=values)
    # Not JSON, which takes longer to write. Version 2 depends on nothing but the content.
    structure = marshal.dumps(nodes, 2)
    if (mine := _forms.get(structure)) is None:
        sizes = [Blob(array).nbytes for array in arrays]
        form = _json({"root": root, "nodes": nodes, "blobs": sizes, _codec.ATTRIBUTES: True})
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()  # a structure that changes all the time is not worth remembering
        mine = _forms[structure] = form, structure_digest(form)
    form = b"" if mine[1] == known else mine[0]
    buffers = [_bytes(array) for array in arrays]
    # Nothing that JSON writes holds a zero byte.
    small: list[Any] = [_json(values), b"\0", *(each for each in buffers if len(each) < _LARGE)]
    return _joined([form, b"".join(small), *(each for each in buffers if len(each) >= _LARGE)])


_forms: dict[bytes, tuple[bytes, bytes]] = {}
_MOST_FORMS = 8


def structure_digest(form: bytes | memoryview) -> bytes:
    """The checksum by which two processes know a form."""
    return xxhash.xxh3_128_digest(form)


def _bytes(array: Array) -> memoryview:
    data = array.data
    if type(data) is np.ndarray and data.nbytes and data.flags.c_contiguous:
        return flat(data)
    return Blob(array).buffer()


def _joined(parts: Sequence[Any]) -> bytes:
    return b"".join([_COUNT.pack(len(parts)), *(_LENGTH.pack(len(part)) for part in parts), *parts])


def _view(part: Any) -> memoryview:
    return memoryview(part)


def from_bytes(content: bytes, known: np.ndarray[Any, Any] | None = None) -> EncodedState:
    """The encoded state in bytes that `encode` made; its arrays are views of them.

    :param known: the form whose digest `encode` was given.
    :raises DamagedError: if `encode` could not have made them.
    """
    view = memoryview(content)
    if len(view) < _COUNT.size:
        raise DamagedError(f"expected an encoded state, found {len(view)} bytes")
    (count,) = _COUNT.unpack_from(view)
    at = _COUNT.size + count * _LENGTH.size
    if not 2 <= count < _MOST or at > len(view):
        raise DamagedError(f"expected an encoded state, found one of {count} parts in {len(view)} bytes")
    parts = []
    for number in range(count):
        (length,) = _LENGTH.unpack_from(view, _COUNT.size + number * _LENGTH.size)
        if length > len(view) - at:
            raise DamagedError(f"an encoded state is cut off after {len(view)} bytes")
        parts.append(np.frombuffer(view[at : at + length], np.uint8))
        at += length
    if at != len(view):
        raise DamagedError(f"an encoded state of {at} bytes has {len(view) - at} more")
    form = known if known is not None and not parts[0].size else parts[0]
    return EncodedState(form=form, values=parts[1], large=parts[2:])


def to_bytes(encoded: Any) -> bytes:
    """The bytes of an encoded state, as `encode` made them.

    :raises DamagedError: if it is not an encoded state, or a part of it is missing.
    """
    if not isinstance(encoded, EncodedState) or any(name not in encoded for name in _PARTS):
        raise DamagedError(f"expected the encoded state of a process, found a {type(encoded).__name__}")
    large = encoded["large"]
    parts = [encoded["form"], encoded["values"], *(large if isinstance(large, list) else [large])]
    if any(not isinstance(part, np.ndarray) or part.dtype != np.uint8 or part.ndim != 1 for part in parts):
        raise DamagedError("expected the encoded state of a process to consist of arrays of uint8")
    return _joined([_view(np.ascontiguousarray(part)) for part in parts])


def from_node(node: Any) -> EncodedState:
    """The encoded state that a state holds at a node; its arrays are read.

    :raises DamagedError: if there is none at this node.
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
    raise DamagedError("expected the encoded state of a process, found something else")


def _read(node: Any) -> np.ndarray[Any, Any]:
    if not isinstance(node, Array) or node.dtype != "|u1" or len(node.shape) != 1 or node.data is None:
        raise DamagedError("expected the encoded state of a process to consist of arrays of uint8")
    if isinstance(node.data, np.ndarray):
        return node.data
    found = np.empty(node.shape, np.uint8)
    if found.nbytes and not isinstance(node.data, torch.Tensor):
        node.data.read_into(_view(found))
    return found


def decode(encoded: EncodedState) -> State:
    """The state that was encoded.

    :raises DamagedError: if `encode` could not have made it.
    """
    # On the way it is checked that it is whole.
    encoded = from_bytes(to_bytes(encoded))
    text, _, small = bytes(encoded["values"]).partition(b"\0")
    try:
        form, values = json.loads(bytes(encoded["form"])), iter(json.loads(text))
        table = [_filled(entry, values) for entry in form["nodes"]]
        sources = list(_sources(form["blobs"], memoryview(small), encoded["large"]))
        if next(values, HOLE) is not HOLE:
            raise ValueError("there are more values than places for them")
        document = {**form, "nodes": table}
    except (ValueError, TypeError, KeyError, IndexError, StopIteration, RuntimeError) as error:
        raise DamagedError(f"the encoded state of a process is malformed: {error!s:.200}") from error
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
    """Let encoded states share the parts in which they are equal: equal processes differ only in their numbers."""
    known: dict[bytes, np.ndarray[Any, Any]] = {}

    def one(part: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return known.setdefault(structure_digest(_view(part)), part)

    for encoded in states:
        encoded["form"] = one(encoded["form"])
        encoded["large"] = [one(part) for part in encoded["large"]]


def _json(value: Any) -> bytes:
    return _write_json(value).encode()


def _filled(entry: Any, values: Iterator[Any]) -> list[Any]:
    """A node of a form with a number in each of its holes."""

    def fill(value: Any) -> Any:
        return next(values) if value == HOLE else value

    if not isinstance(entry, list) or len(entry) < 2:
        raise ValueError("expected a node")
    content: Any
    match entry[0]:
        case "v":
            return [*entry[:2], fill(entry[2])] if entry[1] in CHANGING else entry
        case "h":
            return [*entry[:2], fill(entry[2])]
        case "o" | "d":
            content = {name: fill(child) for name, child in entry[2].items()}
        case "m":
            content = [[fill(key), fill(child)] for key, child in entry[2]]
        case "i":
            content = [fill(child) for child in entry[2]]
        case "a" if "fields" in entry[1]:
            fields = {name: fill(child) for name, child in entry[1]["fields"].items()}
            return ["a", {**entry[1], "fields": fields}]
        case _:
            return entry
    filled = [*entry[:2], content, *entry[3:]]
    if len(filled) > 4:
        filled[4] = {name: fill(child) for name, child in entry[4].items()}
    return filled
