"""Read checkpoints: straight into the memory where the bytes belong, and verified on the way.

The parts of an array can be read by several threads at once. It changes nothing on the disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from perdure import tree
from perdure.errors import DamagedError
from perdure.store._checksummed_json import digest
from perdure.store._layout import (
    MOST_EXTENTS,
    RAW,
    ZERO,
    Chunk,
    Extent,
    Layout,
    check_apart,
    count_in_page,
    load_page,
    whole,
)
from perdure.store._manifest import (
    CHECKPOINTS,
    CheckpointInfo,
    Head,
    Manifest,
    checkpoint_number,
    manifest_name,
    read_head,
    read_manifest,
)
from perdure.store._packs import (
    PACKS,
    check_header,
    decompress,
    header_length,
    pack_file,
    pack_name,
    pack_of,
    stored_chunks,
)
from perdure.store.backends import Backend

#: Bytes that are read at once.
READ_SIZE = 8 << 20

Part = tuple[int, Callable[[], None]]


class StoredArray:
    """The bytes of one array on the disk. Reading them verifies them.

    :param checkpoint: the number of its checkpoint, for messages.
    :param verified: whether this process has written all of it, or read it and found it whole.
    """

    def __init__(self, backend: Backend, layout: Layout, checkpoint: int, *, verified: bool = False) -> None:
        self._backend = backend
        self._checkpoint = checkpoint
        self._unread = 0
        self.layout = layout
        self.nbytes = layout.nbytes
        self.verified = verified

    def __repr__(self) -> str:
        return f"<{self.nbytes} bytes of checkpoint {self._checkpoint}>"

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable, exactly `nbytes` long).

        :raises DamagedError: if what is read is not what was written. The buffer's content is meaningless then.
        """
        for _, read in self.parts(buffer):
            read()

    def parts(self, buffer: memoryview) -> list[Part]:
        """The calls that fill `buffer`, with the number of bytes that each of them reads.

        They do not depend on each other. Each raises what :meth:`read_into` raises.
        """
        if buffer.nbytes != self.nbytes:
            raise ValueError(f"the buffer has {buffer.nbytes} bytes, expected {self.nbytes}")
        parts: list[Part] = []
        pieces: dict[Chunk, list[tuple[int, memoryview]]] = {}
        start = 0
        for run in runs(self.layout.extents()):
            length = sum(extent.take for extent in run)
            if all(extent.whole for extent in run):
                parts.append((length, self._reader(_reading_run(run, buffer[start : start + length]))))
            else:
                at = start
                for chunk, skip, take in run:
                    pieces.setdefault(chunk, []).append((skip, buffer[at : at + take]))
                    at += take
            start += length
        # A chunk that is needed in several places is read once: otherwise the time would be that of the chunk, times
        # the places.
        for chunk, wanted in pieces.items():
            length = sum(piece.nbytes for _, piece in wanted)
            parts.append((length, self._reader(_reading_pieces(chunk, wanted))))
        self._unread = len(parts)
        self.verified = self.verified or not parts
        return parts

    def _reader(self, content: Callable[[Backend, int], None]) -> Callable[[], None]:
        def read() -> None:
            content(self._backend, self._checkpoint)
            # Several threads count down without a lock. If two of them collide, the array merely counts as
            # unverified.
            self._unread -= 1
            if not self._unread:
                self.verified = True

        return read

    def holds(self, start: int, content: memoryview) -> bool:
        """Whether the bytes from `start` on are `content`. Reads them where a checksum cannot tell."""
        at = start
        for begin, extent in self.layout.placed(start, start + content.nbytes):
            low, high = max(begin, start), min(begin + extent.take, start + content.nbytes)
            view = content[low - start : high - start]
            if extent.whole and view.nbytes == extent.take:
                same = digest(view) == extent.chunk.checksum
            else:
                stored = memoryview(bytearray(view.nbytes))
                part = extent.part(low - begin, view.nbytes)
                read_extents(self._backend, [part], stored, self._checkpoint)
                same = stored == view
            if not same:
                return False
            at = high
        return at == start + content.nbytes


def _reading_run(run: list[Extent], buffer: memoryview) -> Callable[[Backend, int], None]:
    return lambda backend, checkpoint: read_extents(backend, run, buffer, checkpoint)


