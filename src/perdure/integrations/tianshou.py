"""Tianshou 2: takes checkpoints at the safe points of its trainers. What holds state is found by the walk.

The safe points are before each training step and between epochs. The loop over an epoch keeps one number in a local
variable: how many steps of the epoch are done. It is saved with the checkpoint, and the first training step after a
resume hands it back to the loop.
"""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tianshou.trainer import InfoStats, OfflineTrainer, Trainer, TrainerParams

from perdure.environments import Resumable
from perdure.errors import NotCapturedWarning, NotPicklableError, user_level
from perdure.persistence import PersistenceGroup, PolicyPersistence
from perdure.run import Run
from perdure.state import leave_out, skip
from perdure.store import Retention
from perdure.world import World

if TYPE_CHECKING:
    from tianshou.highlevel.experiment import Experiment, ExperimentResult

leave_out(Trainer, ("_training_step",), "a method")
leave_out(
    TrainerParams, ("max_epochs",), "it belongs to the call: a longer training goes on from a shorter one"
)
skip("tianshou.utils.logger.wandb.WandbLogger", "a writer of logs")
skip("tianshou.utils.progress_bar.DummyTqdm", "a progress bar")

_IN_PROCESSES = (
    "SUBPROC",
    "SUBPROC_SHARED_MEM_DEFAULT_CONTEXT",
    "SUBPROC_SHARED_MEM_FORK_CONTEXT",
    "SUBPROC_SHARED_MEM_AUTO",
)
_STEP, _EPOCH = "before a training step", "between epochs"


def run(
    subject: Trainer[Any, Any] | Experiment,
    directory: str | os.PathLike[str],
    *,
    every: int | None = None,
    seconds: float | None = None,
    keep: int | Retention = 3,
    strict: bool = True,
    persistence: PolicyPersistence | None = None,
    reset_collectors: bool = True,
    reset_collector_buffers: bool = False,
    **options: Any,
) -> Any:
    """In place of `trainer.run()` or `experiment.run()`: the same training, which survives being killed.

    Run the same script again and it goes on where it was, with the same result as if nothing had happened. The
    best policy is published in the run's directory (`policy.pt`, or `policy_state_dict.pt` if the policy
    cannot be pickled as a whole). The trainer's `save_best_fn` is called too, but never for a policy
    that is worse than the best one of an earlier process. After SIGTERM or Ctrl-C it saves a checkpoint before the
    next training step, then the process exits.

    :param subject: a trainer (on-policy, off-policy or offline), or a high-level experiment. If a trainer's
        environments run in worker processes, each needs a wrapper that can be asked for its state:
        `SubprocVectorEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...])`. An experiment's get it here.
    :param directory: of the run; created if it does not exist.
    :param every: steps between two checkpoints: of the environment, or gradient steps where the training is offline.
    :param seconds: time between two checkpoints; ten minutes if neither is given.
    :param keep: how many of the latest checkpoints to keep, or a :class:`perdure.Retention`.
    :param strict: whether it is an error if a checkpoint does not fit the trainer in every path.
    :param persistence: how the best policy is persisted, and what with it.
    :param reset_collectors: as for `trainer.run()`; not used when the run is resumed.
    :param reset_collector_buffers: as for `trainer.run()`; not used when the run is resumed.
    :param options: other options of :class:`perdure.Run`: `on_error`, `when_busy`, `grace`, `signals`, …
    :returns: what the trainer (`InfoStats`) or the experiment (`ExperimentResult`) returns.
    """
    with Run(directory, keep=keep, strict=strict, persistence=persistence, **options) as opened:
        cadence = {"every": every, "seconds": seconds}
        # The high level needs packages that Tianshou does not install by itself. Without an experiment none is needed.
        highlevel = sys.modules.get("tianshou.highlevel.experiment")
        if highlevel is not None and isinstance(subject, highlevel.Experiment):
            return _Experiment(subject, opened, cadence, persistence is None).run()
        session = _Session(subject, opened, cadence, persistence is None)
        return session.run(lambda: subject.reset(reset_collectors, reset_collector_buffers))


