"""Packs: the files that array data lies in. What to write of a checkpoint's arrays, and in which form.

A pack is a valid safetensors file. Arrays are cut into chunks; a chunk of which equal bytes are stored
already is referred to and not written again. An array that is written whole and fits in one chunk appears
under its name; the chunks of a larger one as ``name[chunk 3]``, plain bytes. The header's metadata holds the
checksum of every chunk, so that also bytes that no checkpoint refers to any longer can be verified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from perdure.errors import FormatError
from perdure.store.sealed import digest, dump_json, load_json

CHUNK = 1 << 20
"""Bytes per chunk; the last one of an array may be shorter."""

LONGEST_CHUNK = 1 << 26
"""The longest chunk that is read: what a later version of Perdure may write."""

PACKS = "packs"
PACK_FILE = re.compile(r"\d{8,12}\.safetensors", re.ASCII)

_LENGTH = 8  # the bytes that say how long the header is
_METADATA = "__metadata__"
_CHECKSUMS = "xxh3_128"
_ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


class Blob(Protocol):
    """One array as the store sees it; its bytes must not change until the commit is done."""

    @property
    def name(self) -> str:
        """A path in the state, for people; not necessarily unique."""
        ...

    @property
    def dtype(self) -> str:
        """Its type in the words of safetensors ("F32"), or any other string where it has no word for it."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """In elements."""
        ...

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        ...

    def buffer(self) -> memoryview:
        """All bytes, flat."""
        ...


class Chunk(NamedTuple):
    """Where a chunk lies: index of the pack in the manifest, offset in it, length in bytes; its checksum."""

    pack: int
    offset: int
    length: int
    checksum: str


class Pack(NamedTuple):
    """A pack as a manifest knows it: file in ``packs/``, size in bytes, length and checksum of the header.

    The header is everything before the data, with the 8 bytes that tell its length.
    """

    file: str
    size: int
    header: int
    checksum: str

    @property
    def name(self) -> str:
        """The name under which the backend has it."""
        return f"{PACKS}/{self.file}"


@dataclass
class Known:
    """What the previous checkpoint holds: its packs, and by checksum and length where chunks lie in them."""

    packs: Sequence[Pack] = ()
    chunks: dict[tuple[str, int], Chunk] = field(default_factory=dict)

    @classmethod
    def of(cls, packs: Sequence[Pack], arrays: Sequence[Sequence[Chunk]]) -> Known:
        """From a manifest's packs and chunks."""
        return cls(packs, {(chunk.checksum, chunk.length): chunk for array in arrays for chunk in array})

    def without(self, lost: set[str]) -> Known:
        """The same, but for the packs whose files are named in `lost`."""
        if not lost:
            return self
        left = {key: chunk for key, chunk in self.chunks.items() if self.packs[chunk.pack].file not in lost}
        return Known(self.packs, left)


class _New(NamedTuple):
    """A chunk to be written: of which blob, from where; `alignment` is the size of an element in bytes."""

    blob: int
    start: int
    length: int
    checksum: str
    alignment: int


@dataclass
class Plan:
    """What one commit writes and refers to.

    :param packs: the packs that the checkpoint refers to; the new one, if there is one, is the last.
    :param arrays: for each blob, its chunks in order.
    :param header: of the new pack; empty if nothing needs writing.
    """

    packs: list[Pack]
    arrays: list[list[Chunk]]
    header: bytes
    _new: list[_New]
    _blobs: Sequence[Blob]

    def buffers(self) -> Iterator[bytes | memoryview]:
        """The content of the new pack."""
        yield self.header
        current, view = -1, memoryview(b"")
        for chunk in self._new:
            # Chunks of one array follow each other: so a buffer that has to be gathered is gathered once.
            if chunk.blob != current:
                current, view = chunk.blob, self._blobs[chunk.blob].buffer()
            yield view[chunk.start : chunk.start + chunk.length]


def pack_file(number: int) -> str:
    """The file name of the pack that checkpoint `number` writes."""
    return f"{number:08d}.safetensors"


def pack_number(file: str) -> int:
    """The inverse of :func:`pack_file`."""
    return int(file.partition(".")[0])


