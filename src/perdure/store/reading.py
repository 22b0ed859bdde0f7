"""Reading checkpoints: everything is verified before it is handed out, and again when it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from perdure.errors import DamagedError
from perdure.store.backend import Backend
from perdure.store.manifest import (
    CHECKPOINTS,
    CheckpointInfo,
    Manifest,
    checkpoint_number,
    manifest_name,
    read_manifest,
)
from perdure.store.packs import PACK_FILE, PACKS, Chunk, Pack
from perdure.store.sealed import digest

#: Bytes that are read at once.
READ_SIZE = 8 << 20


class StoredArray:
    """The bytes of one array, where they lie. Reading them verifies them.

    :param checkpoint: the checkpoint that it is of, for messages.
    """

    def __init__(
        self, backend: Backend, packs: Sequence[Pack], chunks: Sequence[Chunk], checkpoint: int
    ) -> None:
        self._backend = backend
        self._packs = packs
        self._chunks = chunks
        self._checkpoint = checkpoint
        self.nbytes = sum(chunk.length for chunk in chunks)

    def __repr__(self) -> str:
        return f"<{self.nbytes} bytes of checkpoint {self._checkpoint}>"

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable, exactly `nbytes` long).

        :raises DamagedError: if what is read is not what was written. The buffer's content is then
            meaningless.
        """
        if buffer.nbytes != self.nbytes:
            raise ValueError(f"the buffer has {buffer.nbytes} bytes, expected {self.nbytes}")
        start = 0
        for run in runs(self._chunks):
            length = sum(chunk.length for chunk in run)
            pack = self._packs[run[0].pack]
            read_chunks(self._backend, pack, run, buffer[start : start + length], self._checkpoint)
            start += length


def runs(chunks: Iterable[Chunk], limit: int = READ_SIZE) -> Iterator[list[Chunk]]:
    """Group chunks that follow each other in one pack: as many as `limit` bytes hold, but at least one."""
    run: list[Chunk] = []
    size = 0
    for chunk in chunks:
        follows = run and chunk.pack == run[-1].pack and chunk.offset == run[-1].offset + run[-1].length
        if run and not (follows and size + chunk.length <= limit):
            yield run
            run, size = [], 0
        run.append(chunk)
        size += chunk.length
    if run:
        yield run


def buffered(chunks: Iterable[Chunk]) -> Iterator[tuple[list[Chunk], memoryview]]:
    """The same as :func:`runs`, with a buffer just as long for each; it is the same memory every time."""
    grouped = [(run, sum(chunk.length for chunk in run)) for run in runs(chunks)]
    buffer = memoryview(bytearray(max((length for _, length in grouped), default=0)))
    for run, length in grouped:
        yield run, buffer[:length]


def read_chunks(
    backend: Backend, pack: Pack, run: Sequence[Chunk], buffer: memoryview, checkpoint: int
) -> None:
    """Read chunks that follow each other into `buffer`, which is just as long, and verify each.

    :raises DamagedError: if one is not what was written.
    """
    try:
        backend.read_into(pack.name, run[0].offset, buffer)
    except FileNotFoundError:
        raise _missing(backend, pack, checkpoint) from None
    start = 0
    for chunk in run:
        if digest(buffer[start : start + chunk.length]) != chunk.checksum:
            raise DamagedError(
                f"{backend.locate(pack.name)} is damaged: bytes {chunk.offset} to "
                f"{chunk.offset + chunk.length} are not those that checkpoint {checkpoint} needs"
            )
        start += chunk.length


def _missing(backend: Backend, pack: Pack, checkpoint: int) -> DamagedError:
    return DamagedError(f"{backend.locate(pack.name)} is missing; checkpoint {checkpoint} has arrays in it")


class Summary(NamedTuple):
    """What a manifest says, but for the state and its arrays; and the checksum of the file that says it."""

    info: CheckpointInfo
    packs: Sequence[Pack]
    checksum: str


