"""Check a whole run: every byte of every file that Perdure wrote into it. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from perdure.errors import DamagedError, StoreError
from perdure.store._checksummed_json import digest
from perdure.store._layout import ZERO, Chunk, whole
from perdure.store._manifest import RUN_FILE, Manifest, read_run
from perdure.store._packs import pack_name, stored_chunks
from perdure.store._reading import READ_SIZE, Catalog, pack_sizes, read_extents, read_header, runs
from perdure.store._survey import survey
from perdure.store.backends import Backend

Kind = Literal["damage", "newer format", "note"]


class Problem(NamedTuple):
    """Something that is wrong with a file.

    :param file: relative to the run's directory.
    :param problem: what is wrong with it.
    :param meaning: what that means for the run.
    :param kind: "damage" also of what could not be read; "newer format" of a checkpoint that a newer Perdure wrote;
        "note" if no checkpoint needs what is concerned.
    """

    file: str
    problem: str
    meaning: str
    kind: Kind = "damage"

    @property
    def harmless(self) -> bool:
        """Whether no checkpoint needs what is concerned."""
        return self.kind == "note"


def check(backend: Backend, catalog: Catalog, run_id: str) -> list[Problem]:
    """Everything that is wrong with the run in `backend`; see :meth:`perdure.store.Store.verify`."""
    problems = list(_check_run(backend, run_id))
    manifests: list[Manifest] = []
    for status in survey(catalog, "state"):
        if status.error is None and status.manifest is not None:
            manifests.append(status.manifest)
        else:
            kind: Kind = "newer format" if status.verdict == "newer format" else "damage"
            problems.append(Problem(status.info.file, status.problem, _cannot_be_used([status.number]), kind))
    sizes = pack_sizes(backend)
    users: dict[int, list[Manifest]] = {pack: [] for pack in sizes}
    for manifest in manifests:
        for pack in manifest.packs:
            users.setdefault(pack, []).append(manifest)
    needed: dict[int, dict[Chunk, list[int]]] = {}
    for manifest in manifests:
        for chunk in _chunks_of(manifest):
            needed.setdefault(chunk.pack, {}).setdefault(chunk, []).append(manifest.info.number)
    for pack, using in sorted(users.items()):
        found = list(_check_pack(backend, run_id, pack, using, needed.get(pack, {}), sizes))
        # A writer deletes a pack only when the manifests that needed it are gone: then there is no problem any more.
        if found and (not using or _any_left(catalog, using)):
            problems.extend(found)
    return problems


def _any_left(catalog: Catalog, manifests: Iterable[Manifest]) -> bool:
    """Whether some of these checkpoints still exist."""
    return not {manifest.info.number for manifest in manifests}.isdisjoint(catalog.numbers())


def _chunks_of(manifest: Manifest) -> set[Chunk]:
    """All chunks that a checkpoint needs, those of the pages too, which were read with the manifest."""
    extents = {extent.chunk for layout in manifest.arrays for extent in layout.extents()}
    pages = {page.kept for layout in manifest.arrays for page in layout.pages if page.kept is not None}
    return {chunk for chunk in extents | pages if chunk.codec != ZERO}


def _check_run(backend: Backend, run_id: str) -> Iterable[Problem]:
    where = backend.locate(RUN_FILE)
    try:
        if read_run(backend.get(RUN_FILE), where).id != run_id:
            yield Problem(
                RUN_FILE, f"{where} is that of another run than every checkpoint here", _RUN_MEANING
            )
    except FileNotFoundError:
        yield Problem(RUN_FILE, f"{backend.locate(RUN_FILE)} is missing", _RUN_MEANING)
    except StoreError as error:
        yield Problem(RUN_FILE, str(error), _RUN_MEANING)


_RUN_MEANING = "every manifest has a copy of its content; the next process that trains here restores it"


def _check_pack(
    backend: Backend,
    run_id: str,
    pack: int,
    using: list[Manifest],
    needed: dict[Chunk, list[int]],
    sizes: dict[int, int],
) -> Iterable[Problem]:
    name = pack_name(pack)
    if not using:
        meaning = "nothing is lost; the next process that trains here deletes it if all manifests can be read"
        yield Problem(
            name, f"no checkpoint that can be read refers to {backend.locate(name)}", meaning, "note"
        )
        return
    numbers = sorted(manifest.info.number for manifest in using)
    try:
        yield from _check_content(backend, run_id, pack, numbers, needed, sizes)
    except FileNotFoundError:
        yield Problem(name, f"{backend.locate(name)} is missing", _cannot_be_used(numbers))


def _check_content(
    backend: Backend,
    run_id: str,
    pack: int,
    numbers: list[int],
    needed: dict[Chunk, list[int]],
    sizes: dict[int, int],
) -> Iterable[Problem]:
    name = pack_name(pack)
    try:
        header = read_header(backend, pack, sizes, run_id, numbers[-1])
        described = stored_chunks(header, sizes[pack], pack, backend.locate(name))
    except DamagedError as error:
        yield Problem(name, str(error), _cannot_be_used(numbers))
        return
    # What no checkpoint needs is checked too; and what a manifest needs, even if the header does not list it.
    chunks = {chunk: needed.get(chunk, []) for chunk in described} | needed
    damaged = set()
    for chunk, problem in _check_chunks(backend, pack, chunks, numbers[-1]):
        damaged.add(chunk)
        yield problem
    for chunk, checksum in described.items():
        if checksum and chunk not in damaged:
            yield from _check_frame(backend, chunk, checksum)


def _check_frame(backend: Backend, chunk: Chunk, checksum: str) -> Iterable[Problem]:
    """Find changed bytes in a compressed chunk that still decompresses to the right content."""
    name = pack_name(chunk.pack)
    stored = memoryview(bytearray(chunk.stored))
    backend.read_into(name, chunk.offset, stored)
    if digest(stored) != checksum:
        yield Problem(
            name,
            f"{backend.locate(name)} is damaged: bytes {chunk.offset} to {chunk.offset + chunk.stored} are not what "
            "was written, although they decompress to the right content",
            "nothing is lost, but do not trust the disk: copy the run to another one",
            "note",
        )


def _check_chunks(
    backend: Backend, pack: int, chunks: dict[Chunk, list[int]], number: int
) -> Iterable[tuple[Chunk, Problem]]:
    buffer = memoryview(bytearray(min(READ_SIZE, sum(chunk.length for chunk in chunks))))
    for run in runs(map(whole, sorted(chunks)), READ_SIZE):
        length = sum(extent.take for extent in run)
        if length > buffer.nbytes:
            buffer = memoryview(bytearray(length))
        try:
            read_extents(backend, run, buffer[:length], number)
        except DamagedError:
            # One by one, so that each damaged chunk is named, and only those.
            for extent in run:
                try:
                    read_extents(backend, [extent], buffer[: extent.take], number)
                except DamagedError as error:
                    users = chunks[extent.chunk]
                    meaning = (
                        _cannot_be_used(users)
                        if users
                        else "nothing is lost: no checkpoint needs these bytes"
                    )
                    yield (
                        extent.chunk,
                        Problem(pack_name(pack), str(error), meaning, "damage" if users else "note"),
                    )


def _cannot_be_used(numbers: Iterable[int]) -> str:
    listed = sorted(set(numbers))
    what = "checkpoint" if len(listed) == 1 else "checkpoints"
    return f"{what} {', '.join(map(str, listed))} cannot be used"
