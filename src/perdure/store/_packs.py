"""Packs: the files that array data lies in, and how they are written.

A pack is a valid safetensors file. An array that is written whole, fits in one chunk and is not compressed
appears under its name, with its type; all else as plain bytes, ``name[0:1048576]``. The header's metadata has
the checksum of every chunk, so that also bytes that no checkpoint refers to any longer can be verified, and
the header's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import zstandard

from perdure.errors import DamagedError, StoreError
from perdure.store._checksummed_json import digest, dump_json, load_json
from perdure.store._layout import LONGEST_CHUNK, RAW, ZSTD, Chunk
from perdure.store.backends import GET_LIMIT, Backend, put_new

CHUNK = 1 << 20
"""Bytes per chunk; the last one of an array may be shorter."""

PACK_BYTES = 32 << 20
"""A pack that has this many bytes gets no more. So what is compressed before it is written takes no more memory
than this, and what a replay buffer writes over gives its space back pack by pack."""

PACKS = "packs"
PACK_FILE = re.compile(r"(\d{8,12})(?:-([1-9]\d{0,4}))?\.safetensors", re.ASCII)

#: A smaller chunk is not worth the time.
LEAST_COMPRESSED = 4096
_LEVEL = 1
# What is saved must be worth what reading takes longer.
_WORTH = 0.87
#: After a chunk of an array that was not worth it, so many are not tried.
_PAUSE = 15
_LONGEST_PAUSE = 255

# A header says something of each chunk; a reader does not take one that is longer than GET_LIMIT.
_PACK_CHUNKS = 1 << 16
_PARTS = 1 << 16  # packs that one commit can write
_LENGTH = 8  # the bytes that say how long the header is
_METADATA = "__metadata__"
_CHECKSUMS = "xxh3_128"
_SEAL_AT = len(f'{{"{_METADATA}":{{"header":"')
_NO_SEAL = "0" * 32
_ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass
class New:
    """A chunk to be written.

    :param array: whose it is, for the pack's header.
    :param start: where it begins in the array, in bytes.
    :param content: gives its bytes; asked for once, when they are written.
    :param dtype: of the array, in the words of safetensors, if the chunk is all of it; otherwise "U8".
    :param alignment: the size of an element in bytes.
    :param chunk: where it lies, once it is written.
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


class Compressor:
    """Decides by looking at the data what is compressed, and compresses it.

    :param setting: "auto": what is worth it; "zstd": all that gets smaller; "none": nothing.
    """

    SETTINGS = ("auto", "zstd", "none")

    def __init__(self, setting: str) -> None:
        if setting not in self.SETTINGS:
            raise ValueError(
                f"compression: expected one of {', '.join(self.SETTINGS)}, found {setting!r:.80}"
            )
        self.setting = setting
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL)
        #: For each array how many of its chunks are not to be tried, and how many will not be the next time.
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
    """The `length` bytes that a frame of Zstandard stands for; never more memory than that.

    :raises DamagedError: if it is not a frame of just so many bytes.
    """
    try:
        # Before anything is allocated: the frame itself says how long its content is.
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
    """Writes the packs of one commit, a few at a time, while the next one is being made up.

    A context manager: when it is left, nothing is being written any more, and what could not be written is raised.

    :param number: of the checkpoint.
    :param run: the id of the run.
    :param threads: what is written by.
    :param progress: called with the number of bytes of each chunk that is done.
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
        #: What is being written, and how many bytes that are.
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
        """Write chunks, in as many packs as they need; each is told where it lies.

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
        # Larger elements first: so each lies at a multiple of its size without holes, which safetensors does
        # not allow.
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
        # No more than a pack full is on its way, so that memory holds two at most.
        if self._bytes + offset > PACK_BYTES:
            self._wait()
        self._bytes += offset
        content = [header, *(stored for _, stored, _ in batch)]
        try:
            self._writing.append(self._threads.submit(put_new, self._backend, pack_name(pack), content))
        except RuntimeError:  # the interpreter is ending, and no thread begins any more
            put_new(self._backend, pack_name(pack), content)

    def _wait(self) -> None:
        """Wait for all that is being written.

        :raises StoreError: if some of it could not be; the others are waited for all the same.
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
    """Bytes of an array as chunks.

    :param start: where they begin in the array.
    :param whole: type and shape of the array, where they are all of it.
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
    # Of what is compressed, the frame's own as well: some of its bits do not change what it stands for.
    checksums = " ".join(
        new.checksum if codec == RAW else f"{new.checksum}+{new.length}+{digest(frame)}"
        for new, frame, codec in chunks
    )
    entries: dict[str, Any] = {_METADATA: {"header": _NO_SEAL, **metadata, _CHECKSUMS: checksums}}
    offset = 0
    for new, content, codec in chunks:
        stored = len(content)
        # Half a character of UTF-16 is a valid string in Python, but not in other languages' JSON.
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
    at = _LENGTH + _SEAL_AT
    header[at : at + len(_NO_SEAL)] = digest(bytes(header)).encode("ascii")
    return bytes(header)


def _unused(name: str, taken: dict[str, Any]) -> str:
    candidate, count = name, 2
    while candidate in taken:
        candidate, count = f"{name}#{count}", count + 1
    return candidate


def header_length(start: bytes, size: int, where: str) -> int:
    """The length of the header of a pack that begins with the 8 bytes `start` and has `size` bytes in all.

    :raises DamagedError: if it cannot be.
    """
    length = _LENGTH + int.from_bytes(start, "little")
    if len(start) != _LENGTH or length > min(size, GET_LIMIT):
        raise DamagedError(f"{where}: its header is said to take {length} bytes, but the file has {size}")
    return length


def check_header(header: bytes, file: str, run: str, where: str) -> None:
    """Whether a header is as it was written, and that of the pack `file` of the run.

    :raises DamagedError: if it is not.
    """
    at = _LENGTH + _SEAL_AT
    unsealed = bytearray(header)
    unsealed[at : at + len(_NO_SEAL)] = _NO_SEAL.encode("ascii")
    if header[at : at + len(_NO_SEAL)] != digest(bytes(unsealed)).encode("ascii"):
        raise DamagedError(f"{where} is damaged: the checksum of its header is not that of its content")
    metadata = _entries(header, where).get(_METADATA)
    own = metadata if isinstance(metadata, dict) else {}
    if own.get("perdure_run") != run or own.get("perdure_pack") != file:
        raise DamagedError(
            f"{where} is the pack {own.get('perdure_pack')!r:.80} of run {own.get('perdure_run')!r:.80}: it was "
            f"renamed, or put in another's place; expected {file} of run {run}"
        )


def stored_chunks(header: bytes, size: int, pack: int, where: str) -> dict[Chunk, str]:
    """Every chunk of a pack that begins with `header` and has `size` bytes in all; and of those that are compressed the
    checksum of what is stored.

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
