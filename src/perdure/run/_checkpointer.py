"""Takes a captured state to a committed checkpoint while the training goes on.

What changed is staged, a thread writes it, and the result is noted. At most one checkpoint is written at a time. Its
result is known at the next checkpoint, at `flush` or at `close`, and an error is raised there, in the training. Knows
states and a store, and nothing of what they are states of.

A KeyboardInterrupt may come between any two lines here: a notebook's stop button, or a signal handler of the user's. So
whatever writes runs in the thread, where no signal handler runs; and after an interrupted call, nothing that was only
remembered in memory is relied on (`_recover`).
"""

from __future__ import annotations

import atexit
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from perdure.errors import CheckpointFailedWarning, DamagedError, PerdureError, StoreError, user_level
from perdure.progress import Bar
from perdure.run import _process_record
from perdure.run._unsaved import Unsaved
from perdure.snapshot import ChangedWhileCopied, Stager, Staging
from perdure.store import CheckpointInfo, Committed, Store, is_full
from perdure.tree import State

#: If a checkpoint is due while another one is written: wait for that one, or skip the new one.
WhenBusy = Literal["wait", "skip"]
#: If a checkpoint cannot be written: raise the error, or warn of it and try again when the next one is due.
OnError = Literal["raise", "warn"]

_Written = TypeVar("_Written")
#: Called with the bytes that are written and those there are to write.
_Progress = Callable[[int, int], None]
#: An error, and a warning of it, if one is due.
_Problem = tuple[BaseException, str | None]

#: For how many seconds a waiter waits before it looks again.
_GLANCE = 0.1


