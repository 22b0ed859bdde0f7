"""From a state to a committed checkpoint while the training goes on: set aside, written by a thread, taken note of.

At most one checkpoint is on its way. What becomes of it is known at the next one, at `flush` or at `close`, and an
error there is raised where the training is. It knows states and a store, and nothing of what they are states of.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from perdure.errors import CheckpointFailedWarning, DamagedError, PerdureError, StoreError
from perdure.progress import Bar
from perdure.snapshot import Stager, Staging
from perdure.store import CheckpointInfo, Store
from perdure.tree import State

#: While another checkpoint is written, the next one waits for it, or is left out.
WHEN_BUSY = ("wait", "skip")
#: A checkpoint that cannot be written ends the training, or is warned of and tried again the next time.
ON_ERROR = ("raise", "warn")


class Checkpointer:
    """Commits the checkpoints of one run.

    :param store: open for writing.
    :param retained: which of the good checkpoints to keep.
    :param when_busy: see :data:`WHEN_BUSY`.
    :param on_error: see :data:`ON_ERROR`.
    :param say: tells a person one line.
    """

    def __init__(
        self,
        store: Store,
        retained: Callable[[Sequence[CheckpointInfo]], set[int]],
        *,
        when_busy: str,
        on_error: str,
        say: Callable[[str], None],
    ) -> None:
        for name, value, allowed in (("when_busy", when_busy, WHEN_BUSY), ("on_error", on_error, ON_ERROR)):
            if value not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, found {value!r:.80}")
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
        self._job: _Job | None = None
        #: The last one that is durable; what is done after it may be going on.
        self._before: _Job | None = None
        # One thread for all checkpoints: to start one takes longer than to copy a network. When the interpreter
        # ends, it waits for what is on its way.
        self._thread = ThreadPoolExecutor(1, "perdure checkpoint")
        self._owner = os.getpid()
        # An error that nobody asks for any more is told when the interpreter ends.
        reference = weakref.ref(self)
        self._at_exit = lambda: _report(reference)
        atexit.register(self._at_exit)

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._job is not None and not self._job.done

    def free(self) -> bool:
        """Whether a checkpoint can begin now, as `when_busy` says; waits for the one before it, or says that it is
        left out."""
        if self.busy and self._when_busy == "skip":
            self._say("a checkpoint is left out: the one before it is still being written")
            return False
        self.collect(wait=True)
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
        """Set a state aside, and have it committed.

        :param state: captured a moment ago.
        :param wait: until it is durable; otherwise this returns as soon as the training may go on.
        :returns: the checkpoint, if it was waited for; None also where an error was warned of.
        :raises StoreError: if it could not be written, or this is a forked child of the process whose run it is.
        """
        if os.getpid() != self._owner:
            raise StoreError(
                f"the run was opened by process {self._owner}; this is a child of it (process {os.getpid()}), which "
                "must not write to the run"
            )
        self.collect(wait=True)
        self.unwritten = ()
        staging = self.stager.stage(state)

        def commit() -> CheckpointInfo:
            staging.ready()
            return self._store.commit(state, step=step, counters=counters, metrics=metrics, tags=tags)

        self._job = _Job(
            staging, tuple(tags), commit, lambda: self._store.retain(self._retained), self._store
        )
        # Arrays too large to be set aside are written from where they are, so nothing may change them.
        if wait or staging.live:
            self._job.run_here()
        else:
            self._job.start(self._thread)
            return None
        self.collect(wait=True)
        return self.last if wait else None

    def collect(self, *, wait: bool = False) -> None:
        """Take note of what became of the checkpoint that was on its way.

        :raises StoreError: if it could not be written, and errors are to be raised.
        """
        # This is asked at every step, and to ask the system who one is takes longer than all else here.
        if (self._job is None and self._before is None) or os.getpid() != self._owner:
            return
        job = self._job
        if job is not None and (job.done or wait):
            job.join()
            self._job = None
            self._take_note(job)
            # One thread does one thing after the other: so all of what was before it is over.
            self._settle()
            self._before = job
        if self._before is not None and self._before.over:
            self._settle()

    def _take_note(self, job: _Job) -> None:
        if job.info is not None:
            self.stager.committed(job.staging)
            self.last = job.info
            return
        self.stager.failed(job.staging)
        self.unwritten = job.tags
        if isinstance(job.error, DamagedError):
            # What was to be referred to is lost, so nothing that was there before is trusted.
            self.stager.forget()
        assert job.error is not None
        last = "there is none yet" if self.last is None else f"the last one is that of step {self.last.step}"
        self._tell(
            job.error,
            f"a checkpoint could not be written ({last}); the training goes on, and the next one will be tried",
        )

    def _settle(self) -> None:
        """Take note of what became of what was done after the checkpoint before."""
        job, self._before = self._before, None
        if job is not None and job.info is not None and job.error is not None:
            self._tell(
                job.error,
                f"the checkpoint of step {job.info.step} is written, but older ones could not be deleted",
            )

    def _tell(self, error: BaseException, what: str) -> None:
        if self._on_error != "warn" or not isinstance(error, StoreError):
            raise error
        warnings.warn(f"{what}: {error}", CheckpointFailedWarning, stacklevel=6)

    def flush(self) -> None:
        """Wait until the checkpoint that is on its way is durable.

        :raises StoreError: if it could not be written, and errors are to be raised.
        """
        self.collect(wait=True)

    def wait_until_idle(self) -> None:
        """Wait until nothing is written nor deleted any more.

        :raises StoreError: see `collect`.
        """
        self.collect(wait=True)
        if self._before is not None:
            self._before.join(over=True)
            self._settle()

    def close(self) -> None:
        """Wait for what is on its way, and be told no more."""
        atexit.unregister(self._at_exit)
        try:
            self.wait_until_idle()
        finally:
            if os.getpid() == self._owner:
                self._thread.shutdown()


class _Job:
    """One checkpoint on its way."""

    def __init__(
        self,
        staging: Staging,
        tags: tuple[str, ...],
        commit: Callable[[], CheckpointInfo],
        after: Callable[[], Any],
        store: Store,
    ) -> None:
        self.staging = staging
        self.tags = tags
        self.info: CheckpointInfo | None = None
        self.error: BaseException | None = None
        self._commit = commit
        self._after = after
        self._store = store
        self._running: list[Future[None]] = []

    @property
    def done(self) -> bool:
        """Whether the checkpoint is durable, or failed."""
        return all(each.done() for each in self._running[:1])

    @property
    def over(self) -> bool:
        """Whether all is done, what comes after it too."""
        return all(each.done() for each in self._running)

    def start(self, thread: ThreadPoolExecutor) -> None:
        try:
            self._running.append(thread.submit(self._write, thread))
        except RuntimeError:  # the interpreter is ending, and no thread begins any more
            self.run_here()

    def run_here(self) -> None:
        with Bar("writing a checkpoint") as bar:
            self._store.progress = bar.update
            self._write()
            self._tidy()
            self._store.progress = None

    def join(self, *, over: bool = False) -> None:
        """Wait until the checkpoint is durable, or until all is over."""
        if self.over if over else self.done:
            return
        with Bar("writing a checkpoint") as bar:
            self._store.progress = bar.update
            wait(self._running if over else self._running[:1])
            self._store.progress = None

    def _write(self, thread: ThreadPoolExecutor | None = None) -> None:
        with self._keeping_errors():
            self.info = self._commit()
            self.staging.rest()
        if thread is not None:
            try:
                self._running.append(thread.submit(self._tidy))
            except RuntimeError:  # as above
                self._tidy()

    def _tidy(self) -> None:
        if self.info is not None and self.error is None:
            with self._keeping_errors():
                self._after()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.error = error
            # An error that is kept must not keep the arrays of every frame it went through.
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
