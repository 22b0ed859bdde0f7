"""The check of a whole run directory: every byte of every file that Perdure wrote into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from perdure import tree
from perdure.errors import DamagedError, StoreError
from perdure.store.backend import Backend
from perdure.store.manifest import RUN_FILE, Manifest, manifest_name, read_run
from perdure.store.packs import PACKS, Chunk, Pack, stored_chunks
from perdure.store.reading import Catalog, buffered, pack_sizes, read_chunks, verify_header


class Problem(NamedTuple):
    """Something that is not as it should be.

    :param file: relative to the run's directory.
    :param problem: what is wrong with it.
    :param meaning: what that means for the run.
    :param harmless: nothing that any checkpoint needs is concerned.
    """

    file: str
    problem: str
    meaning: str
    harmless: bool = False


def check(backend: Backend, catalog: Catalog, run_id: str) -> list[Problem]:
    """Everything that is wrong with what `backend` holds; see :meth:`perdure.store.Store.verify`."""
    problems = list(_check_run(backend, run_id))
    manifests: list[Manifest] = []
    for number in catalog.numbers():
        try:
            manifest = catalog.load(number)
            tree.decode(manifest.document, catalog.sources(manifest))
            manifests.append(manifest)
        except FileNotFoundError:
            continue  # deleted by the writer's retention in the meantime
        except StoreError as error:
            problems.append(Problem(manifest_name(number), str(error), f"checkpoint {number} cannot be used"))
    sizes = pack_sizes(backend)
    users: dict[str, list[Manifest]] = {file: [] for file in sizes}
    for manifest in manifests:
        for pack in manifest.packs:
            users.setdefault(pack.file, []).append(manifest)
    for file, using in sorted(users.items()):
        problems.extend(_check_pack(backend, file, using, sizes))
    return problems


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


_RUN_MEANING = "every manifest has a copy of what it said; the next writer restores it from the newest one"


def _check_pack(
    backend: Backend, file: str, using: list[Manifest], sizes: dict[str, int]
) -> Iterable[Problem]:
    name = f"{PACKS}/{file}"
    if not using:
        meaning = "nothing is lost; the next writer deletes it if all manifests can be read"
        yield Problem(name, f"no checkpoint that can be read refers to {backend.locate(name)}", meaning, True)
        return
    known = {pack: manifest.info.number for manifest in using for pack in manifest.packs if pack.file == file}
    everyone = _cannot_be_used(manifest.info.number for manifest in using)
    if len(known) > 1:
        yield Problem(name, f"the manifests do not agree on what {backend.locate(name)} is", everyone)
    for pack, number in known.items():
        chunks: dict[Chunk, list[int]] = {}
        for manifest in using:
            for chunk in _chunks_in(manifest, pack):
                chunks.setdefault(chunk, []).append(manifest.info.number)
        try:
            header = verify_header(backend, pack, sizes, number)
            for chunk in stored_chunks(header, pack.size, backend.locate(name)):
                chunks.setdefault(chunk, [])
        except DamagedError as error:
            yield Problem(name, str(error), everyone)
            continue
        yield from _check_chunks(backend, pack, chunks, number)


def _chunks_in(manifest: Manifest, pack: Pack) -> Iterable[Chunk]:
    packs = manifest.packs
    return {
        chunk._replace(pack=0) for array in manifest.arrays for chunk in array if packs[chunk.pack] == pack
    }


def _check_chunks(
    backend: Backend, pack: Pack, chunks: dict[Chunk, list[int]], number: int
) -> Iterable[Problem]:
    for run, buffer in buffered(sorted(chunks)):
        try:
            read_chunks(backend, pack, run, buffer, number)
        except DamagedError:
            # One by one, so that each damaged chunk is named, and only those.
            for chunk in run:
                try:
                    read_chunks(backend, pack, [chunk], buffer[: chunk.length], number)
                except DamagedError as error:
                    users = chunks[chunk]
                    meaning = (
                        _cannot_be_used(users)
                        if users
                        else "nothing is lost: no checkpoint needs these bytes"
                    )
                    yield Problem(pack.name, str(error), meaning, not users)


def _cannot_be_used(numbers: Iterable[int]) -> str:
    listed = sorted(set(numbers))
    what = "checkpoint" if len(listed) == 1 else "checkpoints"
    return f"{what} {', '.join(map(str, listed))} cannot be used"
