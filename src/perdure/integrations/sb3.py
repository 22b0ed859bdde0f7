"""Stable-Baselines3: takes checkpoints at the safe point of its training loop. What holds state is found by the walk.

The safe point is the start of a rollout: only the model, its environments and the callbacks hold state then. The new
process restores a checkpoint at the same point, before its first rollout.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback

from perdure.persistence import PolicyPersistence
from perdure.run import Run
from perdure.state import leave_out, skip
from perdure.store import Retention
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

_START, _END = "rollout start", "training end"


class PersistenceCallback(BaseCallback):
    """Makes `model.learn` survive being killed: run the same script again and it goes on where it was.

    The first call of `learn` in a process resumes the run in `directory`, if there is one. From then on it
    checkpoints the model with its replay buffer, its environments in mid-episode, VecNormalize, every other
    callback of the list, and all random generators. After SIGTERM or Ctrl-C it saves a checkpoint when the next
    rollout begins, then the process exits. With `grace=25` it exits within 25 seconds, also from the middle of a long
    rollout or evaluation; what was done since the rollout began is done again, exactly.

    Environments in worker processes (SubprocVecEnv) need a wrapper that can be asked for their state, outermost:
    `make_vec_env(..., vec_env_cls=SubprocVecEnv, wrapper_class=perdure.environments.Resumable)`. A script that calls
    `learn` several times resumes in the first call; give a run to each call that must be resumed exactly.

    :param directory: of the run; created if it does not exist.
    :param every: environment steps between two checkpoints. An on-policy algorithm takes them between its rollouts.
    :param seconds: time between two checkpoints; ten minutes if neither is given.
    :param keep: how many of the latest checkpoints to keep, or a :class:`perdure.Retention`.
    :param strict: whether it is an error if a checkpoint does not fit the model in every path.
    :param options: other options of :class:`perdure.Run`: `on_error`, `when_busy`, `grace`, `signals`, …
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int | None = None,
        seconds: float | None = None,
        keep: int | Retention = 3,
        strict: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.directory = directory
        self.every = every
        self.seconds = seconds
        self.keep = keep
        self.strict = strict
        self.options = options
        #: The run, while `learn` is going; None before.
        self.run: Run | None = None
        self._exit = ExitStack()
        self._resume = False
        self._resumed = False
        self._total = 0
        #: What a fresh process resumes into, in its first call of `learn`.
        self._baseline: Any = None
        self._root: BaseCallback = self

    def _on_training_start(self) -> None:
        self._exit.close()
        run = Run(
            self.directory,
            keep=self.keep,
            strict=self.strict,
            persistence=PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT),
            **self.options,
        )
        self._exit.callback(run.close)
        try:
            self.run = run
            self._total = self.locals["total_timesteps"]
            self._root = self.locals.get("callback", self)
            self.world = World(model=self.model, callbacks=_remembering(self._root))
            if self._resumed:
                run.baseline = self._baseline
            else:
                found = run.find_checkpoint(self.world)
                self._resume = found is not None
                if found is not None and (
                    found.step >= self._total or (found.counters or {}).get("at") == _END
                ):
                    self._go_on()
                    if found.step >= self._total:
                        run.say_finished(f"all {self._total} steps are done")
            self._exit.enter_context(run.guard())
        except BaseException:
            self._exit.close()
            raise

    def _go_on(self) -> None:
        assert self.run is not None
        self.run.resume(self.world)
        self._resume, self._resumed = False, True
        # A callback that the checkpoint did not know starts afresh, and is remembered from now on.
        self.world.callbacks = _remembering(self._root)
        self.model._num_timesteps_at_start = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        assert self.run is not None
        if self._resume:
            self._go_on()
            return
        try:
            self.run.maybe_checkpoint(
                self.world,
                self.model.num_timesteps,
                every=self.every,
                seconds=self.seconds,
                counters={"at": _START},
            )
        except BaseException:
            # `learn` says nothing at its end if it ends by an exception.
            self._exit.close()
            raise

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        assert self.run is not None
        last = self.run.last
        # A run that another callback stopped has no final checkpoint: it stopped within a rollout, and from its last
        # checkpoint it comes to the same place again.
        if self.model.num_timesteps >= self._total and (last is None or last.step < self.model.num_timesteps):
            self.run.checkpoint(self.world, self.model.num_timesteps, counters={"at": _END})
        self._resumed = True
        self._baseline = self.run.baseline
        self._exit.close()


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


skip(PersistenceCallback, "Perdure itself")
