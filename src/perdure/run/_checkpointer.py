"""Takes a captured state to a committed checkpoint while the training goes on.

What changed is staged, a thread writes it, and the result is noted. At most one checkpoint is written at a time. Its
result is known at the next checkpoint, at `flush` or at `close`, and an error is raised there, in the training. Knows
states and a store, and nothing of what they are states of.
"""

from __future__ import annotations

import atexit
import gc
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Literal, TypeGuard, TypeVar, get_args

from perdure.errors import CheckpointFailedWarning, DamagedError, PerdureError, StoreError
from perdure.progress import Bar
from perdure.run import _process_record
from perdure.run._unsaved import Unsaved
from perdure.snapshot import Stager, Staging
from perdure.store import CheckpointInfo, Committed, Store, is_full
from perdure.tree import State

#: If a checkpoint is due while another one is written: wait for that one, or skip the new one.
WhenBusy = Literal["wait", "skip"]
#: If a checkpoint cannot be written: raise the error, or warn of it and try again when the next one is due.
OnError = Literal["raise", "warn"]

_Written = TypeVar("_Written")
#: Called with the bytes that are written and those there are to write.
_Progress = Callable[[int, int], None]


class Checkpointer:
    """Commits the checkpoints of one run.

    :param store: open for writing.
    :param retained: which of the good checkpoints to keep.
    :param spared: which of them to keep where there is no room for all of those.
    :param when_busy: see :data:`WhenBusy`.
    :param on_error: see :data:`OnError`.
    :param say: tells the user one line.
    :raises ValueError: if `when_busy` or `on_error` is none of the choices.
    """

    def __init__(
        self,
        store: Store,
        retained: Callable[[Sequence[CheckpointInfo]], set[int]],
        spared: Callable[[Sequence[CheckpointInfo]], set[int]],
        *,
        when_busy: WhenBusy,
        on_error: OnError,
        say: Callable[[str], None],
    ) -> None:
        for name, value, choices in (
            ("when_busy", when_busy, get_args(WhenBusy)),
            ("on_error", on_error, get_args(OnError)),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(choices)}, found {value!r:.80}")
        self.stager = Stager()
        #: The newest checkpoint that is committed; None before one.
        self.last: CheckpointInfo | None = None
        #: The tags of the last checkpoint, if it could not be written.
        self.unwritten: tuple[str, ...] = ()
        self._store = store
        self._retained = retained
        self._spared = spared
        #: What could not be saved.
        self.unsaved = Unsaved()
        self._told_room = False
        self._when_busy = when_busy
        self._on_error = on_error
        self._say = say
        #: The checkpoint that is being written.
        self._job: _Job | None = None
        #: The last durable one; older checkpoints may still be being deleted after it.
        self._before: _Job | None = None
        # One thread for all checkpoints, because to start one takes longer than to copy a network. At its exit the
        # interpreter waits for what the thread still has to do.
        self._thread = ThreadPoolExecutor(1, "perdure checkpoint")
        self._owner = os.getpid()
        # An error that no later call could raise is printed when the interpreter exits.
        reference = weakref.ref(self)
        self._at_exit = lambda: _report(reference)
        atexit.register(self._at_exit)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._job is not None and not self._job.durable

    def acquire_slot(self) -> bool:
        """Whether a checkpoint can start now. While another one is written this waits, or says that the new one is
        skipped, as `when_busy` tells."""
        if self.busy and self._when_busy == "skip":
            self._say("a checkpoint is left out: the one before it is still being written")
            return False
        self.poll(wait=True)
        return True

    def save(
        self,
        state: State,
        *,
        wait: bool,
        step: int,
        counters: Mapping[str, Any] | None,
        metrics: Mapping[str, Any] | None,
        tags: Sequence[str],
    ) -> CheckpointInfo | None:
        """Stage a state, and have it committed.

        :param state: captured just now.
        :param wait: until it is durable; otherwise this returns as soon as the training may go on.
        :returns: the checkpoint, if it was waited for; None also where an error was warned of.
        :raises StoreError: if it could not be written, or this is a forked child of the process whose run it is.
        """
        if os.getpid() != self._owner:
            raise StoreError(
                f"the run was opened by process {self._owner}; this is a child of it (process {os.getpid()}), which "
                "must not write to the run"
            )
        self.poll(wait=True)
        self.unwritten = ()
        staging = self.stager.stage(state)

        def commit(progress: _Progress) -> Committed:
            staging.ready()
            return self.with_room(
                lambda: self._store.commit(
                    staging.state,
                    step=step,
                    contents=staging.contents,
                    counters=counters,
                    metrics=metrics,
                    tags=tags,
                    process=_process_record.record(),
                    progress=progress,
                )
            )

        self._job = _Job(staging, step, tuple(tags), commit, lambda: self._store.retain(self._retained))
        # What is too large to be copied is written from where it lies, so the training must not change it.
        if wait or staging.live:
            self._job.run_here()
        else:
            self._job.start(self._thread)
            return None
        self.poll(wait=True)
        return self.last if wait else None

    def poll(self, *, wait: bool = False) -> None:
        """Note the result of the checkpoint that is being written, if it is there.

        :param wait: for the result.
        :raises StoreError: if the checkpoint could not be written, and errors are to be raised.
        """
        # This is called at every step, and to ask for the process id takes longer than everything else here.
        if (self._job is None and self._before is None) or os.getpid() != self._owner:
            return
        job = self._job
        if job is not None and (job.durable or wait):
            job.join()
            self._job = None
            self._note(job)
            # There is one thread, so everything before this job has ended too.
            self._note_cleanup()
            self._before = job
        if self._before is not None and self._before.cleaned_up:
            self._note_cleanup()

    def _note(self, job: _Job) -> None:
        if job.result is not None:
            self.stager.committed(job.staging, job.result.arrays)
            self.last = job.result.info
            self.unsaved.saved()
            return
        self.stager.failed(job.staging)
        self.unwritten = job.tags
        if isinstance(job.error, DamagedError):
            # Something that the checkpoint was to refer to is lost, so nothing stored before is relied on.
            self.stager.forget()
        assert job.error is not None
        if not self._goes_on(job.error):
            raise job.error
        self._warn(self.unsaved.failed(job.step, None if self.last is None else self.last.step, job.error))

    def _note_cleanup(self) -> None:
        """Note whether older checkpoints could be deleted after the last durable one."""
        job, self._before = self._before, None
        if job is not None and job.result is not None and job.error is not None:
            if not self._goes_on(job.error):
                raise job.error
            step = job.result.info.step
            self._warn(
                f"the checkpoint of step {step} is written, but older ones could not be deleted: {job.error}"
            )

    def _goes_on(self, error: BaseException) -> TypeGuard[StoreError]:
        """Whether the training goes on after an error."""
        return self._on_error == "warn" and isinstance(error, StoreError)

    def _warn(self, text: str | None) -> None:
        if text is not None:
            warnings.warn(text, CheckpointFailedWarning, stacklevel=6)

    def with_room(self, write: Callable[[], _Written]) -> _Written:
        """Write something. Where the disk is full, older checkpoints give way one by one until it fits.

        :raises StoreError: if it does not fit although only what must stay is left.
        """
        while True:
            try:
                return write()
            except StoreError as error:
                if not is_full(error) or (gone := self._store.make_room(self._spared)) is None:
                    raise
            # What the error still refers to may be a file that was deleted and is open, and takes space.
            gc.collect()
            if not self._told_room:
                self._told_room = True
                self._say(
                    f"the disk is full, so an older checkpoint was deleted to make room (that of step {gone.step}). "
                    "From now on fewer are kept than was asked for, as long as there is too little space"
                )

    def policy_failed(self, score: float, error: StoreError) -> None:
        """Warn that the best policy could not be published, or raise the error."""
        if not self._goes_on(error):
            raise error
        self._warn(self.unsaved.policy_failed(score, error))

    def tell_unsaved(self) -> None:
        """Say what could not be saved, if anything could not."""
        if (text := self.unsaved.summary(None if self.last is None else self.last.step)) is not None:
            self._say(text)

    def flush(self) -> None:
        """Wait until the checkpoint that is being written is durable.

        :raises StoreError: if it could not be written, and errors are to be raised.
        """
        self.poll(wait=True)

    def wait_until_idle(self) -> None:
        """Wait until nothing is being written or deleted any more.

        :raises StoreError: see `poll`.
        """
        self.poll(wait=True)
        if self._before is not None:
            self._before.join(cleanup=True)
            self._note_cleanup()

    def close(self) -> None:
        """Wait for everything that was started. Errors are raised once more, and not told after this."""
        atexit.unregister(self._at_exit)
        try:
            self.wait_until_idle()
        finally:
            if os.getpid() == self._owner:
                self._thread.shutdown()