def _reading_pieces(chunk: Chunk, pieces: list[tuple[int, memoryview]]) -> Callable[[Backend, int], None]:
    def read(backend: Backend, checkpoint: int) -> None:
        if chunk.codec == ZERO or (len(pieces) == 1 and pieces[0][1].nbytes == chunk.length):
            for skip, buffer in pieces:
                _read_extent(backend, chunk, skip, buffer, checkpoint)
            return
        content = memoryview(read_chunk(backend, chunk, checkpoint))
        for skip, buffer in pieces:
            buffer[:] = content[skip : skip + buffer.nbytes]

    return read


def runs(extents: Iterable[Extent], limit: int = READ_SIZE) -> Iterator[list[Extent]]:
    """Group extents whose stored bytes follow each other in one pack: up to `limit` bytes, but at least one extent."""
    run: list[Extent] = []
    size = 0
    for extent in extents:
        last = run[-1].chunk if run else None
        chunk = extent.chunk
        follows = last is not None and (chunk.pack, chunk.offset) == (last.pack, last.offset + last.stored)
        if run and not (follows and size + chunk.length <= limit):
            yield run
            run, size = [], 0
        run.append(extent)
        size += chunk.length
    if run:
        yield run


def read_extents(backend: Backend, run: Sequence[Extent], buffer: memoryview, checkpoint: int) -> None:
    """Read extents that follow each other into `buffer`, which is as long as they are, and verify their chunks.

    :raises DamagedError: if a chunk is not what was written.
    """
    first, last = run[0].chunk, run[-1].chunk
    if all(extent.chunk.codec == RAW and extent.whole for extent in run) and first is not last:
        _read(backend, first, buffer, checkpoint)
        at = 0
        for chunk, _, take in run:
            _verify(backend, chunk, buffer[at : at + take], checkpoint)
            at += take
        return
    at = 0
    for chunk, skip, take in run:
        _read_extent(backend, chunk, skip, buffer[at : at + take], checkpoint)
        at += take


def read_chunk(backend: Backend, chunk: Chunk, checkpoint: int) -> bytes | memoryview:
    """The content of a stored chunk, verified.

    :raises DamagedError: if it is not what was written.
    """
    stored = memoryview(bytearray(chunk.stored))
    _read(backend, chunk, stored, checkpoint)
    where = backend.locate(pack_name(chunk.pack))
    content = stored if chunk.codec == RAW else decompress(stored, chunk.length, where)
    _verify(backend, chunk, content, checkpoint)
    return content


def _read_extent(backend: Backend, chunk: Chunk, skip: int, buffer: memoryview, checkpoint: int) -> None:
    if chunk.codec == ZERO:
        buffer[:] = bytes(buffer.nbytes)
    elif chunk.codec == RAW and buffer.nbytes == chunk.length:
        _read(backend, chunk, buffer, checkpoint)
        _verify(backend, chunk, buffer, checkpoint)
    else:
        buffer[:] = memoryview(read_chunk(backend, chunk, checkpoint))[skip : skip + buffer.nbytes]


def _read(backend: Backend, chunk: Chunk, buffer: memoryview, checkpoint: int) -> None:
    name = pack_name(chunk.pack)
    try:
        backend.read_into(name, chunk.offset, buffer)
    except FileNotFoundError:
        raise missing(backend, chunk.pack, checkpoint) from None


def _verify(backend: Backend, chunk: Chunk, content: bytes | memoryview, checkpoint: int) -> None:
    if digest(content) != chunk.checksum:
        raise DamagedError(
            f"{backend.locate(pack_name(chunk.pack))} is damaged: bytes {chunk.offset} to "
            f"{chunk.offset + chunk.stored} are not what was written for checkpoint {checkpoint}"
        )


def missing(backend: Backend, pack: int, checkpoint: int) -> DamagedError:
    """The error for a pack that is not there."""
    where = backend.locate(pack_name(pack))
    return DamagedError(f"{where} is missing; checkpoint {checkpoint} has arrays in it")


class Summary(NamedTuple):
    """What a manifest says except for the state and its arrays, and the checksum of its file."""

    info: CheckpointInfo
    packs: Sequence[int]
    checksum: str


