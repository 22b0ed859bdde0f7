"""One run: open or resume it, take checkpoints, keep the best policy, close it. It joins worlds and stores."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch

from perdure import arguments
from perdure.errors import (
    DamagedError,
    LockedError,
    NotCapturedWarning,
    PerdureError,
    Preempted,
    RestoreError,
    StoreError,
    user_level,
)
from perdure.outputs import KEEP, Outputs, go_on_with, services
from perdure.persistence import PolicyPersistence, versions
from perdure.run import _notices, _owner, _same_command
from perdure.run._best_policy import BestPolicy
from perdure.run._cadence import Cadence
from perdure.run._checkpointer import Checkpointer, Commit, OnError, WhenBusy
from perdure.run._clocks import Clocks
from perdure.run._console import say, shown
from perdure.run._grace import Grace
from perdure.run._override import Override
from perdure.run._record import PART, RunRecord
from perdure.run._restorable import OnUnrestorable, RestorableCheck
from perdure.run._resuming import Resuming, next_older
from perdure.run._script_state import ScriptState
from perdure.run._signals import Interrupts, Signals
from perdure.run._undisturbed import undisturbed
from perdure.run.carriers import PART as SCRIPT_STATE
from perdure.run.loops import LoopsAroundCalls, Watch, at_head
from perdure.state import (
    LiveWorld,
    Report,
    Restored,
    Walker,
    parts_of,
    skip,
    some,
    without_secrets,
)
from perdure.store import (
    BEST,
    PINNED,
    Checkpoint,
    CheckpointInfo,
    Compression,
    LocalBackend,
    Retention,
    Store,
)
from perdure.world import World

_T = TypeVar("_T")


class Run:
    """A training run and its directory.

    Opening a run takes its lock: one process at a time trains in a directory, any number may read it.

    :param directory: of the run, on a local or mounted disk; created if it does not exist. A later process that opens
        the same directory goes on with the run. `~` is the home directory.
    :param keep: how many of the latest checkpoints to keep, besides the one that follows the best score; or a
        :class:`perdure.Retention`.
    :param persistence: how the best policy is persisted, and what else with it; by default the whole policy.
    :param strict: whether it is an error if a checkpoint does not fit the script in every path.
    :param skip: paths of the world to leave out of the checkpoints, with `*` and `?` as wildcards.
    :param override: values that win over those of the checkpoint when the run is resumed: for each path (with `*` and
        `?`) the value, as in `{"*.lr": 1e-4}`, or `perdure.FROM_SCRIPT` for what the script has built. They are applied
        once and are state then: the same command, started again, goes on with what they led to.
    :param background: whether a thread writes the checkpoints of `steps` and `maybe_checkpoint` while the training goes
        on. The training waits only until what changed is copied.
    :param when_busy: when a checkpoint is due and the previous one is still being written, "wait" for it, or "skip" the
        new one and print a line.
    :param on_error: when a checkpoint or the best policy cannot be written, "raise" the error in the training, or
        "warn", go on, and try again when the next one is due; the end says how much is not saved. Before that, where
        the disk is full, older checkpoints that are only kept as the latest ones give way, but never the newest one.
    :param on_unrestorable: when a fresh process of this script could not restore a checkpoint, "auto" raises an error
        at the first checkpoint of this process, before it is written, and only warns at later ones; "raise" always
        raises, "warn" always warns, "ignore" does not look. After a warning the training goes on, and the last
        checkpoint that can be restored is kept. What a fresh process has is the world as `resume` or `steps` got it.
    :param compression: "auto" compresses what gets much smaller, "zstd" whatever gets smaller, "none" nothing.
    :param modules: names of modules and packages that count as the script's own although they are installed: what
        changes in their variables, classes and functions is state too.
    :param lock_timeout: how many seconds to wait for a previous process that is still exiting. A run of the same
        process that has this directory is taken over at once, for example when a notebook's cell runs again.
    :param signals: which signals ask the run to save a checkpoint and exit, as names or numbers. "auto": SIGTERM,
        Ctrl-C (SIGINT) and a closing terminal (SIGHUP); and what schedulers send before their time is up (SIGUSR1,
        SIGUSR2, SIGXCPU), unless the script handles these itself.
    :param grace: within how many seconds after such a signal the process exits, also from the middle of a long rollout
        or evaluation. For that a copy of the world is kept in memory at safe points, as often as that takes at most a
        twentieth of the time; it is made durable when the signal comes, and what the process did since is done again by
        the next one. By default the process exits at the next safe point, however long that takes.
    :param keep_outputs: of how many bytes of the files that the script writes (logs, curves) a copy is kept in the run,
        so that they go on where the checkpoint was although the script empties them when it starts. None leaves these
        files alone.
    :raises LockedError: if another process, or another thread of this one, holds the run.
    :raises ValueError: if an option has a value that it cannot have.
    :raises StoreError: if the directory cannot be written, or does not belong to a run.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int | Retention = 3,
        persistence: PolicyPersistence | None = None,
        strict: bool = True,
        skip: Sequence[str] = (),
        override: Mapping[str, Any] | None = None,
        background: bool = True,
        when_busy: WhenBusy = "wait",
        on_error: OnError = "raise",
        on_unrestorable: OnUnrestorable = "auto",
        compression: Compression = "auto",
        modules: Sequence[str] = (),
        lock_timeout: float = 10.0,
        signals: Signals = "auto",
        grace: float | None = None,
        keep_outputs: int | None = KEEP,
    ) -> None:
        self.directory = os.path.abspath(arguments.local_path(directory, "directory"))
        #: What became of every path at the last resume; None before one.
        self.report: Report | None = None
        self._background = arguments.flag(background, "background")
        self._strict = arguments.flag(strict, "strict")
        self._skip = arguments.texts(skip, "skip")
        arguments.seconds(lock_timeout, "lock_timeout", zero=True)
        if persistence is not None and not isinstance(persistence, PolicyPersistence):
            raise TypeError(
                f"persistence: expected a perdure.persistence.PolicyPersistence, found a {type(persistence).__name__}. "
                "A handler goes into one: PolicyPersistence(handler)"
            )
        overrides = Override(override)
        self._record = RunRecord()
        self._interrupts = Interrupts(signals)
        self._grace = Grace(None if grace is None else arguments.seconds(grace, "grace"))
        self.ownership = _owner.Ownership(shown(self.directory))
        #: Held while the world is captured. Other threads that change it hold it meanwhile: `with run.lock: ...`.
        self.lock = threading.RLock()
        retention = keep if isinstance(keep, Retention) else Retention(keep)
        self._restorable = RestorableCheck(on_unrestorable, strict=strict, say=say)

        def retained(found: Sequence[CheckpointInfo]) -> set[int]:
            kept = self._restorable.kept
            return retention(found) | (set() if kept is None else {kept.number})

        def spared(found: Sequence[CheckpointInfo]) -> set[int]:
            # Where there is no room for more, only what was asked for by name stays, and the newest one.
            kept = self._restorable.kept
            asked = dataclasses.replace(retention, last=1)
            return asked(found) | (set() if kept is None else {kept.number})

        self._options: dict[str, Any] = {
            "retained": retained,
            "spared": spared,
            "when_busy": when_busy,
            "on_error": on_error,
            "say": say,
        }
        self._compression = compression
        self._closed = False
        #: The files that the script writes; None if they are left alone.
        self._outputs: Outputs | None = None
        self._clocks = Clocks()
        self._open(lock_timeout)
        self._interrupts.when_asked = lambda number: self._grace.begin(number, self._make_copy_durable)
        self._interrupts.is_over = lambda: self._grace.is_over
        self._told_secrets = self._told_graphs = False
        #: The published best policy.
        self.best_policy = BestPolicy(
            self.directory, persistence or PolicyPersistence(), allowed=self._check_may_publish
        )
        self._cadence = Cadence()
        #: The newest checkpoint there was when this process closed the run.
        self._left_at = 0
        #: Whether there are checkpoints that have not been resumed from.
        self._unread = bool(self._store.numbers())
        #: The best score that a checkpoint is marked with.
        self._best_tagged: float | None = None
        #: Whether a `resume` has begun and not ended.
        self._half_restored = False
        self._told_deaf = False
        #: Watches the loops around the calls of `checkpoint` and `maybe_checkpoint`.
        self._loops = LoopsAroundCalls(sys._getframe(1))
        #: What the script's own modules hold outside of objects.
        self._script_state = ScriptState(
            (modules,) if isinstance(modules, str) else modules,
            self._restorable,
            skip=self._skip,
            strict=strict,
            say=say,
        )
        self._resuming = Resuming(
            self.directory, self._record, self._restorable, self._script_state, overrides, strict=strict
        )
        #: What `find_checkpoint` found, until it is resumed.
        self._found: Checkpoint | None = None
        if keep_outputs is not None:
            keep_outputs = arguments.count(keep_outputs, "keep_outputs", 0, KEEP)
            self._outputs = Outputs(self.directory, keep_outputs, say)
        #: How many steps are done.
        self._at = 0

    def _open(self, lock_timeout: float) -> None:
        try:
            _owner.claim(self, self.directory)
            self._store = Store.open(
                self.directory, write=True, wait=lock_timeout, compression=self._compression
            )
        except LockedError as error:
            holder = LocalBackend(self.directory).holder()
            is_ours = holder is not None and (holder.pid, holder.host) == (os.getpid(), socket.gethostname())
            hint = _same_command.how_to_tell_apart(self.directory, is_ours=is_ours)
            raise LockedError(f"{error} {hint}") from None
        try:
            self._checkpointer = Checkpointer(self._store, **self._options)
            versions.clean(self.directory)
        except BaseException:
            self._store.close()
            raise

    @property
    def last(self) -> CheckpointInfo | None:
        """The newest checkpoint that this process committed or resumed from; None before one."""
        return self._checkpointer.last

    @property
    def id(self) -> str:
        """Tells this run from every other one: 32 hexadecimal digits, the same in all its processes."""
        return self._store.run.id

    def checkpoints(self) -> list[CheckpointInfo]:
        """All checkpoints of the run, from the oldest to the newest; see `resume` for going back to one of them."""
        return self._store.checkpoints()

    def reachable(self, world: Any) -> set[int]:
        """The `id` of every object that a checkpoint of a world holds; valid as long as nothing in it changes.

        :raises CaptureError: if a part of the world has no proper name.
        """
        walker = Walker(self._skip)
        walker.parts(self._parts(world))
        return set(walker.memo)

    # -- resuming -----------------------------------------------------------------------------------------------------

    def find_checkpoint(self, world: Any, *, fresh: Sequence[str] = ()) -> CheckpointInfo | None:
        """Which checkpoint `resume` would go on from; None if the run starts at the beginning.

        Call it with the world as the script built it, before the world is used. Nothing in the world is changed.

        :param fresh: see `resume`.
        :raises CaptureError: if something in the world cannot be captured.
        :raises RestoreError: if the script builds arrays of other shapes than when the run began.
        :raises DamagedError: if there are checkpoints and all of them are damaged.
        """
        self.ownership.check()
        self._found = self._store.latest(deep=False)
        live = self._walk(world, self._found, fresh)
        self._resuming.compare_script(self._found, live, world)
        if self._found is None:
            self._clocks.built(live)
            self._restorable.built(live)
            self._restorable.release()
            self._begin_outputs()
        return None if self._found is None else self._found.info

    def resume(
        self, world: Any, *, number: int | None = None, fresh: Sequence[str] = ()
    ) -> CheckpointInfo | None:
        """Write the newest good checkpoint into a world that the script has just built.

        :param number: of another checkpoint to restore instead (see `checkpoints`); then no other one will do.
        :param fresh: paths of the world, with `*` and `?` as wildcards, that stay as the script has built them. Later
            checkpoints hold them as usual.
        :returns: which checkpoint it was; None if there is none yet: then the run starts at the beginning.
        :raises RestoreError: if the checkpoint, or the override, does not fit the world; nothing was changed then.
        :raises DamagedError: if there are checkpoints and all of them are damaged, or the one asked for is.
        :raises StoreError: if there is no checkpoint of that number.
        """
        self.ownership.check()
        checkpoint, self._found = self._found, None
        is_compared = checkpoint is not None and number in (None, checkpoint.info.number)
        if not is_compared:
            checkpoint = (
                self._store.latest(deep=False) if number is None else self._store.read(number, deep=False)
            )
        # The script comparison and the matching share this walk. One that `find_checkpoint` made would be too old: the
        # world may have been used since.
        live = self._walk(world, checkpoint, fresh)
        if not is_compared:
            self._resuming.compare_script(checkpoint, live, world)
        self._clocks.built(live)
        self._restorable.built(live)
        while checkpoint is not None:
            try:
                self._half_restored = True
                self._went_back(checkpoint.info, self._resuming.restore(checkpoint, live, world), world)
                self._half_restored = False
            except DamagedError as error:
                if number is not None:
                    self._store.give_up(number, str(error))
                    raise
                # Every byte is verified as it is read. Only arrays were written, and will be overwritten.
                checkpoint = next_older(self._store, checkpoint.info.number, error)
            except RestoreError as error:
                self._half_restored = False  # or its message says otherwise
                if error.report is None:
                    raise
                number = checkpoint.info.number
                raise self._resuming.with_way_back(error, self._store, number, live, world) from None
            else:
                return checkpoint.info
        self._restorable.release()
        self._begin_outputs()
        return None

    def _begin_outputs(self) -> None:
        if self._outputs is None:
            return
        try:
            self._outputs.begin()
        except StoreError as error:
            if self._options["on_error"] != "warn":
                raise
            say(f"the files that the script writes are not followed until the first checkpoint: {error}")

    def _went_back(self, info: CheckpointInfo, restored: Restored, world: Any) -> None:
        """Go on from a checkpoint that was restored."""
        self._unread = False
        self.report = restored.report
        self._checkpointer.last = info
        # The next checkpoint writes only what differs from this one.
        self._checkpointer.stager.prime(restored.filled_arrays())
        self._at = info.step
        self._best_tagged = self._record.best_score
        self._cadence.restart(info.step)
        beside = info.process or {}
        self._clocks.go_on(world, beside.get("clocks"))
        if self._outputs is not None:
            self._outputs.resume(beside.get("outputs"), info.step, self._store.numbers(), info.number)
            go_on_with(beside.get("services"), say)

    def remember_built(self, world: Any) -> None:
        """Say that the world is now as a fresh process has it when it resumes.

        Checkpoints are compared with it (see `on_unrestorable`). `find_checkpoint` and `resume` say it themselves. Call
        it where a script builds more after `find_checkpoint` found nothing, and a fresh process would build that
        before it resumes.

        :raises CaptureError: if a part of the world has no proper name.
        """
        self._restorable.built(self._walk(world))
        self._restorable.release(script_is_known=self._record.script_fingerprint is not None)

    def _walk(self, world: Any, checkpoint: Checkpoint | None = None, fresh: Sequence[str] = ()) -> LiveWorld:
        self._parts(world)
        return self._resuming.walk(world, sys._getframe(1), checkpoint, fresh)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint(
        self,
        world: Any,
        step: int,
        *,
        counters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        pin: bool = False,
        wait: bool = True,
    ) -> CheckpointInfo | None:
        """Commit a checkpoint of a world. When it returns, the checkpoint survives a power cut.

        :param step: how many steps are done, never fewer than before; the next process goes on with the step of this
            number.
        :param counters: other counters of the loop, as JSON; `resume` returns them.
        :param metrics: what `perdure ls` and `perdure show` display for this checkpoint, as JSON.
        :param tags: names for finding it again.
        :param pin: whether to keep it for ever.
        :param wait: whether to return only when the checkpoint is durable. Otherwise this returns as soon as what
            changed is copied; `flush` waits for the rest, and an error is raised by the next call on this run.
        :returns: the checkpoint; None if it was not waited for, or skipped, or an error became a warning.
        :raises CaptureError: if something in the world cannot be captured; it lists what, and the remedies.
        :raises NotRestorableError: if a fresh process could not restore it; see `on_unrestorable`.
        :raises PerdureError: if there are checkpoints of an earlier process, and `resume` was not called.
        :raises StoreError: if it cannot be written; the previous checkpoints are untouched.
        """
        parts = self._parts(world)
        step = self._checked_step(step)
        tags = arguments.texts(tags, "tags")
        for tag in {BEST, PINNED}.intersection(tags):
            remedy = "pin=True" if tag == PINNED else "run.report_score(score, world)"
            raise ValueError(
                f"tags: {tag!r} is a tag that Perdure gives itself. Use {remedy}, or another word"
            )
        arguments.flag(pin, "pin")
        arguments.flag(wait, "wait")
        counters = arguments.mapping(counters or {}, "counters")
        metrics = arguments.mapping(metrics or {}, "metrics")
        if self._unread and not self._half_restored:
            raise PerdureError(
                f"there are checkpoints of an earlier training in {shown(self.directory)}, and this one has not been "
                "resumed from them: its checkpoints would be mixed with those. Call run.resume(world) before the "
                "training begins, or use another directory for a new run"
            )
        self._warn_of_variables(self._watches(sys._getframe(1), world), world)
        if not wait and not self._checkpointer.acquire_slot():
            return None
        # Even if it fails, the next one is due at the usual time.
        self._cadence.restart(step)
        self._checkpointer.poll(wait=True)
        save = self._capturing(parts, step, self._checkpointer.save, counters, metrics, tags, pin=pin)
        if undisturbed(self.lock, save) or wait:
            self._checkpointer.poll(wait=True)
        return self.last if wait else None

    def _capturing(
        self,
        parts: Mapping[str, Any],
        step: int,
        then: Callable[..., _T],
        counters: Mapping[str, Any] | None,
        metrics: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        *,
        pin: bool = False,
    ) -> Callable[[bool], _T]:
        """A function that captures the world, for `undisturbed`.

        :param then: what to do with the state.
        """
        if self._half_restored:
            raise RestoreError(
                "resuming was interrupted, so the world is half restored and must not be saved: build it anew and call "
                "resume() again"
            )
        shown, secrets = without_secrets(metrics or {}, "metrics")
        counted, more = without_secrets(counters or {}, "counters")
        if (secrets or more) and not self._told_secrets:
            self._told_secrets = True
            say(_notices.left_out([*secrets, *more]))
        if self._record.best_score is not None:
            shown.setdefault("best", self._record.best_score)

        def capture(careful: bool) -> _T:
            beside, prepare = self._capture_beside(parts, counters or {})
            live = self._script_state.captured(parts)
            state = live.state()
            self._tell_of_graphs(live)
            self._restorable.check(live, step, self._last_written)
            marks = [BEST] if self._best_untagged or BEST in self._checkpointer.unwritten else []
            marks += [PINNED] if pin else []
            how = Commit(step, counted, shown, [*tags, *marks], beside, prepare)
            done = then(state, how, careful=careful)
            self._best_tagged = self._record.best_score
            return done

        return capture

    def _capture_beside(
        self, parts: Mapping[str, Any], counters: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Callable[[], None]]:
        """What a checkpoint says of the clock and of the files that the script writes, and what makes that durable."""
        clocks = self._clocks.elapsed(dict(parts), counters)
        beside: dict[str, Any] = {"clocks": clocks} if clocks else {}
        if self._outputs is None:
            return beside, lambda: None
        written, prepare = self._outputs.capture(self._store.numbers())
        found = {"outputs": written, "services": services()}
        return {**beside, **{name: each for name, each in found.items() if each}}, prepare

    def _keep_copy(self, world: Any, step: int, counters: Mapping[str, Any] | None) -> None:
        """Keep a copy of the world in memory, which is made durable if the process has to leave before it can save."""
        began, tagged = perf_counter(), self._best_tagged
        undisturbed(self.lock, self._capturing(self._parts(world), step, self._checkpointer.keep, counters))
        self._best_tagged = tagged  # it is not written yet
        self._grace.copied(perf_counter() - began)

    def _make_copy_durable(self) -> None:
        if (info := self._checkpointer.commit_kept()) is not None:
            say(f"step {info.step} is saved in {shown(self.directory)}")

    @property
    def _best_untagged(self) -> bool:
        """Whether no checkpoint is marked as the one that follows the best score."""
        return self._record.best_score is not None and self._record.best_score != self._best_tagged

    def _checked_step(self, step: Any) -> int:
        """A number of steps that are done.

        :raises ValueError: if it is less than that of the last checkpoint.
        """
        number = arguments.count(step, "step", 0, 10_000)
        before = max(self._at, 0 if self.last is None else self.last.step)
        if number < before:
            raise ValueError(
                f"step: expected at least {before}, where the run is already, found {number}. Steps only go up: count "
                "on over epochs and calls, or begin another run in another directory"
            )
        return number

    def _tell_of_graphs(self, live: LiveWorld) -> None:
        if not self._told_graphs and (paths := live.tensors_with_graphs()):
            self._told_graphs = True
            warnings.warn(
                f"{some(paths)}: a tensor with a graph. The checkpoint keeps its numbers and not the graph, so that no "
                "gradient flows back through it in a resumed run. If none is to, keep it without: tensor.detach()",
                NotCapturedWarning,
                stacklevel=user_level(),
            )

    def _last_written(self) -> CheckpointInfo | None:
        self._checkpointer.poll(wait=True)
        return self.last

    def flush(self) -> None:
        """Wait until every checkpoint so far is durable.

        :raises StoreError: if one could not be written.
        """
        if not self.ownership.is_copy:
            self._checkpointer.flush()

    def due(self, step: int, every: int | None, seconds: float | None) -> bool:
        """Whether a checkpoint is due once `step` steps are done; see `maybe_checkpoint`."""
        return self._interrupts.received is not None or self._cadence.due(step, every, seconds)

    def maybe_checkpoint(
        self,
        world: Any,
        step: int,
        *,
        every: int | None = None,
        seconds: float | None = None,
        counters: Mapping[str, Any] | None = None,
    ) -> None:
        """A safe point in a loop other than `steps`: take a checkpoint if one is due, and exit if a signal asked to.

        :param step: how many steps are done.
        :param every: take one when a multiple of so many steps is done.
        :param seconds: take one so many seconds after the last; by default every ten minutes if `every` is not given.
        :param counters: other counters of the loop, as JSON.
        :raises Preempted: after the checkpoint, if a signal was received inside `guard`.
        :raises StoreError: if a checkpoint could not be written, this one or the one before.
        """
        self.ownership.check()
        every, seconds = arguments.cadence(every, seconds)
        step = self._checked_step(step)
        watches = self._watches(sys._getframe(1), world)
        if self.due(step, every, seconds):
            self._warn_of_variables(watches, world)
        self.safe_point(world, step, every, seconds, counters)

    def safe_point(
        self,
        world: Any,
        step: int,
        every: int | None,
        seconds: float | None,
        counters: Mapping[str, Any] | None = None,
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        """What `maybe_checkpoint` does, without a look at the loop: `perdure.loop` knows it.

        :param refresh: called before the world is captured, if it is.
        """
        self.ownership.check()
        self._at = step
        self._checkpointer.poll()
        self._checkpointer.stager.observe()
        received = self._interrupts.received
        # Asked once: a signal, or the clock, may answer otherwise a moment later.
        is_due = received is not None or self._cadence.due(step, every, seconds)
        if is_due:
            refresh()
            self.checkpoint(world, step, counters=counters, wait=received is not None or not self._background)
        elif self._grace.wants_copy:
            refresh()
            self._keep_copy(world, step, counters)
        if received is not None:
            self._leave(received)

    def _leave(self, received: signal.Signals) -> NoReturn:
        saved = "nothing" if self.last is None else f"step {self.last.step}"
        say(
            f"{received.name}: {saved} is saved in {shown(self.directory)}; start the same command again to go on"
        )
        raise Preempted(128 + received)

    @contextmanager
    def guard(self, *, is_abandoned: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Inside, signals such as SIGTERM and Ctrl-C wait for the next `maybe_checkpoint`; then the process exits with
        128 + the signal's number. The same signal again ends it at once.

        Python handles signals in the main thread only. If a training runs in another thread, enter this in the main
        thread, around `thread.join()`.

        :param is_abandoned: asked when a signal comes: whether the training has ended, by an exception that nobody told
            this of. Then signals do what they did before.
        :raises Preempted: at the end, if a signal came and nothing has raised it yet: it came after the last
            checkpoint, or another thread saved it.
        """
        self.ownership.check()
        self._interrupts.is_abandoned = is_abandoned
        with self._interrupts:
            if self._interrupts.deaf and not self._told_deaf:
                self._told_deaf = True
                say(
                    "the training runs outside the main thread, where Python handles no signals: SIGTERM ends the "
                    "process without a checkpoint. To save one, wait for the thread inside `with run.guard():` in the "
                    "main thread"
                )
            yield
            if (received := self._interrupts.received) is not None and not self.ownership.is_copy:
                self.flush()
                self._leave(received)

    def steps(
        self, world: Any, total: int, *, every: int | None = None, seconds: float | None = None
    ) -> Iterator[int]:
        """The numbers of the remaining steps, from where the run was up to `total`.

        The world is resumed first. Checkpoints are taken between two steps, after the body of the loop has run: when a
        multiple of `every` steps is done, when `seconds` have passed since the last one (every ten minutes if neither
        is given), when SIGTERM, SIGHUP or Ctrl-C was received (then the process exits with `Preempted`), and after the
        last step. A loop that breaks or raises leaves the run at its last checkpoint.

        :param world: what the loop works on. Local variables that carry state between iterations must be in it.
        :param total: number of steps of the whole run.
        """
        total = arguments.count(total, "total", 0, 500_000)
        every, seconds = arguments.cadence(every, seconds)
        return self._steps(world, total, every, seconds)

    def _steps(self, world: Any, total: int, every: int | None, seconds: float | None) -> Iterator[int]:
        if isinstance(world, World) and world.persist_directory is None:
            world.persist_directory = self.directory
        place = at_head(sys._getframe(1))
        self._resuming.loop = place
        resumed = self.resume(world)
        self._resuming.loop = None
        start = 0 if resumed is None else resumed.step
        if start >= total:
            self.say_finished(f"all {total} steps are done" + ("" if start == total else f" ({start} are)"))
        watch = Watch(place, (world, self))
        self._script_state.follow(watch)
        with self.guard(), self._flushed():
            for step in range(start, total):
                self._at = step
                yield step
                done = step + 1
                if step == start:
                    watch.first_round(parts_of(world))
                if done == total or self.due(done, every, seconds):
                    self._warn_of_variables([watch], world, last=done == total)
                if done < total:
                    self.safe_point(world, done, every, seconds, None)
            if start < total:
                self.checkpoint(world, total)
            if start < total and (received := self._interrupts.received) is not None:
                self._leave(received)
        self._restorable.end()

    @contextmanager
    def _flushed(self) -> Iterator[None]:
        """Flush on exit; an error of the flush never masks an exception in flight."""
        try:
            yield
        except BaseException:
            try:
                self.flush()
            except StoreError as error:
                say(f"the last checkpoint could not be written: {error}")
            self._checkpointer.tell_unsaved()
            raise
        self.flush()
        self._checkpointer.tell_unsaved()

    def _watches(self, frame: FrameType, world: Any) -> list[Watch]:
        """Those of the loops around a call of the user's."""

        def begin(watch: Watch) -> None:
            self._script_state.meet(frame, parts_of(world))
            self._script_state.follow(watch)

        return self._loops.watches(frame, (world, self), lambda: parts_of(world), begin)

    def _warn_of_variables(self, watches: Sequence[Watch], world: Any, *, last: bool = False) -> None:
        for watch in watches:
            if names := watch.uncaptured(parts_of(world), last=last):
                warnings.warn_explicit(
                    f"the loop carries state between iterations in {', '.join(names)}, which no checkpoint holds: if "
                    f"that matters, a resumed run is not exact. Keep it in the world, as in `world.{names[0]} = ...`",
                    NotCapturedWarning,
                    *watch.place,
                )

    # -- the best policy ----------------------------------------------------------------------------------

    def report_score(self, score: float, world: Any, policy: torch.nn.Module | None = None) -> bool:
        """Keep the policy if its score is the best so far; greater is better.

        The answer is that of the uninterrupted run: a score that a killed process saw after its last checkpoint does
        not count. The published file is safer still: only a better policy ever replaces it.

        :param world: passed to the handlers of the run's `persistence`.
        :param policy: what to persist; by default the world's `policy`, `algorithm`, `agent` or `model`.
        :returns: whether it is the best so far. NaN never is.
        :raises NotPicklableError: if the whole policy cannot be pickled; it names the attribute.
        """
        self.ownership.check()
        score = arguments.real(score, "score")
        if policy is not None and not isinstance(policy, torch.nn.Module):
            raise TypeError(f"policy: expected a torch.nn.Module, found a {type(policy).__name__}")
        before = self._record.best_score
        if math.isnan(score):
            return False
        if before is not None and score <= before:
            # Of the best one only the score is left, if it could not be saved: the next best is better than nothing.
            if self._checkpointer.unsaved.policies:
                self._publish(score, world, policy)
            return False
        self._publish(score, world, policy)
        self._record.best_step = self._at
        self._record.best_score = score
        return True

    def _publish(self, score: float, world: Any, policy: torch.nn.Module | None) -> None:
        """Publish a policy if it is better than the published one."""
        try:
            self._checkpointer.with_room(lambda: self.best_policy.offer(score, self._at, world, policy))
        except StoreError as error:
            self._checkpointer.policy_failed(score, error)
        self._checkpointer.unsaved.published(self.best_policy.score)

    def _check_may_publish(self) -> None:
        self.ownership.check()
        self._store.check_writable()

    @property
    def best_score(self) -> float | None:
        """The score of the published best policy, also if another process reached it; None if there is none."""
        return self.best_policy.score

    # -- closing ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the checkpoint that is being written, and release the run's lock. Nothing else is saved.

        :raises StoreError: if that checkpoint could not be written.
        """
        if self.ownership.is_copy:
            self._checkpointer.abandon()
            return
        if self._closed:
            return
        self._closed = True
        if self.ownership.ended is None:
            self.ownership.ended = f"this run is closed; open it anew: perdure.Run({shown(self.directory)!r})"
        self._restorable.end()
        if self._outputs is not None:
            self._outputs.close()
        try:
            self._checkpointer.close()
        finally:
            self._left_at = max(self._store.numbers(), default=0)
            self._store.close()
            self._checkpointer.tell_unsaved()

    def reopen(self, world: Any, *, lock_timeout: float = 10.0) -> None:
        """Open the run again after `close`, in the same process, to go on with the same world.

        A fresh process comes to this place with the world as it is now, so later checkpoints are compared with that
        (see `on_unrestorable`).

        :param lock_timeout: how many seconds to wait for another process that holds the run.
        :raises LockedError: if another process holds the run.
        :raises StoreError: if somebody else has gone on with the run since it was closed.
        """
        if not self._closed:
            return
        last, path = self.last, shown(self.directory)
        self._open(lock_timeout)
        newest = max(self._store.numbers(), default=0)
        if newest != self._left_at:
            self._checkpointer.close()
            self._store.close()
            raise StoreError(
                f"somebody else has gone on with the run in {path}: its newest checkpoint is {newest or 'gone'}, and "
                f"was {self._left_at} when this process closed it. What this process holds is not its continuation: "
                "start the script again to go on from there, or give it another directory"
            )
        self._checkpointer.last, self._closed, self.ownership.ended = last, False, None
        if self._outputs is not None:
            self._outputs.open()
        if self._restorable.kept is None:
            self._restorable.built(self._walk(world))
            self._restorable.release(script_is_known=self._record.script_fingerprint is not None)

    def give_way(self) -> None:
        """Let another run of this process have the directory: what was begun is written, and nothing else."""
        self._interrupts.end()
        if not hasattr(self, "_checkpointer"):  # it was never wholly opened
            if hasattr(self, "_store"):
                self._store.close()
            return
        try:
            self.close()
        except StoreError as error:
            say(f"the last checkpoint could not be written: {error}")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close()
        except StoreError as problem:
            if kind is None:
                raise
            say(f"the last checkpoint could not be written: {problem}")

    def __repr__(self) -> str:
        return f"Run({self.directory!r}, step={0 if self.last is None else self.last.step})"

    def say_finished(self, done: str, what: str = "this run") -> None:
        """Tell the user that nothing is left to train, and how to begin anew.

        :param done: what was done: "all 100 steps are done".
        :param what: of what nothing is left.
        """
        say(_same_command.finished(self.directory, done, what))

    def _parts(self, world: Any) -> dict[str, Any]:
        if not isinstance(world, World | dict):
            raise TypeError(
                f"expected a perdure.World, found a {type(world).__name__}. Put it into one: World(name=...)"
            )
        self.ownership.check()
        parts = parts_of(world)
        for name in (PART, SCRIPT_STATE):
            if name in parts:
                raise PerdureError(
                    f"the world has a part named {name!r}, a name that the run itself uses; give it another name"
                )
        return {**parts, PART: self._record}


# An object of the world may hold the run, or one of its methods.
skip(Run, "the run itself")
