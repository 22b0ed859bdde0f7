"""A high-level experiment as a run: what it builds is captured, and all that it writes lies in the run's directory."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from sensai.util.logging import FileLoggerContext
from tianshou.highlevel.experiment import Experiment, ExperimentConfig, ExperimentResult
from tianshou.trainer import InfoStats

from perdure.environments import Resumable
from perdure.integrations.tianshou._training import Cadence, Training
from perdure.persistence import PersistenceGroup, PolicyPersistence
from perdure.run import Run
from perdure.world import World

#: The kinds of vector environment whose environments run in processes of their own.
_IN_PROCESSES = (
    "SUBPROC",
    "SUBPROC_SHARED_MEM_DEFAULT_CONTEXT",
    "SUBPROC_SHARED_MEM_FORK_CONTEXT",
    "SUBPROC_SHARED_MEM_AUTO",
    "RAY",
)


def run_experiment(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    cadence: Cadence,
    options: dict[str, Any],
    run_name: str | None = None,
    logger_run_id: str | None = None,
) -> ExperimentResult:
    """Run an experiment, or go on with it. See :func:`perdure.integrations.tianshou.run`."""
    if run_name is not None:
        directory = os.path.join(directory, run_name)
    with Run(directory, **options) as opened:
        return _Experiment(experiment, opened, run_name, logger_run_id, options["persistence"]).run(cadence)


class _Experiment:
    """One call of `run` on a high-level experiment.

    :param persistence: what the user passed to persist the best policy with.
    """

    def __init__(
        self,
        experiment: Experiment,
        opened: Run,
        run_name: str | None,
        logger_run_id: str | None,
        persistence: PolicyPersistence | None,
    ) -> None:
        self.original = experiment
        self.opened = opened
        self.falls_back = persistence is None
        self.given = persistence
        self.experiment = _placed(experiment, opened.directory)
        self.made = self.experiment.create_experiment_world(
            experiment.name if run_name is None else run_name,
            opened.id if logger_run_id is None else logger_run_id,
            raise_error_on_dirname_collision=False,
        )
        opened.best_policy.persistence = self.persistence()

    @property
    def config(self) -> ExperimentConfig:
        return self.original.config

    def persistence(self) -> PolicyPersistence:
        """How the policy is persisted, and with it what the environments' own handlers write."""
        handlers = [*self.made.envs.persistence]
        given, enabled = self.given, self.config.persistence_enabled
        if given is None:
            group = PersistenceGroup(*handlers, enabled=enabled)
            return PolicyPersistence(
                group, enabled, PolicyPersistence.Mode(self.config.policy_persistence_mode)
            )
        if given.additional_persistence is not None:
            handlers.append(given.additional_persistence)
        group = PersistenceGroup(*handlers, enabled=enabled)
        return PolicyPersistence(group, given.enabled and enabled, given.mode, trust=given.trust)

    def run(self, cadence: Cadence) -> ExperimentResult:
        made, config = self.made, self.config
        log = os.path.join(made.persist_directory, self.experiment.LOG_FILENAME)
        result: InfoStats | None = None
        with FileLoggerContext(log, enabled=config.persistence_enabled and config.log_file_enabled):
            if config.policy_restore_directory:
                made.restore_directory = config.policy_restore_directory
                self.opened.best_policy.persistence.restore(made.algorithm, made, config.device)
            if config.train and made.trainer is not None:
                result = self.train(cadence)
            if config.watch and made.envs.watch_env is not None:
                self.experiment._watch_agent(
                    config.watch_num_episodes, made.algorithm, made.envs.watch_env, config.watch_render
                )
        return ExperimentResult(world=made, trainer_result=result)

    def train(self, cadence: Cadence) -> InfoStats:
        made, trainer = self.made, self.made.trainer
        assert trainer is not None
        # The experiment's own functions write in place; the run's publish the same files all at once.
        trainer.params.save_best_fn = None
        if trainer.params.save_checkpoint_fn is not None:
            # A function, not a method: those are followed to their object when the trainer is captured.
            trainer.params.save_checkpoint_fn = lambda *counts: self.save_checkpoint(*counts)
        training = Training(
            trainer,
            self.opened,
            cadence,
            World(trainer=trainer, algorithm=made.algorithm, envs=made.envs, logger=made.logger),
            made,
            falls_back=self.falls_back,
        )
        result = training.run(self.reset)
        if self.config.persistence_enabled:
            made.logger.finalize()
        return result

    def save_checkpoint(self, epoch: int, env_step: int, gradient_step: int) -> str:
        save = self.opened.best_policy.persistence.get_save_checkpoint_fn(self.made)
        assert save is not None
        return save(epoch, env_step, gradient_step)

    def reset(self) -> None:
        training, made = self.original.training_config, self.made
        if training.start_timesteps > 0:
            assert made.training_collector is not None
            made.training_collector.collect(
                n_step=training.start_timesteps, random=training.start_timesteps_random
            )
        assert made.trainer is not None
        made.trainer.reset()


def _placed(experiment: Experiment, directory: str) -> Experiment:
    """A copy of an experiment that writes into a directory, and whose environments can be asked for their state.

    What Tianshou keeps of an experiment in a file is the one that the user built. The policy is not restored by it:
    its own reader refuses whole policies.
    """
    placed = copy.copy(experiment)
    placed.config = copy.copy(experiment.config)
    if placed.config.policy_restore_directory:
        placed.config.policy_restore_directory = _RestoredLater(placed.config.policy_restore_directory)
    kind = getattr(experiment.env_factory, "venv_type", None)
    if getattr(kind, "name", None) in _IN_PROCESSES:
        placed.env_factory = copy.copy(experiment.env_factory)
        placed.env_factory.venv_type = _Askable(kind)
    original = type(experiment)
    # Tianshou joins its base directory, the name and this. An absolute path is the whole path then.
    methods: dict[str, Callable[..., Any]] = {
        "get_seeding_info_as_str": lambda self: directory,
        "save": lambda self, place: _save(experiment, place),
    }
    placed.__class__ = type(original.__name__, (original,), {**methods, "__module__": original.__module__})
    return placed


def _save(experiment: Experiment, directory: str) -> None:
    """Write the experiment's file as a whole, so that a process killed meanwhile leaves the one before."""
    name = experiment.EXPERIMENT_PICKLE_FILENAME
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as place:
        experiment.save(place)
        os.replace(os.path.join(place, name), os.path.join(directory, name))


class _RestoredLater(str):
    """A directory that Tianshou writes down, and from which it does not restore: it sees no directory there."""

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class _Askable:
    """A kind of vector environment that runs in processes of its own, with the wrapper that can be asked for its state
    around each environment."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def create_venv(self, factories: Sequence[Callable[[], Any]]) -> Any:
        return self.kind.create_venv([lambda make=make: Resumable(make()) for make in factories])

    def __repr__(self) -> str:
        return repr(self.kind)