class Commit(NamedTuple):
    """What a checkpoint says beside its state; see `perdure.store.Store.commit`."""

    step: int
    counters: Mapping[str, Any]
    metrics: Mapping[str, Any]
    tags: Sequence[str]
    #: What is recorded of the process, beside what is known of every process.
    process: Mapping[str, Any]
    #: Makes durable what that says of other files; called in the thread, before the commit.
    prepare: Callable[[], None]


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
        #: A copy of the world that is committed only if the process has to leave.
        self._kept: _Job | None = None
        #: Held while what is to be written is decided: at the end, another thread commits what was kept.
        self._claim = threading.Lock()
        #: Whether a call is changing what is remembered; after an interrupted one it stays so.
        self._changing = False
        # One thread for all checkpoints, because to start one takes longer than to copy a network. At its exit the
        # interpreter waits for what the thread still has to do.
        self._thread = ThreadPoolExecutor(1, "perdure checkpoint")
        # An error that no later call could raise is printed when the interpreter exits.
        reference, process = weakref.ref(self), os.getpid()
        self._at_exit = lambda: _report(reference, process)
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

    def save(self, state: State, how: Commit, *, careful: bool = False) -> bool:
        """Stage a state, and have it committed. Afterwards the training may go on.

        :param state: captured just now.
        :param careful: whether another thread may be changing the world.
        :returns: whether the commit has ended already.
        :raises ChangedWhileCopied: if one did.
        :raises StoreError: if the one before could not be written.
        """
        while True:
            self.poll(wait=True)
            with self._claim:
                # The thread that makes the kept copy durable may have begun another one in between.
                if self._job is None:
                    job = self._stage(state, how, careful)
                    self.unwritten = ()
                    self._job = job
                    job.start(self._thread)
                    self._changing = False
                    break
        # What is too large to be copied is written from where it lies, so the training must not change it.
        if job.staging.live:
            try:
                job.join()
            except BaseException:
                job.cancel()
                job.join()
                raise
        return job.staging.live

    def keep(self, state: State, how: Commit, *, careful: bool = False) -> None:
        """Stage a state, and keep it in memory until `commit_kept`, or until the next one is staged.

        Nothing is kept while a checkpoint is being written, which will be nearly as new, nor of what is too large to be
        copied.

        :raises ChangedWhileCopied: see `save`.
        """
        with self._claim:
            if self._job is None and not self._changing:
                job = self._stage(state, how, careful)
                self._kept = None if job.staging.live else job
                self._changing = False

    def commit_kept(self) -> CheckpointInfo | None:
        """Make durable what was kept, if it was, and return it. Any thread may call it; it waits until that is done."""
        with self._claim:
            job, self._kept = self._kept, None
            if job is not None and self._job is None:
                self._job = job
                job.start(self._thread)
        if (job := self._job) is None:
            return None
        job.wait()
        return None if job.result is None else job.result.info

    def _stage(self, state: State, how: Commit, careful: bool) -> _Job:
        """Copy what changed. What was kept before is lost, because it lies in the same memory."""
        self._changing = True
        self._kept = None
        try:
            staging = self.stager.stage(state, careful=careful)
        except ChangedWhileCopied:
            self._changing = False
            raise

        def commit(progress: _Progress) -> Committed:
            staging.ready()

            def write() -> Committed:
                how.prepare()
                return self._store.commit(
                    staging.state,
                    step=how.step,
                    contents=staging.contents,
                    counters=how.counters,
                    metrics=how.metrics,
                    tags=how.tags,
                    process={**_process_record.record(), **how.process},
                    progress=progress,
                )

            return self.with_room(write)

        return _Job(staging, how.step, tuple(how.tags), commit, lambda: self._store.retain(self._retained))

    def poll(self, *, wait: bool = False) -> None:
        """Note the result of the checkpoint that is being written, if it is there.

        :param wait: for the result.
        :raises StoreError: if the checkpoint could not be written, and errors are to be raised.
        """
        if self._changing:
            self._recover()
        # This is called at every step.
        if self._job is None and self._before is None:
            return
        job = self._job
        if job is not None and (job.durable or wait):
            job.join()
            self._changing = True
            self._note_stored(job)
            problem = self._note(job)
            # There is one thread, so everything before this job has ended too.
            undeleted = self._take_undeleted()
            self._before, self._job = job, None
            self._changing = False
            self._tell(problem)
            self._tell(undeleted)
        if self._before is not None and self._before.cleaned_up:
            self._tell(self._take_undeleted())

    def _recover(self) -> None:
        """Go on after a call that was interrupted: what it had handed over is written, and all else is found out anew.

        The next checkpoint compares everything with what is stored, as the first one of a process does.
        """
        job = self._job
        if job is not None:
            if not job.handed_over:
                # Whether the thread will take it is not known. If it has not, it never will.
                job.cancel()
            self._finish_thread()
            self._note(job)
        self.stager = self.stager.renewed()
        self._job = self._before = self._kept = None
        self._changing = False

    def _finish_thread(self) -> None:
        """Wait until the thread has done all that it was given."""
        ended = _Flag()
        try:
            self._thread.submit(ended.set)
        except RuntimeError:  # the interpreter is exiting, and the thread has ended
            return
        ended.wait()

    def _note_stored(self, job: _Job) -> None:
        """Note where the arrays of a checkpoint are stored."""
        if job.result is not None:
            self.stager.committed(job.staging, job.result.arrays)
        elif isinstance(job.error, DamagedError):
            # Something that the checkpoint was to refer to is lost, so nothing stored before is relied on.
            self.stager.forget()
        else:
            self.stager.failed(job.staging)

    def _note(self, job: _Job) -> _Problem | None:
        """Note what became of a checkpoint; returns an error that is to be told. May be called again."""
        if job.result is not None:
            self.last = job.result.info
            if not job.counted:
                job.counted = True
                self.unsaved.saved()
            return None
        if job.error is None:  # it was given up before it began
            return None
        self.unwritten = job.tags
        text = None
        if not job.counted and isinstance(job.error, StoreError):
            job.counted = True
            text = self.unsaved.failed(job.step, None if self.last is None else self.last.step, job.error)
        return job.error, text

    def _take_undeleted(self) -> _Problem | None:
        """Why older checkpoints could not be deleted after the last durable one; None if they were."""
        job, self._before = self._before, None
        if job is None or job.result is None or job.error is None:
            return None
        step = job.result.info.step
        return (
            job.error,
            f"the checkpoint of step {step} is written, but older ones could not be deleted: {job.error}",
        )

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
        self._tell((error, self.unsaved.policy_failed(score, error)))

    def tell_unsaved(self) -> None:
        """Say what could not be saved, if anything could not and the training went on all the same."""
        if self._on_error != "warn":
            return
        if (text := self.unsaved.summary(None if self.last is None else self.last.step)) is not None:
            self._say(text)

    def _tell(self, problem: _Problem | None) -> None:
        if problem is None:
            return
        error, text = problem
        if self._on_error != "warn" or not isinstance(error, StoreError):
            raise error
        if text is not None:
            warnings.warn(text, CheckpointFailedWarning, stacklevel=user_level())

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
            self._tell(self._take_undeleted())

    def close(self) -> None:
        """Wait for everything that was started. Errors are raised once more, and not told after this."""
        atexit.unregister(self._at_exit)
        try:
            self.wait_until_idle()
        finally:
            self._thread.shutdown()

    def abandon(self) -> None:
        """Forget the run in a forked child: its thread is not there, and the parent tells of what becomes of it."""
        atexit.unregister(self._at_exit)


