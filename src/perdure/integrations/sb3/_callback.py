"""The callback that users give to `learn`: it opens the run, resumes it, and takes checkpoints at the safe point."""

from __future__ import annotations

import math
import os
import sys
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback, ProgressBarCallback
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from perdure import arguments
from perdure.errors import (
    CaptureError,
    DamagedCheckpointWarning,
    DamagedError,
    NotPicklableError,
    PerdureWarning,
    StoreError,
    user_level,
)
from perdure.integrations.sb3 import _ars, _calls, _frames
from perdure.integrations.sb3._best import Normalization
from perdure.integrations.sb3._calls import END, START, Place
from perdure.integrations.sb3._frames import SafePoint
from perdure.persistence import PolicyPersistence
from perdure.run import Run
from perdure.state import leave_out, skip
from perdure.store import CheckpointInfo, Retention
from perdure.world import World

_CALL = "it belongs to the call of learn()"
leave_out(
    "stable_baselines3.common.base_class.BaseAlgorithm",
    ("_total_timesteps", "_num_timesteps_at_start"),
    _CALL,
)
leave_out(
    "stable_baselines3.common.callbacks.BaseCallback", ("locals", "globals"), "variables of the training loop"
)
leave_out(
    "stable_baselines3.common.vec_env.base_vec_env.VecEnvWrapper",
    ("class_attributes",),
    "members of its class",
)
leave_out("stable_baselines3.common.logger.Logger", ("dir",), "where this process logs")
skip("stable_baselines3.common.logger.KVWriter", "a writer of logs")

#: The variables of `learn` in SB3 and sb3-contrib that say at which step it ends.
_TOTALS = ("total_timesteps", "total_steps")