class _Session:
    """One call of `run` on a trainer."""

    def __init__(
        self,
        trainer: Trainer[Any, Any],
        opened: Run,
        cadence: dict[str, Any],
        choose: bool,
        world: World | None = None,
        handlers_world: Any = None,
    ) -> None:
        self.trainer = trainer
        self.opened = opened
        self.cadence = cadence
        self.choose = choose
        self.world = world or World(trainer=trainer, algorithm=trainer.algorithm)
        self.handlers_world = handlers_world or self.world
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
                    reset()
                    # A process that resumes resets first too.
                    self.opened.remember_built(self.world)
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
                            self.world, self.step, **self.cadence, counters={"at": _EPOCH}
                        )
                last = self.opened.last
                if last is None or last.step < self.step or (last.counters or {}).get("at") != _EPOCH:
                    self.opened.checkpoint(self.world, self.step, counters={"at": _EPOCH})
            return trainer._create_info_stats()
        finally:
            params.save_best_fn = save_best
            del trainer._training_step

    def training_step(self, original: Callable[[], Any]) -> Any:
        step = self.step - (1 if isinstance(self.trainer, OfflineTrainer) else 0)
        self.opened.maybe_checkpoint(
            self.world, step, **self.cadence, counters={"at": _STEP, "steps_in_epoch": self.done}
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
            if not self.choose:
                raise
            warnings.warn(
                f"the whole policy cannot be pickled ({error.path}); its state dictionary is published instead. Pass "
                "persistence=PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT) to choose that",
                NotCapturedWarning,
                stacklevel=user_level(),
            )
            published.persistence = PolicyPersistence(
                published.persistence.additional_persistence, mode=PolicyPersistence.Mode.POLICY_STATE_DICT
            )
            published.offer(score, self.step, self.handlers_world, algorithm)


class _Asked:
    """A kind of vector environment that runs in processes of its own, with the wrapper that can be asked for its state
    around each environment."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def create_venv(self, factories: Sequence[Callable[[], Any]]) -> Any:
        return self.kind.create_venv([lambda make=make: Resumable(make()) for make in factories])

    def __reduce__(self) -> tuple[Any, ...]:
        # In the file that Tianshou keeps of an experiment stands what the user has chosen.
        return copy.copy, (self.kind,)

    def __repr__(self) -> str:
        return repr(self.kind)


class _Experiment:
    """One call of `run` on a high-level experiment."""

    def __init__(self, experiment: Experiment, opened: Run, cadence: dict[str, Any], choose: bool) -> None:
        self.experiment = experiment
        self.opened = opened
        self.cadence = cadence
        self.choose = choose

    def run(self) -> ExperimentResult:
        from sensai.util.logging import FileLoggerContext

        # A copy: what the run decides (where files lie) is not to be found in the caller's object afterwards.
        experiment = copy.copy(self.experiment)
        experiment.config = config = copy.copy(self.experiment.config)
        config.persistence_base_dir = self.opened.directory
        kind = getattr(experiment.env_factory, "venv_type", None)
        if getattr(kind, "name", None) in _IN_PROCESSES:
            experiment.env_factory = copy.copy(experiment.env_factory)
            experiment.env_factory.venv_type = _Asked(kind)
        made = experiment.create_experiment_world("experiment", raise_error_on_dirname_collision=False)
        trainer = made.trainer
        if not config.train or trainer is None:
            return self.result(made, None)
        group = PersistenceGroup(*made.envs.persistence, enabled=config.persistence_enabled)
        if self.choose:
            mode = PolicyPersistence.Mode(config.policy_persistence_mode.value)
            self.opened.best_policy.persistence = PolicyPersistence(group, config.persistence_enabled, mode)
        # The experiment's own function writes in place; the run's publishes the same files all at once.
        trainer.params.save_best_fn = None
        if trainer.params.save_checkpoint_fn is not None:
            trainer.params.save_checkpoint_fn = self.opened.best_policy.persistence.get_save_checkpoint_fn(
                made
            )
        session = _Session(
            trainer,
            self.opened,
            self.cadence,
            self.choose,
            World(trainer=trainer, algorithm=made.algorithm, envs=made.envs, logger=made.logger),
            made,
        )

        def reset() -> None:
            training = experiment.training_config
            if training.start_timesteps > 0:
                assert made.training_collector is not None
                made.training_collector.collect(
                    n_step=training.start_timesteps, random=training.start_timesteps_random
                )
            trainer.reset()

        log = os.path.join(made.persist_directory, experiment.LOG_FILENAME)
        made.persist_directory = self.opened.directory
        with FileLoggerContext(log, enabled=config.persistence_enabled and config.log_file_enabled):
            result = session.run(reset)
        if config.persistence_enabled:
            made.logger.finalize()
        if config.watch and made.envs.watch_env is not None:
            experiment._watch_agent(
                config.watch_num_episodes, made.algorithm, made.envs.watch_env, config.watch_render
            )
        return self.result(made, result)

    @staticmethod
    def result(made: Any, trainer_result: InfoStats | None) -> ExperimentResult:
        from tianshou.highlevel.experiment import ExperimentResult

        return ExperimentResult(world=made, trainer_result=trainer_result)
