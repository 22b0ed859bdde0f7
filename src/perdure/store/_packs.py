"""Packs: the files that hold array data, and how they are written. Knows chunks and bytes, and no checkpoints.

A pack is a valid safetensors file. An array that is written whole, fits in one chunk and is not compressed has an
entry of its name and type; everything else appears as plain bytes, ``name[0:1048576]``. The metadata of the header has
the checksum of every chunk, so that bytes that no checkpoint refers to any more can be verified too, and a checksum of
the header itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal, get_args

import zstandard

from perdure.errors import DamagedError, StoreError
from perdure.store._checksummed_json import digest, dump_json, load_json
from perdure.store._layout import LONGEST_CHUNK, RAW, ZSTD, Chunk
from perdure.store.backends import GET_LIMIT, Backend, put_new

CHUNK = 1 << 20
"""Bytes per chunk; the last one of an array may be shorter."""

PACK_BYTES = 32 << 20
"""A pack of this many bytes gets no more chunks. So compressed chunks that wait to be written take no more memory than
this, and the space of replay rows that were overwritten is given back pack by pack."""

PACKS = "packs"
PACK_FILE = re.compile(r"(\d{8,12})(?:-([1-9]\d{0,4}))?\.safetensors", re.ASCII)

#: A smaller chunk is not worth the time.
LEAST_COMPRESSED = 4096
_LEVEL = 1
# What compression saves must be worth the longer time that reading takes.
_WORTH = 0.87
#: After a chunk that was not worth compressing, so many chunks of the array are not tried.
_PAUSE = 15
_LONGEST_PAUSE = 255

# The header grows with each chunk, and a reader refuses one that is longer than GET_LIMIT.
_PACK_CHUNKS = 1 << 16
_PARTS = 1 << 16  # packs that one commit can write
_LENGTH = 8  # the bytes that say how long the header is
_METADATA = "__metadata__"
_CHECKSUMS = "xxh3_128"
_CHECKSUM_AT = len(f'{{"{_METADATA}":{{"header":"')
_NO_CHECKSUM = "0" * 32
_ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass
class New:
    """A chunk to be written.

    :param array: the name of its array, for the pack's header.
    :param start: where it begins in the array, in bytes.
    :param content: returns its bytes; called once, when they are written.
    :param dtype: of the array, in the words of safetensors, if the chunk is all of it; otherwise "U8".
    :param alignment: the size of an element in bytes.
    :param chunk: where it is stored, once it is written.
    """

    array: str
    start: int
    length: int
    checksum: str
    content: Callable[[], memoryview]
    dtype: str = "U8"
    shape: tuple[int, ...] = ()
    alignment: int = 1
    chunk: Chunk | None = None


#: What is compressed: what is worth the time; everything that gets smaller; nothing.
Compression = Literal["auto", "zstd", "none"]


class Compressor:
    """Compresses chunks; looks at the data to decide which.

    :param setting: see :data:`Compression`.
    :raises ValueError: if it is none of the choices.
    """

    def __init__(self, setting: Compression) -> None:
        if setting not in (choices := get_args(Compression)):
            raise ValueError(f"compression: expected one of {', '.join(choices)}, found {setting!r:.80}")
        self.setting = setting
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        #: For each array, how many of its next chunks not to try, and how many after the next failure.
        self._pause: dict[str, tuple[int, int]] = {}

    def __call__(self, array: str, content: memoryview) -> bytes | None:
        """The chunk `content` of `array` as a frame of Zstandard, or None if it is to be stored as it is."""
        if self.setting == "none" or content.nbytes < LEAST_COMPRESSED:
            return None
        left, pause = self._pause.get(array, (0, _PAUSE))
        if self.setting == "auto" and left:
            self._pause[array] = left - 1, pause
            return None
        frame = self._zstd.compress(content)
        worth = _WORTH if self.setting == "auto" else 1.0
        if len(frame) < worth * content.nbytes:
            self._pause.pop(array, None)
            return frame
        self._pause[array] = pause, min(2 * pause, _LONGEST_PAUSE)
        return None


def decompress(frame: memoryview, length: int, where: str) -> bytes:
    """The `length` bytes in a frame of Zstandard; never takes more memory than that.

    :raises DamagedError: if it is not a frame of exactly so many bytes.
    """
    try:
        # The frame says how long its content is. That is checked before anything is allocated.
        if zstandard.get_frame_parameters(frame).content_size != length:
            raise DamagedError(
                f"{where}: a compressed chunk does not have the {length} bytes that are expected"
            )
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)
    except zstandard.ZstdError as error:
        raise DamagedError(f"{where}: a chunk cannot be decompressed: {error!s:.200}") from error
    if len(content) != length:
        raise DamagedError(f"{where}: a compressed chunk has {len(content)} bytes, expected {length}")
    return content


def pack_file(pack: int) -> str:
    """The file name of a pack."""
    number, part = divmod(pack, _PARTS)
    return f"{number:08d}-{part}.safetensors" if part else f"{number:08d}.safetensors"


def pack_of(file: str) -> int | None:
    """The inverse of :func:`pack_file`; None if it is not the name of a pack."""
    match = PACK_FILE.fullmatch(file)
    if match is None:
        return None
    pack = int(match[1]) * _PARTS + int(match[2] or 0)
    return pack if int(match[2] or 0) < _PARTS and pack and pack_file(pack) == file else None


def pack_name(pack: int) -> str:
    """The name under which the backend has a pack."""
    return f"{PACKS}/{pack_file(pack)}"


def pack_number(pack: int) -> int:
    """The number of the checkpoint that wrote a pack."""
    return pack // _PARTS


class PackWriter:
    """Writes the packs of one commit in threads, while the next pack is being prepared.

    A context manager: at its exit all packs are written, and an error of one that could not be is raised.

    :param number: of the checkpoint.
    :param run: the id of the run.
    :param threads: write the packs.
    :param progress: called with the number of bytes of each chunk that was added to a pack.
    """

    def __init__(
        self,
        backend: Backend,
        number: int,
        run: str,
        compress: Compressor,
        threads: ThreadPoolExecutor,
        progress: Callable[[int], None] = lambda nbytes: None,
    ) -> None:
        self._backend = backend
        self._progress = progress
        self._run = run
        self._compress = compress
        self._next = number * _PARTS
        self._threads = threads
        #: The packs that are being written, and how many bytes they have.
        self._writing: list[Future[None]] = []
        self._bytes = 0
        #: The packs that were written, and the bytes of each.
        self.sizes: dict[int, int] = {}

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._wait()
        except StoreError:
            if kind is None:
                raise

    def write(self, chunks: Iterable[New]) -> None:
        """Write chunks in as many packs as they need, and note in each where it is stored.

        :raises StoreError: if a pack cannot be written, this one or one before it.
        """
        batch: list[tuple[New, memoryview | bytes, str]] = []
        size = 0
        for new in chunks:
            content = new.content()
            frame = self._compress(new.array, content)
            batch.append((new, content, RAW) if frame is None else (new, frame, ZSTD))
            size += len(batch[-1][1])
            self._progress(new.length)
            if size >= PACK_BYTES or len(batch) >= _PACK_CHUNKS:
                self._put(batch)
                batch, size = [], 0
        if batch:
            self._put(batch)

    def _put(self, batch: list[tuple[New, memoryview | bytes, str]]) -> None:
        # Larger elements first, so that each begins at a multiple of its size without holes: safetensors allows none.
        batch.sort(key=lambda entry: -entry[0].alignment if entry[2] == RAW else 0)
        pack = self._next
        metadata = {"perdure_run": self._run, "perdure_pack": pack_file(pack)}
        header = _header(batch, metadata)
        offset = len(header)
        for new, stored, codec in batch:
            new.chunk = Chunk(pack, offset, len(stored), new.length, codec, new.checksum)
            offset += len(stored)
        self._next += 1
        self.sizes[pack] = offset
        # No more than the bytes of one pack are being written, so that memory holds two packs at most.
        if self._bytes + offset > PACK_BYTES:
            self._wait()
        self._bytes += offset
        content = [header, *(stored for _, stored, _ in batch)]
        try:
            self._writing.append(self._threads.submit(put_new, self._backend, pack_name(pack), content))
        except RuntimeError:  # the interpreter is exiting, and no thread can be started
            put_new(self._backend, pack_name(pack), content)

    def _wait(self) -> None:
        """Wait for all packs that are being written.

        :raises StoreError: if one could not be written; the others are waited for too.
        """
        writing, self._writing, self._bytes = self._writing, [], 0
        wait(writing)
        for each in writing:
            each.result()


def cut(
    name: str,
    content: memoryview,
    start: int = 0,
    *,
    whole: tuple[str, tuple[int, ...]] | None = None,
    itemsize: int = 1,
) -> Iterator[New]:
    """Cut bytes of an array into chunks.

    :param start: where the bytes begin in the array.
    :param whole: the type and shape of the array, if they are all of its bytes.
    """
    for at in range(0, content.nbytes, CHUNK):
        part = content[at : at + CHUNK]
        yield New(
            name,
            start + at,
            part.nbytes,
            digest(part),
            lambda part=part: part,  # type: ignore[misc]
            *(whole if whole is not None and part.nbytes == content.nbytes else ("U8", ())),
            alignment=itemsize if part.nbytes % itemsize == 0 else 1,
        )


def element_size(dtype: str) -> int:
    """Bytes of an element of a type in the words of safetensors; 1 where it has no word for it."""
    return _ITEMSIZE.get(dtype, 1)


def _header(chunks: Sequence[tuple[New, memoryview | bytes, str]], metadata: dict[str, str]) -> bytes:
    # For a compressed chunk the checksum of the frame too: some bits of a frame do not change its content.
    checksums = " ".join(
        new.checksum if codec == RAW else f"{new.checksum}+{new.length}+{digest(frame)}"
        for new, frame, codec in chunks
    )
    entries: dict[str, Any] = {_METADATA: {"header": _NO_CHECKSUM, **metadata, _CHECKSUMS: checksums}}
    offset = 0
    for new, content, codec in chunks:
        stored = len(content)
        # A lone UTF-16 surrogate is a valid string in Python, but not in the JSON of other languages.
        name = new.array.encode("utf-8", "backslashreplace").decode("utf-8")
        dtype, shape = "U8", [stored]
        if (
            codec == RAW
            and new.shape is not None
            and _ITEMSIZE.get(new.dtype, 0) * math.prod(new.shape) == stored
        ):
            dtype, shape = new.dtype, list(new.shape)
        if codec != RAW or (new.dtype == "U8" and new.shape != (stored,)):
            name = f"{name}[{new.start}:{new.start + new.length}]{'' if codec == RAW else '.zst'}"
        entries[_unused(name, entries)] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [offset, offset + stored],
        }
        offset += stored
    text = dump_json(entries)
    text += b" " * (-len(text) % _LENGTH)
    header = bytearray(len(text).to_bytes(_LENGTH, "little") + text)
    at = _LENGTH + _CHECKSUM_AT
    header[at : at + len(_NO_CHECKSUM)] = digest(bytes(header)).encode("ascii")
    return bytes(header)


def _unused(name: str, taken: dict[str, Any]) -> str:
    candidate, count = name, 2
    while candidate in taken:
        candidate, count = f"{name}#{count}", count + 1
    return candidate


def header_length(start: bytes, size: int, where: str) -> int:
    """The length of the header of a pack that begins with the 8 bytes `start` and has `size` bytes in all.

    :raises DamagedError: if there cannot be such a header.
    """
    length = _LENGTH + int.from_bytes(start, "little")
    if len(start) != _LENGTH or length > min(size, GET_LIMIT):
        raise DamagedError(f"{where}: its header is said to take {length} bytes, but the file has {size}")
    return length


def check_header(header: bytes, file: str, run: str, where: str) -> None:
    """Check that a header is as it was written, and belongs to the pack `file` of the run.

    :raises DamagedError: if not.
    """
    at = _LENGTH + _CHECKSUM_AT
    blank = bytearray(header)
    blank[at : at + len(_NO_CHECKSUM)] = _NO_CHECKSUM.encode("ascii")
    if header[at : at + len(_NO_CHECKSUM)] != digest(bytes(blank)).encode("ascii"):
        raise DamagedError(f"{where} is damaged: the checksum of its header is not that of its content")
    metadata = _entries(header, where).get(_METADATA)
    own = metadata if isinstance(metadata, dict) else {}
    if own.get("perdure_run") != run or own.get("perdure_pack") != file:
        raise DamagedError(
            f"{where} is the pack {own.get('perdure_pack')!r:.80} of run {own.get('perdure_run')!r:.80}: it was "
            f"renamed, or put in another's place; expected {file} of run {run}"
        )


def stored_chunks(header: bytes, size: int, pack: int, where: str) -> dict[Chunk, str]:
    """Every chunk of a pack that begins with `header` and has `size` bytes in all; for a compressed one, with the
    checksum of its frame.

    :raises DamagedError: if the header is not one that Perdure writes.
    """
    entries = _entries(header, where)
    chunks: dict[Chunk, str] = {}
    try:
        checksums = entries.pop(_METADATA)[_CHECKSUMS].split()
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
        for (start, end), note in zip(spans, checksums, strict=True):
            checksum, compressed, more = note.partition("+")
            length, _, frame = more.partition("+")
            stored = end - start
            content = int(length) if compressed else stored
            codec = ZSTD if compressed else RAW
            chunks[Chunk(pack, len(header) + start, stored, content, codec, checksum)] = frame
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{where}: its header is not one that Perdure writes: {error!r:.200}") from error
    position = len(header)
    for chunk in chunks:
        if chunk.offset != position or not 0 < chunk.stored <= chunk.length <= LONGEST_CHUNK:
            raise DamagedError(f"{where}: its header has a hole, an overlap or a chunk of impossible length")
        position += chunk.stored
    if position != size:
        raise DamagedError(f"{where}: its header describes {position} bytes, but the file has {size}")
    return chunks


def _entries(header: bytes, where: str) -> dict[str, Any]:
    entries = load_json(header[_LENGTH:].rstrip(b" "), where)
    if not isinstance(entries, dict):
        raise DamagedError(f"{where}: its header is not one that Perdure writes: a {type(entries).__name__}")
    return entries