class _Flag:
    """Is set once, by the thread; others wait for it.

    Those of `threading` and `concurrent.futures` are left locked, or unlocked twice, if a KeyboardInterrupt comes while
    they are waited for.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._closed = threading.Lock()
        self._closed.acquire()

    def set(self) -> None:
        self.is_set = True
        with suppress(RuntimeError):  # it was set before
            self._closed.release()

    def wait(self) -> None:
        while not self.is_set:
            # An interrupted waiter may have the lock and never give it back, so nobody waits for it for long.
            if self._closed.acquire(timeout=_GLANCE):
                self._closed.release()


class _Cancelled(Exception):
    """The checkpoint is not wanted any more."""


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
        #: Whether its result is counted.
        self.counted = False
        #: Whether it is certain that the thread will run it, or has run it.
        self.handed_over = False
        self._commit = commit
        self._cleanup = cleanup
        self._durable = _Flag()
        self._cleaned_up = _Flag()
        self._cancelled = False
        #: Shows the progress to somebody who waits. That may begin long after the commit did.
        self._bar: Bar | None = None

    @property
    def durable(self) -> bool:
        """Whether the checkpoint is durable, or failed."""
        return self._durable.is_set

    @property
    def cleaned_up(self) -> bool:
        """Whether nothing is left to do, also no deletion of older checkpoints."""
        return self._cleaned_up.is_set

    def start(self, thread: ThreadPoolExecutor) -> None:
        """Run in a thread."""
        try:
            thread.submit(self._run)
            self.handed_over = True
        except RuntimeError:  # the interpreter is exiting, and no thread can be started
            self.handed_over = True
            with self._shown():
                self._run()

    def cancel(self) -> None:
        """Stop as soon as possible; a commit that has not succeeded by then fails."""
        self._cancelled = True

    def wait(self) -> None:
        """Wait until the checkpoint is durable, without showing the progress."""
        self._durable.wait()

    def join(self, *, cleanup: bool = False) -> None:
        """Wait until the checkpoint is durable.

        :param cleanup: wait for the deletion of older checkpoints too.
        """
        flag = self._cleaned_up if cleanup else self._durable
        if not flag.is_set:
            with self._shown():
                flag.wait()

    @contextmanager
    def _shown(self) -> Iterator[None]:
        with Bar("writing a checkpoint") as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def _progressed(self, done: int, total: int) -> None:
        if self._cancelled:
            raise _Cancelled
        if (bar := self._bar) is not None:
            bar.update(done, total)

    def _run(self) -> None:
        try:
            if not self._cancelled:
                with self._keeping_errors():
                    self.result = self._commit(self._progressed)
                    self.staging.release()
            self._durable.set()
            if self.result is not None and self.error is None:
                with self._keeping_errors():
                    self._cleanup()
        finally:
            self._durable.set()
            self._cleaned_up.set()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except _Cancelled:
            pass
        except BaseException as error:
            self.error = error
            # An error that is kept must not keep the arrays of every frame it passed.
            if isinstance(error, PerdureError):
                error.__traceback__ = None


def _report(reference: weakref.ref[Checkpointer], process: int) -> None:
    checkpointer = reference()
    # In a forked child there is no thread that could be waited for.
    if checkpointer is None or os.getpid() != process:
        return
    if checkpointer._job is None:
        checkpointer.tell_unsaved()
        return
    job, checkpointer._job = checkpointer._job, None
    job.join()
    if job.error is not None:
        checkpointer._say(f"the last checkpoint could not be written: {job.error}")
    checkpointer._note(job)
    checkpointer.tell_unsaved()
