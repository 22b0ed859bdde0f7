"""One training of a Tianshou trainer: its safe points, and its best policy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from tianshou.trainer import InfoStats, OfflineTrainer, Trainer

from perdure.errors import NotCapturedWarning, NotPicklableError, RestoreError, user_level
from perdure.persistence import PolicyPersistence
from perdure.run import Run
from perdure.world import World

_STEP, _EPOCH = "before a training step", "between epochs"


class Cadence(NamedTuple):
    """When a checkpoint is due: after so many steps, or so many seconds."""

    every: int | None
    seconds: float | None


class Training:
    """One training of a trainer, from the run's newest checkpoint to its end.

    :param opened: the run.
    :param world: what its checkpoints hold; by default the trainer and the algorithm.
    :param handlers_world: what the handlers are given; by default the same.
    :param falls_back: whether a policy that cannot be pickled is published as its state dictionary instead.
    """

    def __init__(
        self,
        trainer: Trainer[Any, Any],
        opened: Run,
        cadence: Cadence,
        world: World | None = None,
        handlers_world: Any = None,
        *,
        falls_back: bool,
    ) -> None:
        self.trainer = trainer
        self.opened = opened
        self.cadence = cadence
        self.world = World(trainer=trainer, algorithm=trainer.algorithm) if world is None else world
        self.handlers_world = self.world if handlers_world is None else handlers_world
        self.falls_back = falls_back
        self.done = 0
        self.carried = 0

    @property
    def step(self) -> int:
        offline = isinstance(self.trainer, OfflineTrainer)
        return int(self.trainer._current_update_step if offline else self.trainer._env_step)

    def run(self, reset: Callable[[], None]) -> InfoStats:
        trainer, params = self.trainer, self.trainer.params
        save_best, training_step = params.save_best_fn, trainer._training_step
        params.save_best_fn = lambda algorithm: self.save_best(algorithm, save_best)
        trainer._training_step = lambda: self.training_step(training_step)
        try:
            with self.opened.guard():
                found = self.opened.find_checkpoint(self.world)
                if found is None:
                    if params.resume_from_log:
                        self.check_log()
                    reset()
                    # A process that resumes resets first too.
                    self.opened.remember_built(self.world)
                    if params.resume_from_log:
                        # From now on the log is ahead of the weights that a process builds: there must be a checkpoint.
                        self.opened.checkpoint(self.world, self.step, counters={"at": _EPOCH})
                else:
                    # Some environments are whole only after a first reset; all that it draws is put back.
                    trainer._reset_collectors()
                    # Another one than was found, if that one turned out to be damaged when it was read.
                    resumed = self.opened.resume(self.world) or found
                    counters = resumed.counters or {}
                    if counters.get("at") == _STEP:
                        self.carried = counters["steps_in_epoch"]
                        trainer._epoch -= 1
                        trainer._current_update_step -= 1
                    elif trainer._stop_fn_flag:
                        self.opened.say_finished("stop_fn has stopped the training")
                    elif trainer._epoch >= params.max_epochs:
                        self.opened.say_finished(f"all {params.max_epochs} epochs are done")
                while trainer._epoch < params.max_epochs and not trainer._stop_fn_flag:
                    self.done, self.carried = self.carried, self.carried
                    trainer.execute_epoch()
                    if trainer._epoch < params.max_epochs and not trainer._stop_fn_flag:
                        self.opened.maybe_checkpoint(
                            self.world, self.step, **self.cadence._asdict(), counters={"at": _EPOCH}
                        )
                last = self.opened.last
                if last is None or last.step < self.step or (last.counters or {}).get("at") != _EPOCH:
                    self.opened.checkpoint(self.world, self.step, counters={"at": _EPOCH})
            return trainer._create_info_stats()
        finally:
            params.save_best_fn = save_best
            del trainer._training_step

    def check_log(self) -> None:
        """Refuse to take an epoch from the log: the weights that belong to it are in no checkpoint of this run."""
        epoch, env_step, update_step = self.trainer._logger.restore_data()
        if epoch or env_step or update_step:
            raise RestoreError(
                f"resume_from_log=True: the log is at epoch {epoch} ({env_step} environment steps, {update_step} "
                f"updates), but the run in {self.opened.directory} has no checkpoint, so the weights of that epoch are "
                "not there. Pass resume_from_log=False to begin anew: Perdure's checkpoints hold the epoch, too. To "
                "keep what the log shows, log to a new directory."
            )

    def training_step(self, original: Callable[[], Any]) -> Any:
        step = self.step - (1 if isinstance(self.trainer, OfflineTrainer) else 0)
        self.opened.maybe_checkpoint(
            self.world, step, **self.cadence._asdict(), counters={"at": _STEP, "steps_in_epoch": self.done}
        )
        result = original()
        advance = result.get_steps_in_epoch_advancement()
        self.done += advance
        if self.carried:
            # What the loop counted before the process was killed, counted again at once.
            advance += self.carried
            self.carried = 0
            result.get_steps_in_epoch_advancement = lambda: advance
        return result

    def save_best(self, algorithm: Any, original: Callable[[Any], None] | None) -> None:
        score = float(self.trainer._best_score)
        published = self.opened.best_policy
        if not published.beaten_by(score):
            return
        if original is not None:
            original(algorithm)
        try:
            published.offer(score, self.step, self.handlers_world, algorithm)
        except NotPicklableError as error:
            if not self.falls_back:
                raise
            warnings.warn(
                f"the whole policy cannot be pickled ({error.path}); its state dictionary is published instead. Pass "
                "persistence=PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT) to choose that",
                NotCapturedWarning,
                stacklevel=user_level(),
            )
            published.persistence = PolicyPersistence(
                published.persistence.additional_persistence,
                published.persistence.enabled,
                PolicyPersistence.Mode.POLICY_STATE_DICT,
            )
            published.offer(score, self.step, self.handlers_world, algorithm)
