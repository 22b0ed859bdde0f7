"""Takes a captured state to a committed checkpoint while the training goes on.

What changed is staged, a thread writes it, and the result is noted. At most one checkpoint is written at a time. Its
result is known at the next checkpoint, at `flush` or at `close`, and an error is raised there, in the training. Knows
states and a store, and nothing of what they are states of.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Literal, get_args

from perdure.errors import CheckpointFailedWarning, DamagedError, PerdureError, StoreError, user_level
from perdure.progress import Bar
from perdure.run import _process_record
from perdure.snapshot import Stager, Staging
from perdure.store import CheckpointInfo, Committed, Store
from perdure.tree import State

#: If a checkpoint is due while another one is written: wait for that one, or skip the new one.
WhenBusy = Literal["wait", "skip"]
#: If a checkpoint cannot be written: raise the error, or warn of it and try again when the next one is due.
OnError = Literal["raise", "warn"]

#: Called with the bytes that are written and those there are to write.
_Progress = Callable[[int, int], None]


class Checkpointer:
    """Commits the checkpoints of one run.

    :param store: open for writing.
    :param retained: which of the good checkpoints to keep.
    :param when_busy: see :data:`WhenBusy`.
    :param on_error: see :data:`OnError`.
    :param say: tells the user one line.
    :raises ValueError: if `when_busy` or `on_error` is none of the choices.
    """

    def __init__(
        self,
        store: Store,
        retained: Callable[[Sequence[CheckpointInfo]], set[int]],
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
            return self._store.commit(
                staging.state,
                step=step,
                contents=staging.contents,
                counters=counters,
                metrics=metrics,
                tags=tags,
                process=_process_record.record(),
                progress=progress,
            )

        self._job = _Job(staging, tuple(tags), commit, lambda: self._store.retain(self._retained))
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
            return
        self.stager.failed(job.staging)
        self.unwritten = job.tags
        if isinstance(job.error, DamagedError):
            # Something that the checkpoint was to refer to is lost, so nothing stored before is relied on.
            self.stager.forget()
        assert job.error is not None
        last = "there is none yet" if self.last is None else f"the last one is that of step {self.last.step}"
        self._tell(
            job.error,
            f"a checkpoint could not be written ({last}); the training goes on, and the next one will be tried",
        )

    def _note_cleanup(self) -> None:
        """Note whether older checkpoints could be deleted after the last durable one."""
        job, self._before = self._before, None
        if job is not None and job.result is not None and job.error is not None:
            self._tell(
                job.error,
                f"the checkpoint of step {job.result.info.step} is written, but older ones could not be deleted",
            )

    def _tell(self, error: BaseException, what: str) -> None:
        if self._on_error != "warn" or not isinstance(error, StoreError):
            raise error
        warnings.warn(f"{what}: {error}", CheckpointFailedWarning, stacklevel=user_level())

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

    :param commit: given a function to be called with the progress.
    :param cleanup: deletes what is not kept; called only if the commit succeeded.
    """

    def __init__(
        self,
        staging: Staging,
        tags: tuple[str, ...],
        commit: Callable[[_Progress], Committed],
        cleanup: Callable[[], object],
    ) -> None:
        self.staging = staging
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
    if checkpointer is None or checkpointer._job is None or os.getpid() != checkpointer._owner:
        return
    job, checkpointer._job = checkpointer._job, None
    job.join()
    if job.error is not None:
        checkpointer._say(f"the last checkpoint could not be written: {job.error}")
