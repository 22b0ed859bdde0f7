"""One run: opened or resumed, checkpointed now and then, its best policy kept, closed. It joins worlds and stores."""

from __future__ import annotations

import gc
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from perdure.errors import (
    ChangedScriptWarning,
    DamagedCheckpointWarning,
    DamagedError,
    NotCapturedWarning,
    PerdureError,
    Preempted,
    RestoreError,
    StoreError,
)
from perdure.persistence import PolicyPersistence, versions
from perdure.progress import Bar
from perdure.run import _notices, _script_check
from perdure.run._best_policy import BestPolicy
from perdure.run._checkpointer import Checkpointer
from perdure.run._loop_variables import Watch
from perdure.run._signals import Interrupts
from perdure.state import Report, capture, check, parts_of, restore
from perdure.store import BEST, PINNED, Checkpoint, CheckpointInfo, Retention, Store
from perdure.tree import Array, Object, State
from perdure.world import World

#: The name under which the run's own progress stands beside the world's parts.
PART = "run"
_DEFAULT_SECONDS = 600.0


class RunRecord:
    """What a run itself carries from one process to the next, checkpointed with the world."""

    def __init__(self) -> None:
        #: The best score as this course of the run has seen it, and the step at which it was reached.
        self.best_score: float | None = None
        self.best_step: int | None = None
        #: What the script had built before anything ran (see `perdure.blueprint`).
        self.blueprint: np.ndarray[Any, Any] | None = None