class Catalog:
    """The checkpoints that a backend holds of one run."""

    def __init__(self, backend: Backend, run_id: str) -> None:
        self._backend = backend
        self._run_id = run_id
        self._summaries: dict[int, Summary] = {}

    def numbers(self) -> list[int]:
        """The numbers of all checkpoints, damaged or not, from the oldest to the newest."""
        numbers = checkpoint_numbers(self._backend)
        for gone in set(self._summaries.copy()).difference(numbers):
            self._summaries.pop(gone, None)
        return numbers

    def summary(self, number: int) -> Summary:
        """What the manifest of a checkpoint says except for the state. Raises what :meth:`load` raises.

        This is asked about every checkpoint, after every checkpoint. So the file is read and verified every time, but
        parsed only if it has changed.
        """
        name = manifest_name(number)
        content = self._backend.get(name)
        known = self._summaries.get(number)
        if known is None or digest(content) != known.checksum:
            manifest = read_manifest(content, name, self._backend.locate(name), self._run_id)
            known = self.note(manifest, content)
        return known

    def note(self, manifest: Manifest, content: bytes) -> Summary:
        """Remember what a good manifest says, so that the same bytes are not parsed again."""
        known = Summary(manifest.info, manifest.packs, digest(content))
        self._summaries[manifest.info.number] = known
        return known

    def load(self, number: int) -> Manifest:
        """The manifest of a checkpoint, with the pages that say where its large arrays lie.

        :raises FileNotFoundError: if there is no checkpoint of that number.
        :raises DamagedError: if the manifest or a page is damaged, or the manifest is of another run.
        :raises UnsupportedFormatError: if a newer Perdure wrote it.
        """
        return load_manifest(self._backend, number, self._run_id)

    def head(self, number: int) -> Head:
        """The head of a checkpoint's manifest. Raises what :meth:`load` raises."""
        name = manifest_name(number)
        return read_head(self._backend.get(name), name, self._backend.locate(name), self._run_id)

    def check_packs(self, head: Head) -> None:
        """Check that the packs of a checkpoint are there, and long enough for what its manifest itself names.

        :raises DamagedError: if one is not.
        """
        sizes = pack_sizes(self._backend)
        for pack, least in head.least.items():
            self._check_size(pack, least, sizes, head.info.number)

    def decode(self, manifest: Manifest, *, verified: bool = False) -> tuple[tree.State, list[StoredArray]]:
        """The state of a checkpoint and its arrays, whose bytes are read only when they are needed.

        :param verified: whether they have just been verified.
        :raises DamagedError: if the manifest describes no state.
        """
        sources = self.sources(manifest)
        state = tree.decode(manifest.document, sources)
        for source in sources:
            source.verified = verified
        return state, sources

    def check_sizes(self, manifest: Manifest) -> None:
        """Check that all packs of a checkpoint are there, each large enough for what is said to be in it.

        :raises DamagedError: if one is not.
        """
        sizes = pack_sizes(self._backend)
        number = manifest.info.number
        for pack in manifest.packs:
            self._check_size(pack, 0, sizes, number)
        for layout in manifest.arrays:
            for extent in layout.extents():
                chunk = extent.chunk
                if chunk.stored:
                    self._check_size(chunk.pack, chunk.offset + chunk.stored, sizes, number)

    def _check_size(self, pack: int, least: int, sizes: dict[int, int], number: int) -> None:
        if pack not in sizes:
            raise missing(self._backend, pack, number)
        if least > sizes[pack]:
            raise DamagedError(
                f"{self._backend.locate(pack_name(pack))} has {sizes[pack]} bytes, expected at least {least} (for "
                f"checkpoint {number}): it was cut off, or replaced by another file"
            )

    def sources(self, manifest: Manifest) -> list[StoredArray]:
        """The arrays of a checkpoint, whose bytes are read only when they are needed."""
        number = manifest.info.number
        return [StoredArray(self._backend, layout, number) for layout in manifest.arrays]

    def verify(self, manifest: Manifest) -> None:
        """Read all the data of a checkpoint's arrays, into a buffer of limited size.

        :raises DamagedError: if something is missing, or not what was written.
        """
        sizes = pack_sizes(self._backend)
        number = manifest.info.number
        for pack in manifest.packs:
            header = read_header(self._backend, pack, sizes, self._run_id, number)
            stored_chunks(header, sizes[pack], pack, self._backend.locate(pack_name(pack)))
        self.verify_chunks({e.chunk for layout in manifest.arrays for e in layout.extents()}, number)

    def verify_chunks(self, chunks: Iterable[Chunk], checkpoint: int) -> None:
        """Read chunks that a checkpoint needs.

        :raises DamagedError: if one is missing, or not what was written.
        """
        stored = sorted(chunk for chunk in chunks if chunk.codec != ZERO)
        buffer = memoryview(bytearray(min(READ_SIZE, sum(chunk.length for chunk in stored))))
        for run in runs(map(whole, stored)):
            length = sum(extent.take for extent in run)
            if length > buffer.nbytes:
                buffer = memoryview(bytearray(length))
            read_extents(self._backend, run, buffer[:length], checkpoint)


