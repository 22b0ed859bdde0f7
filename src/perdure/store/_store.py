"""The store of one run: commits states durably, and reads back the newest one that is undamaged.

The directory of a run::

    run.json                      what this run is
    checkpoints/00000012.json     a manifest: a checkpoint exists if and only if this does
    packs/00000012.safetensors    array data, written once, shared by later checkpoints

Knows bytes and files, and not what a state means.
"""

from __future__ import annotations

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from perdure import tree
from perdure.errors import (
    DamagedCheckpointWarning,
    DamagedError,
    PerdureWarning,
    StoreError,
    UnsupportedFormatError,
    user_level,
)
from perdure.store import _retention, _verify
from perdure.store._checksummed_json import from_plain, to_plain
from perdure.store._commit_plan import CommitPlan, Known
from perdure.store._manifest import (
    RUN_FILE,
    CheckpointInfo,
    Manifest,
    RunInfo,
    library_versions,
    manifest_name,
    now,
    write_manifest,
    write_run,
)
from perdure.store._open_run import open_run
from perdure.store._packs import Compression, Compressor, PackWriter, pack_number
from perdure.store._reading import Catalog, StoredArray, pack_sizes
from perdure.store._survey import CheckpointStatus, Depth, survey
from perdure.store.backends import GET_LIMIT, Backend, LocalBackend, put_new


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint all of whose data was verified.

    :param info: what its manifest says of it.
    :param state: the state. Its arrays are read, and verified again, when they are wanted.
    """

    info: CheckpointInfo
    state: tree.State


@dataclass(frozen=True)
class Committed:
    """What a commit made.

    :param info: the new checkpoint.
    :param arrays: for each of the state's arrays, in the order of `State.arrays`, where it is stored.
    """

    info: CheckpointInfo
    arrays: Sequence[StoredArray]


class Store:
    """The checkpoints of one run. Made by :meth:`open`; use it as a context manager, or :meth:`close` it.

    A store opened for writing may be used by several threads. A forked child must not write with its parent's store.
    """

    def __init__(
        self,
        backend: Backend,
        run: RunInfo,
        *,
        write: bool,
        compression: Compression = "auto",
    ) -> None:
        self._backend = backend
        self._compress = Compressor(compression)
        self._run = run
        self._catalog = Catalog(backend, run.id)
        self._writer = os.getpid() if write else None
        self._mutex = threading.RLock()
        # Kept from the first commit on: to start a thread takes longer than to write a small file.
        self._threads = ThreadPoolExecutor(2, "perdure packs")
        self._damaged: dict[int, str] = {}
        # The newest checkpoint that was read, and its arrays; what of them was read is known to be whole.
        self._newest: tuple[int, list[StoredArray]] | None = None
        # What the next commit may refer to; None until it is needed.
        self._known: Known | None = None

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str] | Backend,
        *,
        write: bool = False,
        wait: float = 5.0,
        compression: Compression = "auto",
    ) -> Store:
        """Open the run at `where`, a directory or a backend.

        A reader needs no lock, and may read while another process writes. A writer takes the lock, creates
        the run if there is none, and removes what a writer that died left behind.

        :param wait: for how many seconds to wait for another writer to end.
        :param compression: "auto" compresses what is worth the time, "zstd" everything that gets smaller.
        :raises LockedError: if another process is writing to the run.
        :raises UnsupportedFormatError: if the run was written by a newer Perdure.
        :raises DamagedError: if ``run.json`` is damaged and there is no manifest to restore it from.
        :raises StoreError: if there is no run to read, or the directory cannot be written to.
        """
        backend = LocalBackend(where) if isinstance(where, str | os.PathLike) else where
        if not write:
            return cls(backend, open_run(backend), write=False)
        created = RunInfo(uuid.uuid4().hex, now(), dict(library_versions()), {})
        backend.lock(wait)
        try:
            found = open_run(backend, created)
            store = cls(backend, found, write=True, compression=compression)
            _retention.sweep(backend, store._catalog)
        except BaseException:
            backend.unlock()
            raise
        return store

    @property
    def run(self) -> RunInfo:
        """What this run is."""
        return self._run

    def commit(
        self,
        state: tree.State,
        *,
        step: int,
        contents: Sequence[tree.Content] | None = None,
        counters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        process: Mapping[str, Any] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Committed:
        """Make `state` a checkpoint: after it returns, the checkpoint survives a power cut.

        If the process dies before, there is no such checkpoint, and the older ones are as they were. Only chunks that
        the previous checkpoint does not hold are written; of an array whose content is :class:`perdure.tree.Staged`,
        only what was copied is looked at. The packs of one checkpoint take at most twice the bytes that it needs of
        them, and 4 MiB; with retention, that bounds the disk space of a run.

        :param state: what is stored of its arrays must not change until this returns.
        :param step: how far the run is, in whatever unit it counts.
        :param contents: for each of `state.arrays`, what to store; by default the arrays themselves.
        :param counters: JSON-able.
        :param metrics: JSON-able; NaN and infinities may be in it.
        :param tags: for finding it again.
        :param process: which process commits it, JSON-able.
        :param progress: called now and then with the number of bytes written and of all bytes to write.
        :raises StoreError: if it could not be written, for instance because the disk is full. No older checkpoint is
            lost, and the commit can be tried again.
        :raises DamagedError: if something that it would refer to is damaged or missing. Commit the whole state.
        """
        if isinstance(tags, str):
            raise TypeError(f"expected a list of tags, found the string {tags!r:.80}; give [{tags!r:.80}]")
        self._check_writer()
        given = [array.data for array in state.arrays] if contents is None else contents
        blobs = [tree.Blob(array, content) for array, content in zip(state.arrays, given, strict=True)]
        with self._mutex:
            self.check_writable()
            known = self._known
            if known is None:
                # At the start, and after a commit that failed and may have left a pack.
                _retention.sweep(self._backend, self._catalog)
                known = self._find_known()
            if self._newest is not None and self._newest[0] not in self._catalog.numbers():
                known = self._begin_anew(self._newest[0])
            sizes = pack_sizes(self._backend)
            # Higher than every number there is: no name is given twice, not even after a commit that failed.
            number = max([0, *map(pack_number, sizes), *self._catalog.numbers()]) + 1
            info = CheckpointInfo(
                number=number,
                file=manifest_name(number),
                step=int(step),
                created=now(),
                bytes=sum(blob.nbytes for blob in blobs),
                counters=from_plain(to_plain(dict(counters or {}), "counters")),
                metrics=from_plain(to_plain(dict(metrics or {}), "metrics")),
                tags=tuple(map(str, tags)),
                versions=dict(library_versions()),
                process=process,
            )
            plan = CommitPlan(blobs, known, sizes, self._backend, number)
            # Only a commit that succeeds tells what the disk holds.
            self._known = None
            try:
                manifest, content = self._write(plan, state, info, progress)
            except StoreError:
                # What was written so far takes space, of which there may be too little.
                with suppress(StoreError, FileNotFoundError):
                    _retention.sweep(self._backend, self._catalog)
                raise
            self._catalog.note(manifest, content)
            stored = [StoredArray(self._backend, each, number, verified=True) for each in manifest.arrays]
            self._known = Known(manifest.arrays)
            self._newest = number, stored
            return Committed(info, stored)

    def _write(
        self,
        plan: CommitPlan,
        state: tree.State,
        info: CheckpointInfo,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[Manifest, bytes]:
        """Write the packs of a checkpoint, and last its manifest; returns that, and its bytes."""
        done = 0

        def wrote(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(min(done, plan.size), plan.size)

        with PackWriter(
            self._backend, info.number, self._run.id, self._compress, self._threads, wrote
        ) as writer:
            layouts = plan.carry_out(writer)
            # Made while the arrays are being written.
            manifest = Manifest(self._run, info, tree.document(state), plan.packs, layouts)
            content = write_manifest(manifest)
            if len(content) > GET_LIMIT:
                raise StoreError(
                    f"the state's structure takes {len(content)} bytes, at most {GET_LIMIT} can be "
                    "stored: it has too many small objects; keep them in arrays"
                )
        # Last, and only when the data is durable: with the manifest, the checkpoint exists.
        put_new(self._backend, info.file, [content])
        return manifest, content

    def checkpoints(self) -> list[CheckpointInfo]:
        """All checkpoints, from the oldest to the newest.

        Only the manifests are read. Of one that cannot be read, the number and the file are all that is known;
        :meth:`survey` says what is wrong with it.
        """
        return [status.info for status in self.survey()]

    def survey(self, depth: Depth = "glance") -> list[CheckpointStatus]:
        """All checkpoints, from the oldest to the newest, and whether each can be used.

        :param depth: how much of each is looked at: "glance" at its manifest and the sizes of its files, "state" at all
            that its manifest says, "data" at that and every byte. Only :meth:`verify` looks at bytes that no checkpoint
            needs.
        """
        return list(survey(self._catalog, depth))

    def read(self, number: int, *, deep: bool = True) -> Checkpoint:
        """Checkpoint `number`, after all of its data was read once and verified.

        :param deep: False to check only its manifest and that its files are there. Data is always verified
            when it is read.
        :raises DamagedError: if anything in it is damaged or missing.
        :raises StoreError: if there is no such checkpoint.
        """
        try:
            return self._read(number, deep)
        except FileNotFoundError:
            there = ", ".join(map(str, self._catalog.numbers())) or "none"
            raise StoreError(
                f"there is no checkpoint {number} in {self._backend.locate('')}; those there are: {there}"
            ) from None

    def latest(self, *, deep: bool = True, before: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that can be used, or None if there are none at all.

        For each newer one that is damaged there is a :class:`DamagedCheckpointWarning`.

        :param deep: see :meth:`read`.
        :param before: only those of a lower number.
        :raises DamagedError: if there are checkpoints, but not one is whole.
        :raises UnsupportedFormatError: if a newer Perdure wrote one that is newer than that: its progress must not be
            lost silently.
        """
        found, damaged = self._newest_good(deep, before)
        if found is None and damaged:
            listed = "\n".join(f"  checkpoint {number}: {problem}" for number, problem in damaged.items())
            raise DamagedError(f"none of the checkpoints in {self._backend.locate('')} is whole:\n{listed}")
        for number, problem in damaged.items():
            assert found is not None
            warnings.warn(
                f"checkpoint {number} is damaged, and checkpoint {found.info.number} (step "
                f"{found.info.step}) is used instead. What is wrong with {manifest_name(number)}: {problem}",
                DamagedCheckpointWarning,
                stacklevel=user_level(),
            )
        return found

    def _newest_good(self, deep: bool, before: int | None) -> tuple[Checkpoint | None, dict[int, str]]:
        """The newest checkpoint that can be used, and what is wrong with each newer one."""
        while True:
            damaged: dict[int, str] = {}
            found: Checkpoint | None = None
            vanished = False
            for number in reversed(self._catalog.numbers()):
                if before is not None and number >= before:
                    continue
                try:
                    found = self._read(number, deep)
                    break
                except FileNotFoundError:
                    vanished = True
                except DamagedError as error:
                    damaged[number] = str(error)
            # Another process's retention may have deleted a checkpoint while it was read here.
            left = set(self._catalog.numbers()) if damaged else set()
            vanished = vanished or not left.issuperset(damaged)
            damaged = {number: problem for number, problem in damaged.items() if number in left}
            if found is not None or not vanished:
                return found, damaged

    def verify(self) -> list[_verify.Problem]:
        """Everything that is wrong with the files of the run. Reads every byte of them."""
        return _verify.check(self._backend, self._catalog, self._run.id)

    def retain(self, keep: _retention.Keep) -> list[int]:
        """Delete the checkpoints that need not be kept, and the data that only they needed.

        The newest good one is always kept. A damaged one is deleted, with a :class:`DamagedCheckpointWarning`, once two
        good ones are newer. Until then no pack is deleted, because the packs it needs are unknown.

        :param keep: the numbers to keep; or a function that gets the good checkpoints, from the oldest to the newest,
            and returns these numbers.
        :returns: the numbers of the deleted checkpoints.
        """
        with self._mutex:
            self.check_writable()
            return _retention.retain(self._backend, self._catalog, keep, self._damaged)

    def check_writable(self) -> None:
        """Check that the run is still where it was opened, and that no other process writes to it.

        :raises LockedError: if another process writes to it nevertheless.
        :raises StoreError: if it was moved or removed, or this store is not open for writing in this process.
        """
        self._check_writer()
        self._backend.check_lock()

    def close(self) -> None:
        """Let other processes write. Checkpoints that were read stay readable."""
        if self._writer != os.getpid():
            # A forked child has the mutex as the parent had it at that moment, maybe locked for ever.
            self._writer = None
            return
        with self._mutex:
            self._threads.shutdown()
            self._backend.unlock()
            self._writer = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store of run {self._run.id} in {self._backend.locate('')}>"

    def _read(self, number: int, deep: bool = True) -> Checkpoint:
        try:
            manifest = self._catalog.load(number)
            if deep:
                self._catalog.verify(manifest)
            else:
                self._catalog.check_sizes(manifest)
            state, sources = self._catalog.decode(manifest, verified=deep)
        except DamagedError as error:
            self._damaged[number] = str(error)
            raise
        if deep:
            self._damaged.pop(number, None)
        if self._newest is None or self._newest[0] <= number:
            self._newest = number, sources
        return Checkpoint(manifest.info, state)

    def give_up(self, number: int, problem: str) -> None:
        """Take note that a checkpoint is damaged, as was found out when its arrays were read."""
        self._damaged[number] = problem
        if self._newest is not None and self._newest[0] == number:
            self._newest = None

    def _find_known(self) -> Known:
        # Only of a checkpoint whose data was verified. Otherwise each checkpoint could take over a damaged chunk from
        # the one before, and the run would not have a single good one.
        for number in reversed(self._catalog.numbers()):
            try:
                if self._newest is None or self._newest[0] != number:
                    if number in self._damaged:
                        continue
                    self._read(number, deep=False)
                assert self._newest is not None
                arrays = self._newest[1]
                unread = {e.chunk for each in arrays if not each.verified for e in each.layout.extents()}
                self._catalog.verify_chunks(unread, number)
            except DamagedError as error:
                self.give_up(number, str(error))
                continue
            except (UnsupportedFormatError, FileNotFoundError):
                continue
            return Known([each.layout for each in arrays])
        return Known([])

    def _begin_anew(self, deleted: int) -> Known:
        """Go on after someone deleted the newest checkpoint, and maybe more, while the run went on."""
        warnings.warn(
            f"checkpoint {deleted} was deleted from {self._backend.locate('')}, and not by this process. The next one "
            "is written whole",
            PerdureWarning,
            stacklevel=user_level(),
        )
        self._newest = None
        with suppress(FileExistsError):
            self._backend.put(RUN_FILE, [write_run(self._run)])
        return Known([])

    def _check_writer(self) -> None:
        if self._writer == os.getpid():
            return
        if self._writer is None:
            raise StoreError(f"{self!r} is not open for writing: use Store.open(..., write=True)")
        raise StoreError(
            f"{self!r} was opened by process {self._writer}; this is a child of it (process {os.getpid()}), "
            "which must not write to the run"
        )