class _Job:
    """One checkpoint: its commit, and then the deletion of older ones.

    :param step: how many steps are done.
    :param commit: given a function to be called with the progress.
    :param cleanup: deletes what is not kept; called only if the commit succeeded.
    """

    def __init__(
        self,
        staging: Staging,
        step: int,
        tags: tuple[str, ...],
        commit: Callable[[_Progress], Committed],
        cleanup: Callable[[], object],
    ) -> None:
        self.staging = staging
        self.step = step
        self.tags = tags
        self.result: Committed | None = None
        self.error: BaseException | None = None
        self._commit = commit
        self._cleanup = cleanup
        #: The commit, and then the deletion, if they run in the thread.
        self._running: list[Future[None]] = []
        #: Shows the progress to somebody who waits. That may begin long after the commit did.
        self._bar: Bar | None = None

    @property
    def durable(self) -> bool:
        """Whether the checkpoint is durable, or failed."""
        return all(each.done() for each in self._running[:1])

    @property
    def cleaned_up(self) -> bool:
        """Whether nothing is left to do, also no deletion of older checkpoints."""
        return all(each.done() for each in self._running)

    def start(self, thread: ThreadPoolExecutor) -> None:
        """Run in a thread."""
        try:
            self._running.append(thread.submit(self._write, thread))
        except RuntimeError:  # the interpreter is exiting, and no thread can be started
            self.run_here()

    def run_here(self) -> None:
        """Run now, in the calling thread."""
        with self._shown():
            self._write()
            self._clean_up()

    def join(self, *, cleanup: bool = False) -> None:
        """Wait until the checkpoint is durable.

        :param cleanup: wait for the deletion of older checkpoints too.
        """
        if self.cleaned_up if cleanup else self.durable:
            return
        with self._shown():
            wait(self._running if cleanup else self._running[:1])

    @contextmanager
    def _shown(self) -> Iterator[None]:
        with Bar("writing a checkpoint") as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def _progressed(self, done: int, total: int) -> None:
        if (bar := self._bar) is not None:
            bar.update(done, total)

    def _write(self, thread: ThreadPoolExecutor | None = None) -> None:
        with self._keeping_errors():
            self.result = self._commit(self._progressed)
            self.staging.release()
        if thread is not None:
            try:
                self._running.append(thread.submit(self._clean_up))
            except RuntimeError:  # as above
                self._clean_up()

    def _clean_up(self) -> None:
        if self.result is not None and self.error is None:
            with self._keeping_errors():
                self._cleanup()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.error = error
            # An error that is kept must not keep the arrays of every frame it passed.
            if isinstance(error, PerdureError):
                error.__traceback__ = None


def _report(reference: weakref.ref[Checkpointer]) -> None:
    checkpointer = reference()
    if checkpointer is None or os.getpid() != checkpointer._owner:
        return
    if checkpointer._job is None:
        checkpointer.tell_unsaved()
        return
    job, checkpointer._job = checkpointer._job, None
    job.join()
    if job.error is not None:
        checkpointer._say(f"the last checkpoint could not be written: {job.error}")