class Run:
    """A run and the directory it lives in.

    Opening a run takes its lock: one process at a time trains in a directory, any number may read it.

    :param directory: of the run; made if it is not there. A later process that is given the same one goes on with it.
    :param keep: how many of the latest checkpoints to keep, besides the one that follows the best score; or a
        :class:`perdure.Retention`.
    :param persistence: how the best policy is persisted, and what with it; by default the whole policy.
    :param strict: whether it is an error if a checkpoint does not fit the script in every path.
    :param skip: paths of the world to leave out of the checkpoints, with `*` and `?` as wildcards.
    :param background: whether the checkpoints that `steps` and `maybe_checkpoint` take are written by a thread, while
        the training goes on. It waits only until what changed is copied.
    :param when_busy: what if a checkpoint is due while the one before it is still being written: "wait" for it, or
        "skip" the new one and say so.
    :param on_error: what if a checkpoint cannot be written, because the disk is full, say: "raise" the error where
        the training is, or "warn" of it, go on, and try again when the next one is due.
    :param compression: of what is written: "auto" where it pays, "zstd" wherever it makes it smaller, "none".
    :param lock_timeout: for how many seconds to wait for a previous process that is still leaving.
    :raises LockedError: if another process holds the run.
    :raises StoreError: if the directory cannot be written, or is not a run's.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int | Retention = 3,
        persistence: PolicyPersistence | None = None,
        strict: bool = True,
        skip: Sequence[str] = (),
        background: bool = True,
        when_busy: str = "wait",
        on_error: str = "raise",
        compression: str = "auto",
        lock_timeout: float = 10.0,
    ) -> None:
        self.directory = os.path.abspath(os.fspath(directory))
        self.keep = keep if isinstance(keep, Retention) else Retention(keep)
        self.background = background
        self.strict = strict
        self.skip = tuple(skip)
        self.progress = RunRecord()
        #: What became of every path at the last resume; None before one.
        self.report: Report | None = None
        self.interrupts = Interrupts()
        self._store = Store.open(self.directory, write=True, wait=lock_timeout, compression=compression)
        try:
            self._checkpointer = Checkpointer(
                self._store, self.keep, when_busy=when_busy, on_error=on_error, say=_say
            )
            versions.clean(self.directory)
        except BaseException:
            self._store.close()
            raise
        #: The published best policy.
        self.best_policy = BestPolicy(self.directory, persistence or PolicyPersistence())
        self._last_time = time.monotonic()
        self._closed = False
        self._best_untagged = False
        self._pending: Checkpoint | None = None
        self._at = 0
        #: The step of the last checkpoint that was asked for, whatever became of it.
        self._asked = 0

    @property
    def last(self) -> CheckpointInfo | None:
        """The newest checkpoint that this process committed or resumed from; None before one."""
        return self._checkpointer.last

    # -- going on -----------------------------------------------------------------------------------------------------

    def find_checkpoint(self, world: Any) -> CheckpointInfo | None:
        """Which checkpoint `resume` would go on from; None where the run starts at the beginning.

        Called with the world as the script built it, before the world is used; nothing in it is changed.

        :raises RestoreError: if the script builds arrays of other shapes than when the run began.
        :raises DamagedError: if there are checkpoints and all of them are damaged.
        """
        state = capture(self._parts(world), skip=self.skip)
        plan = _script_check.blueprint(state)
        if (left_out := _notices.secrets(state)) is not None:
            _say(left_out)
        self._pending = self._store.latest(deep=False)
        if self._pending is None:
            self.progress.blueprint = _script_check.pack(plan)
            return None
        self._check_edits(self._pending, world, plan)
        return self._pending.info

    def resume(self, world: Any) -> CheckpointInfo | None:
        """Write the newest good checkpoint into a world that the script has just built.

        :returns: which checkpoint it was; None where there is none yet: then the run starts at the beginning.
        :raises RestoreError: if the checkpoint does not fit the world; nothing was changed then.
        :raises DamagedError: if there are checkpoints and all of them are damaged.
        """
        if self._pending is None:
            self.find_checkpoint(world)
        checkpoint, self._pending = self._pending, None
        while checkpoint is not None:
            number = checkpoint.info.number
            try:
                with Bar(f"reading checkpoint {number}") as bar:
                    self.report = restore(
                        checkpoint.state,
                        _With(world, self.progress),
                        strict=self.strict,
                        skip=self.skip,
                        progress=bar.update,
                    )
            except DamagedError as error:
                # Every byte is verified as it is read. What was written into arrays so far is written over.
                checkpoint = self._older(number, error)
                continue
            self._resumed(world, checkpoint.info, self.report)
            return checkpoint.info
        return None

    def _resumed(self, world: Any, info: CheckpointInfo, report: Report) -> None:
        self._checkpointer.last = info
        # The next checkpoint is written upon this one.
        self._checkpointer.stager.prime(capture(self._parts(world), skip=self.skip), report.arrays)
        report.arrays.clear()
        self._at = self._asked = info.step
        self._last_time = time.monotonic()
        _say(f"{self._shown}: going on at step {info.step} (checkpoint {info.number})")
        if (own := _notices.places(report)) is not None:
            _say(own)

    def _older(self, damaged: int, error: DamagedError) -> Checkpoint:
        self._store.give_up(damaged, str(error))
        found = self._store.latest(deep=False, before=damaged)
        if found is None:
            raise DamagedError(
                f"checkpoint {damaged} is damaged, and there is no older one. The world may be half restored: do not "
                f"train on with it. What is wrong: {error}"
            ) from error
        warnings.warn(
            f"checkpoint {damaged} is damaged, and checkpoint {found.info.number} (step {found.info.step}) is used "
            f"instead. What is wrong with it: {error}",
            DamagedCheckpointWarning,
            stacklevel=4,
        )
        return found

    def _check_edits(self, checkpoint: Checkpoint, world: Any, now: dict[str, str]) -> None:
        part = checkpoint.state.root.fields.get(PART)
        node = part.fields.get("blueprint") if isinstance(part, Object) else None
        if not isinstance(node, Array):
            return
        kept = RunRecord()
        alone = State(Object("", {PART: Object(part.type, {"blueprint": node})}))  # type: ignore[union-attr]
        try:
            restore(alone, {PART: kept}, strict=False)
        except DamagedError:
            return  # what is wrong is told when it is resumed
        if kept.blueprint is None:
            return
        try:
            then = _script_check.unpack(kept.blueprint)
        except (ValueError, AttributeError):
            return  # nothing that Perdure wrote; it decides nothing
        shapes, values = _script_check.edited(then, now, _script_check.blueprint(checkpoint.state))
        if shapes and self.strict:
            report = check(checkpoint.state, _With(world, self.progress), skip=self.skip)
            raise RestoreError(
                f"the script is not the one that began the run in {self.directory}:\n"
                + "\n".join([*filter(None, [report.problems()]), *shapes[:20]])
                + "\nNothing was changed. Undo the edit to go on with this run, or start another in a new directory.",
                report,
            )
        if shapes + values:
            warnings.warn(
                f"the script has changed since the run in {self.directory} began; a resumed run keeps the values it "
                "began with:\n" + "\n".join((shapes + values)[:10]),
                ChangedScriptWarning,
                stacklevel=4,
            )

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

        :param step: how many steps are done; the next process goes on with the step of this number.
        :param counters: further positions, as JSON, for whoever resumes.
        :param metrics: what to show for this checkpoint, as JSON.
        :param tags: for finding it again.
        :param pin: never to delete it.
        :param wait: otherwise this returns as soon as what changed is copied, and the checkpoint is durable when
            `flush` returns; an error is raised by the next call on this run.
        :returns: the checkpoint; None if it was not waited for, or left out, or an error was only warned of.
        :raises CaptureError: if something in the world cannot be captured; it lists what, and the remedies.
        :raises StoreError: if it cannot be written; the previous checkpoints are untouched.
        """
        parts = self._parts(world)
        if not wait and not self._checkpointer.free():
            return None
        marks = [BEST] if self._best_untagged or BEST in self._checkpointer.unwritten else []
        marks += [PINNED] if pin else []
        shown = dict(metrics or {})
        if self.progress.best_score is not None:
            shown.setdefault("best", self.progress.best_score)
        # Whatever becomes of it, another one is not due before the next time.
        self._asked, self._last_time = step, time.monotonic()
        self._best_untagged = False
        with _uncollected():
            state = capture(parts, skip=self.skip)
            return self._checkpointer.save(
                state, wait=wait, step=step, counters=counters, metrics=shown, tags=[*tags, *marks]
            )

    def flush(self) -> None:
        """Wait until every checkpoint that was asked for is durable.

        :raises StoreError: if one could not be written.
        """
        self._checkpointer.flush()

    def due(self, step: int, every: int | None, seconds: float | None) -> bool:
        """Whether a checkpoint is due once `step` steps are done."""
        if self.interrupts.received is not None:
            return True
        if every is None and seconds is None:
            seconds = _DEFAULT_SECONDS
        if every is not None and step // every > self._asked // every:
            return True
        return seconds is not None and step > self._asked and time.monotonic() - self._last_time >= seconds

    def maybe_checkpoint(
        self,
        world: Any,
        step: int,
        *,
        every: int | None = None,
        seconds: float | None = None,
        counters: Mapping[str, Any] | None = None,
    ) -> None:
        """A safe place in a loop that is not `steps`: checkpoint if one is due, and leave if a signal asked for it.

        :raises Preempted: after the checkpoint, if a signal was received inside `guard`.
        :raises StoreError: if a checkpoint could not be written, this one or the one before.
        """
        self._at = step
        self._checkpointer.stager.observe()
        self._checkpointer.collect()
        received = self.interrupts.received
        if self.due(step, every, seconds):
            self.checkpoint(world, step, counters=counters, wait=received is not None or not self.background)
        if received is not None:
            saved = "nothing" if self.last is None else f"step {self.last.step}"
            _say(f"{received.name}: {saved} is saved in {self._shown}; start the same command again to go on")
            raise Preempted(128 + received)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """While entered, SIGTERM, SIGHUP and Ctrl-C wait for the next `maybe_checkpoint`; a second signal does not."""
        with self.interrupts:
            yield

    def steps(
        self, world: Any, total: int, *, every: int | None = None, seconds: float | None = None
    ) -> Iterator[int]:
        """The numbers of the steps that are still to do, from where the run was up to `total`.

        The world is resumed first. Between two steps, after the body of the loop has run, is where checkpoints
        are taken: when a multiple of `every` steps is done, when `seconds` have passed since the last one
        (every ten minutes if neither is given), when SIGTERM, SIGHUP or Ctrl-C was received (then the process
        leaves with `Preempted`), and after the last step. A loop that breaks or raises leaves the run where its last
        checkpoint was.

        :param world: what the loop works on. Local variables that a step hands to the next must be in it.
        :param total: number of steps of the whole run.
        """
        if isinstance(world, World) and world.persist_directory is None:
            world.persist_directory = self.directory
        resumed = self.resume(world)
        start = 0 if resumed is None else resumed.step
        if start >= total:
            beyond = "" if start == total else f" ({start} steps, in fact)"
            _say(f"{self._shown}: all {total} steps are done{beyond}")
        watch: Watch | None = None
        watching = True
        with self.guard(), self._settled():
            for step in range(start, total):
                self._at = step
                yield step
                done = step + 1
                if watch is None:
                    # After a first step every variable of the loop has its value.
                    watch = Watch(sys._getframe(1), parts_of(world), (world, self))
                elif watching and (done == total or self.due(done, every, seconds)):
                    watching = False
                    self._warn_of_variables(watch.lost(sys._getframe(1)))
                if done < total:
                    self.maybe_checkpoint(world, done, every=every, seconds=seconds)
            if start < total:
                self.checkpoint(world, total)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """However it is left, what is on its way is written; an error there does not hide the one that it is left
        with."""
        try:
            yield
        except BaseException:
            try:
                self.flush()
            except StoreError as error:
                _say(f"the last checkpoint could not be written: {error}")
            raise
        self.flush()

    def _warn_of_variables(self, names: Sequence[str]) -> None:
        if names:
            warnings.warn(
                f"the loop hands {', '.join(names)} from one step to the next, which no checkpoint holds: a resumed "
                f"run is not exact if they matter. Keep them in the world, as in `world.{names[0]} = ...`",
                NotCapturedWarning,
                stacklevel=3,
            )

    # -- the best policy ----------------------------------------------------------------------------------

    def report_score(self, score: float, world: Any, policy: torch.nn.Module | None = None) -> bool:
        """Keep the policy if its score is the best so far; greater is better.

        The answer is that of the uninterrupted run: what a process that was killed saw after its last checkpoint
        does not count. The file is safer than that: a policy that was published is only replaced by a better one.

        :param world: the world; handlers of the run's `persistence` are told.
        :param policy: what to persist; by default the world's `policy`, `algorithm`, `agent` or `model`.
        :returns: whether it is the best so far. NaN never is.
        :raises NotPicklableError: if the whole policy cannot be pickled; it names the attribute.
        """
        score = float(score)
        before = self.progress.best_score
        if math.isnan(score) or (before is not None and score <= before):
            return False
        self.best_policy.offer(score, self._at, world, policy)
        self.progress.best_score = score
        self.progress.best_step = self._at
        self._best_untagged = True
        return True

    @property
    def best_score(self) -> float | None:
        """The score of the published best policy, whichever process reached it; None if there is none."""
        return self.best_policy.score

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the checkpoint that is being written, and give the run's lock back. Nothing else is saved.

        :raises StoreError: if that checkpoint could not be written.
        """
        self._closed = True
        try:
            self._checkpointer.close()
        finally:
            self._store.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self.close()
        except StoreError as problem:
            if kind is None:
                raise
            _say(f"the last checkpoint could not be written: {problem}")

    def __repr__(self) -> str:
        return f"Run({self.directory!r}, step={0 if self.last is None else self.last.step})"

    @property
    def _shown(self) -> str:
        """The directory as a person would type it."""
        return min(self.directory, os.path.relpath(self.directory), key=len)

    def _parts(self, world: Any) -> dict[str, Any]:
        if not isinstance(world, World | dict):
            raise TypeError(
                f"expected a perdure.World, found a {type(world).__name__}. Put it into one: World(name=...)"
            )
        if self._closed:
            raise StoreError(f"this run is closed; open it anew: perdure.Run({self._shown!r})")
        parts = parts_of(world)
        if PART in parts:
            raise PerdureError(
                f"the world has a part named {PART!r}, which is the run's own; give it another name"
            )
        return {**parts, PART: self.progress}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: a walk makes thousands of objects, none of them garbage, and with torch loaded a
    full collection that they set off takes many times as long as the walk.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _say(what: str) -> None:
    """One line for the person at the terminal, apart from what the script prints."""
    print(f"perdure: {what}", file=sys.stderr, flush=True)


class _With:
    """A world with the run's progress beside its parts, for restoring."""

    _world: Any
    _progress: RunRecord

    def __init__(self, world: Any, progress: RunRecord) -> None:
        vars(self).update(_world=world, _progress=progress)

    def parts(self) -> dict[str, Any]:
        return {**parts_of(self._world), PART: self._progress}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self._world, dict):
            self._world[name] = value
        else:
            setattr(self._world, name, value)