def checkpoint_numbers(backend: Backend) -> list[int]:
    """The numbers of the checkpoints in a backend, from the oldest to the newest."""
    numbers = (checkpoint_number(entry.name) for entry in backend.list(CHECKPOINTS))
    return sorted(number for number in numbers if number is not None)


def pack_sizes(backend: Backend) -> dict[int, int]:
    """The numbers of the packs in a backend, and the size of each in bytes."""
    found = ((pack_of(entry.name.removeprefix(f"{PACKS}/")), entry.size) for entry in backend.list(PACKS))
    return {pack: size for pack, size in found if pack is not None}


def load_manifest(backend: Backend, number: int, run_id: str | None = None) -> Manifest:
    """The manifest of checkpoint `number`; see :meth:`Catalog.load`."""
    name = manifest_name(number)
    return with_pages(backend, read_manifest(backend.get(name), name, backend.locate(name), run_id))


def with_pages(backend: Backend, manifest: Manifest) -> Manifest:
    """The same manifest, with the pages of its large arrays read."""
    where = backend.locate(manifest.info.file)
    pages = [page.kept for layout in manifest.arrays for page in layout.pages if page.kept is not None]
    # Checked before one of them is read: a few bytes may stand for very many extents.
    if (count := sum(map(count_in_page, pages))) > MOST_EXTENTS:
        raise DamagedError(
            f"{where}: expected at most {MOST_EXTENTS:,} extents in its arrays, found {count:,}"
        )
    arrays = [_with_pages(backend, layout, manifest) for layout in manifest.arrays]
    check_apart(arrays, where)
    return dataclasses.replace(manifest, arrays=arrays)


def _with_pages(backend: Backend, layout: Layout, manifest: Manifest) -> Layout:
    number, packs = manifest.info.number, frozenset(manifest.packs)
    where = f"{backend.locate(manifest.info.file)}"
    pages = []
    at = 0
    for index, page in enumerate(layout.pages):
        if page.kept is not None:
            content = bytes(read_chunk(backend, page.kept, number))
            page = load_page(content, page.start, page.kept, backend.locate(pack_name(page.kept.pack)))
        if page.extents:
            if page.start != at or at // layout.span != index:
                raise DamagedError(
                    f"{where}: page {index} of an array begins at byte {page.start}, expected {at}"
                )
            at += sum(extent.take for extent in page.extents)
        unknown = {extent.chunk.pack for extent in page.extents if extent.chunk.codec != ZERO} - packs
        if unknown:
            raise DamagedError(
                f"{where}: an array has parts in packs that are not in the manifest's list: {sorted(unknown)[:5]}"
            )
        pages.append(page)
    if at != layout.nbytes:
        raise DamagedError(f"{where}: an array of {layout.nbytes} bytes has extents of {at} bytes")
    return Layout(layout.nbytes, layout.span, pages)


def read_header(
    backend: Backend, pack: int, sizes: dict[int, int], run_id: str, checkpoint: int | None = None
) -> bytes:
    """The header of a pack, verified to be intact, and the header of this pack of this run.

    :param sizes: see :func:`pack_sizes`.
    :param checkpoint: a checkpoint that needs the pack, for messages.
    :raises DamagedError: if the pack is missing, or has another header.
    """
    name = pack_name(pack)
    where = backend.locate(name)
    if pack not in sizes:
        raise missing(backend, pack, checkpoint or 0)
    try:
        start = bytearray(min(8, sizes[pack]))
        backend.read_into(name, 0, memoryview(start))
        header = bytearray(header_length(bytes(start), sizes[pack], where))
        backend.read_into(name, 0, memoryview(header))
    except FileNotFoundError:
        raise missing(backend, pack, checkpoint or 0) from None
    check_header(bytes(header), pack_file(pack), run_id, where)
    return bytes(header)