class Catalog:
    """The checkpoints that a backend holds of one run."""

    def __init__(self, backend: Backend, run_id: str) -> None:
        self._backend = backend
        self._run_id = run_id
        self._summaries: dict[int, Summary] = {}

    def numbers(self) -> list[int]:
        """The checkpoints there are, damaged or not, from the oldest to the newest."""
        numbers = checkpoint_numbers(self._backend)
        for gone in set(self._summaries.copy()).difference(numbers):
            self._summaries.pop(gone, None)
        return numbers

    def summary(self, number: int) -> Summary:
        """What the manifest of a checkpoint says, but for the state; raises what :meth:`load` raises.

        The file is read and verified every time, but parsed only if its bytes are not those that were parsed
        before: this is asked about every checkpoint, after every checkpoint.
        """
        name = manifest_name(number)
        content = self._backend.get(name)
        known = self._summaries.get(number)
        if known is None or digest(content) != known.checksum:
            manifest = read_manifest(content, name, self._backend.locate(name), self._run_id)
            known = self.note(manifest, content)
        return known

    def note(self, manifest: Manifest, content: bytes) -> Summary:
        """Take note of what a good manifest says, and of the bytes that say it."""
        known = Summary(manifest.info, manifest.packs, digest(content))
        self._summaries[manifest.info.number] = known
        return known

    def load(self, number: int) -> Manifest:
        """The manifest of a checkpoint; its arrays are not looked at.

        :raises FileNotFoundError: if there is no checkpoint of that number.
        :raises DamagedError: if the manifest is damaged or of another run.
        """
        return load_manifest(self._backend, number, self._run_id)

    def verify(self, manifest: Manifest) -> None:
        """Read everything that a checkpoint's arrays consist of, in a buffer of limited size.

        :raises DamagedError: if something is missing, or not what was written.
        """
        sizes = pack_sizes(self._backend)
        number = manifest.info.number
        for pack in manifest.packs:
            verify_header(self._backend, pack, sizes, number)
        for run, buffer in buffered(sorted({chunk for array in manifest.arrays for chunk in array})):
            read_chunks(self._backend, manifest.packs[run[0].pack], run, buffer, number)

    def sources(self, manifest: Manifest) -> list[StoredArray]:
        """The arrays of a checkpoint, to be read when they are wanted."""
        number = manifest.info.number
        return [StoredArray(self._backend, manifest.packs, chunks, number) for chunks in manifest.arrays]


def checkpoint_numbers(backend: Backend) -> list[int]:
    """The checkpoints that a backend holds, from the oldest to the newest."""
    numbers = (checkpoint_number(entry.name) for entry in backend.list(CHECKPOINTS))
    return sorted(number for number in numbers if number is not None)


def pack_sizes(backend: Backend) -> dict[str, int]:
    """The packs that a backend holds: the size in bytes of each, by file name."""
    files = ((entry.name.removeprefix(f"{PACKS}/"), entry.size) for entry in backend.list(PACKS))
    return {file: size for file, size in files if PACK_FILE.fullmatch(file)}


def load_manifest(backend: Backend, number: int, run_id: str | None = None) -> Manifest:
    """The manifest of checkpoint `number`; see :meth:`Catalog.load`."""
    name = manifest_name(number)
    return read_manifest(backend.get(name), name, backend.locate(name), run_id)


def verify_header(backend: Backend, pack: Pack, sizes: dict[str, int], checkpoint: int) -> bytes:
    """The header of a pack, verified against what the manifest of `checkpoint` says of it.

    :param sizes: see :func:`pack_sizes`.
    :raises DamagedError: if the pack is missing, or has another size or another header.
    """
    where = backend.locate(pack.name)
    if pack.file not in sizes:
        raise _missing(backend, pack, checkpoint)
    if sizes[pack.file] != pack.size:
        raise DamagedError(
            f"{where} has {sizes[pack.file]} bytes, expected {pack.size} (according to checkpoint "
            f"{checkpoint}): it was cut off, or replaced by another file"
        )
    header = bytearray(pack.header)
    try:
        backend.read_into(pack.name, 0, memoryview(header))
    except FileNotFoundError:
        raise _missing(backend, pack, checkpoint) from None
    if digest(bytes(header)) != pack.checksum:
        raise DamagedError(f"{where} is damaged: its header is not that which checkpoint {checkpoint} knows")
    return bytes(header)