def plan(blobs: Sequence[Blob], known: Known, file: str, metadata: dict[str, str]) -> Plan:
    """Decide which chunks of `blobs` the new pack `file` will hold, and which are referred to where they lie.

    Old packs less than half of whose data is still in use are not referred to; what is in use of them is
    written anew. So the packs that one checkpoint refers to hold at most twice the bytes of its arrays (and
    their headers).

    :param known: what may be referred to.
    :param metadata: for the new pack's header.
    """
    cuts = [_cut(blob, number) for number, blob in enumerate(blobs)]
    keep = _worth_keeping([chunk for cut in cuts for chunk in cut], known)

    places: dict[tuple[str, int], Chunk] = {}
    fresh: dict[tuple[str, int], _New] = {}
    used: dict[int, int] = {}  # index among the known packs -> index among the plan's
    for cut in cuts:
        for new in cut:
            key = (new.checksum, new.length)
            old = known.chunks.get(key)
            if old is not None and old.pack in keep:
                places[key] = old._replace(pack=used.setdefault(old.pack, len(used)))
            else:
                fresh.setdefault(key, new)

    packs = [known.packs[pack] for pack in used]
    # Larger elements first: so each lies at a multiple of its size without holes, which safetensors does not
    # allow.
    order = sorted(fresh.values(), key=lambda new: -new.alignment)
    header = _header(order, blobs, metadata) if order else b""
    offset = len(header)
    for new in order:
        places[new.checksum, new.length] = Chunk(len(packs), offset, new.length, new.checksum)
        offset += new.length
    if order:
        packs.append(Pack(file, offset, len(header), digest(header)))
    arrays = [[places[new.checksum, new.length] for new in cut] for cut in cuts]
    return Plan(packs, arrays, header, order, blobs)


def _cut(blob: Blob, number: int) -> list[_New]:
    view = blob.buffer()
    if view.nbytes != blob.nbytes:
        raise ValueError(f"the array {blob.name!r} says it has {blob.nbytes} bytes, but gives {view.nbytes}")
    alignment = _ITEMSIZE.get(blob.dtype, 1)
    return [
        _New(number, start, min(CHUNK, blob.nbytes - start), digest(view[start : start + CHUNK]), alignment)
        for start in range(0, blob.nbytes, CHUNK)
    ]


def _worth_keeping(chunks: Sequence[_New], known: Known) -> set[int]:
    live = [0] * len(known.packs)
    for key in {(chunk.checksum, chunk.length) for chunk in chunks}:
        if (old := known.chunks.get(key)) is not None:
            live[old.pack] += old.length
    return {i for i, pack in enumerate(known.packs) if live[i] and 2 * live[i] >= pack.size - pack.header}


def _header(chunks: Sequence[_New], blobs: Sequence[Blob], metadata: dict[str, str]) -> bytes:
    checksums = {_CHECKSUMS: " ".join(chunk.checksum for chunk in chunks)}
    entries: dict[str, Any] = {_METADATA: metadata | checksums}
    offset = 0
    for chunk in chunks:
        blob = blobs[chunk.blob]
        # Half a character of UTF-16 is a valid string in Python, but not in other languages' JSON.
        name = blob.name.encode("utf-8", "backslashreplace").decode("utf-8")
        dtype, shape = "U8", [chunk.length]
        if chunk.length == blob.nbytes:
            if _ITEMSIZE.get(blob.dtype, 0) * math.prod(blob.shape) == blob.nbytes:
                dtype, shape = blob.dtype, list(blob.shape)
        else:
            name = f"{name}[chunk {chunk.start // CHUNK}]"
        entries[_unused(name, entries)] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [offset, offset + chunk.length],
        }
        offset += chunk.length
    text = dump_json(entries)
    text += b" " * (-len(text) % _LENGTH)
    return len(text).to_bytes(_LENGTH, "little") + text


def _unused(name: str, taken: dict[str, Any]) -> str:
    candidate, count = name, 2
    while candidate in taken:
        candidate, count = f"{name}#{count}", count + 1
    return candidate


def header_length(start: bytes, size: int, where: str) -> int:
    """The length of the header of a pack that begins with the 8 bytes `start` and has `size` bytes in all.

    :raises FormatError: if it cannot be.
    """
    length = _LENGTH + int.from_bytes(start, "little")
    if len(start) != _LENGTH or length > size:
        raise FormatError(f"{where}: its header is said to take {length} bytes, but the file has {size}")
    return length


def stored_chunks(header: bytes, size: int, where: str) -> list[Chunk]:
    """Every chunk of the pack that begins with `header` and has `size` bytes in all (as of pack number 0).

    :raises FormatError: if the header is not one that Perdure writes.
    """
    entries = load_json(header[_LENGTH:].rstrip(b" "), where)
    try:
        checksums = entries.pop(_METADATA)[_CHECKSUMS].split()
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
        chunks = [
            Chunk(0, len(header) + start, end - start, checksum)
            for (start, end), checksum in zip(spans, checksums, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where}: its header is not one that Perdure writes: {error!r:.200}") from error
    position = len(header)
    for chunk in chunks:
        if chunk.offset != position or not 0 < chunk.length <= LONGEST_CHUNK:
            raise FormatError(f"{where}: its header has a hole, an overlap or a chunk of impossible length")
        position += chunk.length
    if position != size:
        raise FormatError(f"{where}: its header describes {position} bytes, but the file has {size}")
    return chunks