class PersistenceCallback(BaseCallback):
    """Makes `model.learn` survive being killed: run the same script again and it goes on where it was.

    It checkpoints the model with its replay buffer, its environments in mid-episode, VecNormalize, every other
    callback of the list, and all random generators. After SIGTERM or Ctrl-C it saves a checkpoint when the next
    rollout begins, then the process exits. With `grace=25` it exits within 25 seconds, also from the middle of a long
    rollout or evaluation; what was done since the rollout began is done again, exactly.

    A script may call `learn` several times, with this callback or with a new one for the same directory. The end of
    each call is a checkpoint that is kept for ever. When the script runs again, a call that is done trains nothing and
    leaves the model as it was after it; the call that was interrupted goes on.

    The best policy is published as `policy.pt`, with the statistics of VecNormalize: whenever the first EvalCallback of
    the list finds a new best mean reward, or by :meth:`report_score`. :func:`load_best` loads it.

    Environments in worker processes (SubprocVecEnv) need a wrapper that can be asked for their state, outermost:
    `make_vec_env(..., vec_env_cls=SubprocVecEnv, wrapper_class=perdure.environments.Resumable)`.

    :param directory: of the run; created if it does not exist. Each model needs its own.
    :param every: environment steps between two checkpoints. An on-policy algorithm takes them between its rollouts.
    :param seconds: time between two checkpoints; ten minutes if neither is given.
    :param keep: how many of the latest checkpoints to keep, or a :class:`perdure.Retention`.
    :param strict: whether it is an error if a checkpoint does not fit the model in every path.
    :param best_of_evaluation: whether an EvalCallback decides which policy is the best. Set it to False where you
        report scores of another kind.
    :param options: other options of :class:`perdure.Run`: `on_error`, `when_busy`, `grace`, `signals`, …

    `learn` raises :class:`perdure.errors.CaptureError` where the algorithm holds state that no checkpoint could hold,
    and :class:`perdure.errors.RestoreError` if the run in the directory is not that of this model.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | None = None,
        seconds: float | None = None,
        keep: int | Retention = 3,
        strict: bool = True,
        best_of_evaluation: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.directory = arguments.local_path(directory, "directory")
        self.every, self.seconds = arguments.cadence(every, seconds)
        self.keep = keep
        self.strict = strict
        self.best_of_evaluation = best_of_evaluation
        self.options = options
        self._normalization = Normalization()
        self._evaluation: EvalCallback | None = None
        self._best_seen = -math.inf
        self._has_own_place = False
        self.world = World()
        #: The run, while `learn` is going; None before.
        self.run: Run | None = None
        self._exit = ExitStack()

    # -- what Stable-Baselines3 calls ---------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self._leave()
        with ExitStack() as opening:
            self._begin(opening)
            self._exit = opening.pop_all()
            _calls.opened(self._real, self._exit.close, self.model, self._learn.f_code)

    def _on_rollout_start(self) -> None:
        self._seen = True
        if not self._has_own_place:
            self._safe_point()

    def _on_step(self) -> bool:
        if not self._seen:
            raise CaptureError(
                "this PersistenceCallback is not told when rollouts begin, so it could take no checkpoint: it is "
                "inside another callback. Give it to learn() itself: callback=[other, PersistenceCallback(...)]"
            )
        self._look_at_evaluation()
        return True

    def _on_rollout_end(self) -> None:
        # An EvalCallback after this one in the list has evaluated since; the policy is trained only after this.
        self._look_at_evaluation()

    def _on_training_end(self) -> None:
        assert self.run is not None
        if self._done_before is None:
            self._look_at_evaluation()
        calls = self._calls
        if self._done_before is None:
            self._checkpoint_end()
        elif self.world.callbacks:
            # The ends of the other callbacks have changed them: as often as this call ended is once.
            self._restore(self._done_before.number)
        calls.done, calls.up_to_date = self._call, self._is_newest
        _calls.ended(self.model, self._real, self._shown)
        # If a signal came in the last rollout, the process exits here.
        self._leave()

    # -- the best policy ----------------------------------------------------------------------------------------------

    def report_score(self, score: float) -> bool:
        """Publish the policy if its score is the best so far; greater is better. Call it while `learn` is going.

        :returns: whether it is the best so far.
        :raises NotPicklableError: if the policy cannot be pickled; it names the attribute.
        :raises StoreError: if `learn` is not going.
        """
        if self.run is None or not self._is_going:
            raise StoreError(
                "report_score: the run is open only while learn() is going; call it in a callback"
            )
        return self.run.report_score(score, self.world)

    def _look_at_evaluation(self) -> None:
        """Publish the policy if the EvalCallback has found a new best."""
        found = self._evaluation
        if found is None or self.run is None or not found.best_mean_reward > self._best_seen:
            return
        self._best_seen = found.best_mean_reward
        # The score was reached with the statistics that the evaluation used.
        self._normalization.source = unwrap_vec_normalize(found.eval_env)
        try:
            self.run.report_score(found.best_mean_reward, self.world)
        except NotPicklableError as error:
            self._evaluation = None
            warnings.warn(
                f"the best policy is not published: {error}", PerdureWarning, stacklevel=user_level()
            )
        finally:
            self._normalization.source = None

    # -- the beginning of a call --------------------------------------------------------------------------------------

    def _begin(self, opening: ExitStack) -> None:
        frames = list(_stack(self))
        if not frames:
            raise CaptureError("PersistenceCallback works inside model.learn(callback=...) only")
        self._learn, self._root = frames[0], _root(self)
        self._began = {name: value for name, value in self._learn.f_locals.items() if _frames.is_plain(value)}
        self._collects_at = self._learn.f_lasti
        self._total: int = self.model._total_timesteps
        self._real = os.path.realpath(self.directory)
        self._seen = self._checked = False
        self._best_seen = -math.inf
        self._pending: list[int] = []
        self._done_before: CheckpointInfo | None = None
        self._is_newest = True
        self.world = World(model=self.model, callbacks=_remembering(self._root))
        # A crash keeps what is to be closed, but must not keep the model.
        forget, model = weakref.WeakMethod(self._forget), weakref.ref(self.model)
        opening.callback(lambda: (forget() or _nothing)())
        opening.callback(lambda: _ars.stop_calling(model()))
        opening.callback(_calls.closed, self._real)
        self._calls = _calls.calls_of(self.model, self._real, self._open_run, self.world)
        opening.callback(self._calls.run.close)
        self.run = self._calls.run
        # The run may have been opened by another callback of this class.
        handler = self.run.best_policy.persistence.additional_persistence
        assert isinstance(handler, Normalization)
        self._normalization = handler
        evaluations = [each for each in self.world.callbacks.values() if isinstance(each, EvalCallback)]
        self._evaluation = evaluations[0] if evaluations and self.best_of_evaluation else None
        self._call = self._calls.done + 1
        if not self._calls.up_to_date:
            self._find_place()
        # Until this call has ended, a new call by this model would be this one again.
        self._calls.up_to_date = False
        last = self.run.last
        self._steps_before = 0 if last is None else max(0, last.step - self.model.num_timesteps)
        self._has_own_place = _ars.call_before_updates(self.model, self._safe_point)
        code = self._learn.f_code
        opening.enter_context(self.run.guard(is_abandoned=lambda: not _calls.is_running(model(), code)))

    def _open_run(self) -> Run:
        return Run(
            self.directory,
            keep=self.keep,
            strict=self.strict,
            persistence=PolicyPersistence(self._normalization),
            **self.options,
        )

    @property
    def _is_going(self) -> bool:
        return hasattr(self, "_learn")

    def _leave(self) -> None:
        """Close the run, if it is open."""
        self._exit.close()

    def _forget(self) -> None:
        del self._learn

    @property
    def _shown(self) -> str:
        return f"{type(self.model).__name__}, seed {self.model.seed}"

    # -- where the run goes on ----------------------------------------------------------------------------------------

    def _find_place(self) -> None:
        """Find where this call goes on, if the run is there or beyond already."""
        assert self.run is not None
        found = self.run.find_checkpoint(self.world)
        if found is None:
            return
        _calls.check_model(self.model, self.model.seed, self._real, self._shown)
        infos, place = self.run.checkpoints(), Place.of(found)
        starts = _calls.starts(infos, self._call, found.number)
        if place.call > self._call:
            self._skip(_calls.end_of(infos, self._call, self._real), [])
        elif place.call < self._call:
            pass  # it was interrupted before its first checkpoint
        elif place.at == START or place.stopped:
            # What a callback has stopped goes on: if for the time, it trains further, otherwise it stops there again.
            self._pending = starts
            if place.at == START and place.timesteps >= self._total:
                self._go_on(self._point([self._learn]))
        elif self._total > max(place.total, place.timesteps):
            self._restore(found.number)
            self._point([self._learn]).write(_variables(found))
        else:
            self._skip(found, starts)

    def _skip(self, end: CheckpointInfo, starts: list[int]) -> None:
        """Let a call that is done train nothing: it ends at once, where it ended.

        :param starts: what to go on from if that checkpoint is damaged.
        """
        assert self.run is not None
        try:
            self._restore(end.number)
        except DamagedError as error:
            if not starts:
                raise
            self._warn(end.number, starts[0], error)
            self._pending = starts
            return
        self._done_before = end
        self._is_newest = end.number == max(info.number for info in self.run.checkpoints())
        if self.model.num_timesteps < self._total:
            self._end_at_once()
        total = Place.of(end).total
        if self._is_newest:
            self.run.say_finished(f"all {total} steps are done", f"call {self._call} of learn()")
        elif self._total != total:
            _say(
                f"call {self._call} of learn() was done with {total} steps in all. It is not done again, although the "
                f"script asks for {self._total} now: calls after it have gone on from its end"
            )

    def _end_at_once(self) -> None:
        """Let the loop of `learn` see that all steps are done."""
        there = self._learn.f_locals
        totals = {name: self.model.num_timesteps for name in _TOTALS if there.get(name) == self._total}
        if totals:
            _frames.write(self._learn, totals)
        else:
            self.model.num_timesteps = self._total

    def _go_on(self, point: SafePoint) -> None:
        """Restore the newest checkpoint of this call that is whole.

        :param point: where it is restored.
        """
        mirrors = point.mirrors(vars(self.model))
        for number, older in zip(self._pending, [*self._pending[1:], None], strict=True):
            try:
                info = self._restore(number)
            except DamagedError as error:
                if older is None:
                    raise DamagedError(
                        f"{error}\nThere is no older checkpoint of this call of learn(). Remove what is damaged, and "
                        f"start the script again, which goes on with what is left: perdure repair {self.directory}"
                    ) from error
                self._warn(number, older, error)
            else:
                break
        self._pending = []
        for frame, name, attribute in mirrors:
            if frame.f_locals[name] is not (value := getattr(self.model, attribute)):
                _frames.write(frame, {name: value})
        point.write(_variables(info))
        last = self.model.num_timesteps
        self._steps_before = max(0, info.step - last)

    def _warn(self, damaged: int, instead: int, error: DamagedError) -> None:
        warnings.warn(
            f"checkpoint {damaged} is damaged, and checkpoint {instead} is used instead. What is wrong: {error}",
            DamagedCheckpointWarning,
            stacklevel=user_level(),
        )

    def _restore(self, number: int) -> CheckpointInfo:
        assert self.run is not None
        info = self.run.resume(self.world, number=number)
        assert info is not None
        # A callback that the checkpoint did not know starts afresh, and is remembered from now on.
        self.world.callbacks = _remembering(self._root)
        # The rate that SB3 logs is that since the call began, and so is the time. Earlier versions did not record it.
        began = (info.counters or {}).get("from")
        self.model._num_timesteps_at_start = began if isinstance(began, int) else self.model.num_timesteps
        return info

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _safe_point(self) -> None:
        assert self.run is not None
        self._seen = True
        if self._pending:
            self._go_on(self._checked_point())
            return
        if not self._checked:
            self._checked_point()
        step = self.model.num_timesteps + self._steps_before
        counters: dict[str, Any] = {}

        def refresh() -> None:
            counters.update(self._counters(START, self._checked_point()))

        try:
            self.run.safe_point(self.world, step, self.every, self.seconds, counters, refresh)
        except BaseException:
            self._leave()
            raise

    def _checkpoint_end(self) -> None:
        assert self.run is not None
        point = self._point([self._learn], self._collects_at)
        self.run.checkpoint(
            self.world,
            self.model.num_timesteps + self._steps_before,
            counters=self._counters(END, point, stopped=self.model.num_timesteps < self._total),
            tags=[f"learn {self._call}"],
            pin=True,
        )

    def _counters(self, at: str, point: SafePoint, *, stopped: bool = False) -> dict[str, Any]:
        place = Place(self._call, at, self._total, self.model.num_timesteps, stopped)
        began = self.model._num_timesteps_at_start
        return {**place.counters(), "from": began, "variables": point.variables()}

    def _checked_point(self) -> SafePoint:
        """The functions between this callback and `learn`, which hold nothing that no checkpoint holds.

        :raises CaptureError: if they do.
        """
        frames = []
        for frame in _stack(self):
            frames.append(frame)
            if frame is self._learn:
                break
        else:
            raise CaptureError(
                f"{type(self.model).__name__} collects its rollouts in another thread than learn() runs in, so "
                "checkpoints between two rollouts cannot be taken. Collect them in the thread of learn()"
            )
        point = self._point(frames)
        point.check()
        self._checked, self._collects_at = True, self._learn.f_lasti
        return point

    def _point(self, frames: list[FrameType], at: int | None = None) -> SafePoint:
        assert self.run is not None
        return SafePoint(
            [(frame, frame.f_lasti if at is None else at) for frame in frames],
            self._began,
            [self, self._root, self.model, *vars(self.model).values(), *self.world.callbacks.values()],
            partial(self.run.reachable, self.world),
        )


def _variables(info: CheckpointInfo) -> Mapping[str, Any]:
    found = (info.counters or {}).get("variables", {})
    return found if isinstance(found, Mapping) else {}


def _stack(callback: BaseCallback) -> Iterator[FrameType]:
    """The functions that are running, from the innermost one that is neither Perdure's nor a callback's on outwards."""
    frame = _outermost_of_callbacks(callback)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _outermost_of_callbacks(callback: BaseCallback) -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_is_ours(frame) or isinstance(_self(frame), BaseCallback)):
        frame = frame.f_back
    return frame


def _root(callback: BaseCallback) -> BaseCallback:
    """The callback that `learn` calls: this one, or the list that it is in."""
    frame: FrameType | None = sys._getframe(1)
    found = callback
    while frame is not None and (_is_ours(frame) or isinstance(_self(frame), BaseCallback)):
        mine = _self(frame)
        found = mine if isinstance(mine, BaseCallback) else found
        frame = frame.f_back
    return found


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("perdure.")


def _self(frame: FrameType) -> Any:
    names = frame.f_code.co_varnames
    return frame.f_locals.get(names[0]) if frame.f_code.co_argcount else None


def _remembering(root: BaseCallback) -> dict[str, BaseCallback]:
    """The callbacks whose memory belongs to the run, by class: the best reward that an EvalCallback has seen, say."""
    found: dict[str, BaseCallback] = {}
    pending = [root]
    while pending:
        callback = pending.pop(0)
        if isinstance(callback, CallbackList):
            pending = callback.callbacks + pending
        elif not isinstance(callback, PersistenceCallback | ProgressBarCallback):
            name = type(callback).__name__
            found[f"{name}#{len(found)}" if name in found else name] = callback
    return found


def _nothing() -> None:
    """What is left to do for a callback that is gone."""


def _say(what: str) -> None:
    print(f"perdure: {what}", file=sys.stderr, flush=True)


skip(PersistenceCallback, "Perdure itself")
