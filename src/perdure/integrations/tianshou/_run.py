"""`run`: in place of what starts a training in Tianshou."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tianshou.trainer import Trainer

from perdure import arguments
from perdure.integrations.tianshou._training import Cadence, Training
from perdure.persistence import PolicyPersistence
from perdure.run import Run
from perdure.store import Retention

if TYPE_CHECKING:
    from tianshou.evaluation.launcher import ExpLauncher, RegisteredExpLauncher
    from tianshou.highlevel.experiment import Experiment, ExperimentCollection


def run(
    subject: Trainer[Any, Any] | Experiment | ExperimentCollection,
    directory: str | os.PathLike[str],
    *,
    every: int | None = None,
    seconds: float | None = None,
    keep: int | Retention = 3,
    strict: bool = True,
    persistence: PolicyPersistence | None = None,
    reset_collectors: bool = True,
    reset_collector_buffers: bool = False,
    run_name: str | None = None,
    logger_run_id: str | None = None,
    launcher: ExpLauncher | RegisteredExpLauncher | str = "sequential",
    **options: Any,
) -> Any:
    """In place of `trainer.run()`, `experiment.run()` or `collection.run()`: the same, and it survives being killed.

    Run the same script again and it goes on where it was, with the same result as if nothing had happened. The
    best policy is published in the run's directory (`policy.pt`, or `policy_state_dict.pt` if the policy
    cannot be pickled as a whole). The trainer's `save_best_fn` is called too, but never for a policy
    that is worse than the best one of an earlier process. After SIGTERM or Ctrl-C it saves a checkpoint before the
    next training step, then the process exits.

    What an experiment writes (its log, its pickled self, the policy and what handlers write with it) lies in the run's
    directory too. So `Experiment.from_directory(directory)` finds it, and such an experiment restores the policy in
    either mode.

    :param subject: a trainer (on-policy, off-policy or offline), a high-level experiment, or a collection of
        experiments (`builder.build_seeded_collection(5)`). If a trainer's environments run in worker processes, each
        needs a wrapper that can be asked for its state:
        `SubprocVectorEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...])`. An experiment's get it here.
    :param directory: of the run; created if it does not exist. Of a collection, each experiment has a run in it:
        `exp_seed=42`, below the experiment's name if they have different ones.
    :param every: steps between two checkpoints: of the environment, or gradient steps where the training is offline.
    :param seconds: time between two checkpoints; ten minutes if neither is given.
    :param keep: how many of the latest checkpoints to keep, or a :class:`perdure.Retention`.
    :param strict: whether it is an error if a checkpoint does not fit the trainer in every path.
    :param persistence: how the best policy is persisted, and what with it; Tianshou's class will do. The handlers of an
        experiment's environments are kept.
    :param reset_collectors: as for `trainer.run()`; not used when the run is resumed.
    :param reset_collector_buffers: as for `trainer.run()`; not used when the run is resumed.
    :param run_name: of an experiment: the directory of its run inside `directory`, and its name for the logger, which
        is the experiment's own name by default.
    :param logger_run_id: of an experiment: the id that its logger goes on with, for Weights & Biases. By default the
        id of the run, so that all its processes log to the same place.
    :param launcher: of a collection, as for `collection.run()`.
    :param options: other options of :class:`perdure.Run`: `on_error`, `when_busy`, `grace`, `signals`, …
    :returns: what the trainer (`InfoStats`), the experiment (`ExperimentResult`) or the collection (a list of
        `InfoStats`) returns.
    :raises TypeError: if the subject is none of these, or an option does not go with it.
    :raises RestoreError: if the trainer has `resume_from_log=True`, and its log is ahead of a run that has no
        checkpoint: the weights of that log are not there.

    Example::

        perdure.integrations.tianshou.run(trainer, "runs/dqn", every=10_000)
        perdure.integrations.tianshou.run(experiment, "runs/ppo", run_name="baseline")
        perdure.integrations.tianshou.run(builder.build_seeded_collection(5), "runs/five", launcher="joblib")
    """
    cadence = Cadence(*arguments.cadence(every, seconds))
    directory = arguments.local_path(directory, "directory")
    for name, text in (("run_name", run_name), ("logger_run_id", logger_run_id)):
        if text is not None and (not isinstance(text, str) or not text):
            raise TypeError(f"{name}: expected a text or None, found {text!r:.80}")
    persistence = _own(persistence)
    run_options = {"keep": keep, "strict": strict, "persistence": persistence, **options}
    named = {"run_name": run_name, "logger_run_id": logger_run_id}
    # The high level needs packages that Tianshou does not install by itself. Without an experiment none is needed.
    highlevel = sys.modules.get("tianshou.highlevel.experiment")
    if highlevel is not None and isinstance(subject, highlevel.ExperimentCollection):
        from perdure.integrations.tianshou._collection import run_collection

        _refuse(named, "an experiment")
        return run_collection(subject.experiments, directory, launcher, cadence, run_options)
    if highlevel is not None and isinstance(subject, highlevel.Experiment):
        from perdure.integrations.tianshou._experiment import run_experiment

        return run_experiment(subject, directory, cadence, run_options, run_name, logger_run_id)
    if not isinstance(subject, Trainer):
        raise TypeError(
            "expected a trainer (algorithm.create_trainer(params)), an experiment (builder.build()) or a collection of "
            f"experiments (builder.build_seeded_collection(5)), found a {type(subject).__name__}"
        )
    _refuse(named, "an experiment")
    with Run(directory, **run_options) as opened:
        training = Training(subject, opened, cadence, falls_back=persistence is None)
        return training.run(lambda: subject.reset(reset_collectors, reset_collector_buffers))


def _own(persistence: Any) -> Any:
    """Perdure's object for one of Tianshou's that says the same."""
    theirs = sys.modules.get("tianshou.highlevel.persistence")
    if theirs is None or not isinstance(persistence, theirs.PolicyPersistence):
        return persistence
    return PolicyPersistence(persistence.additional_persistence, persistence.enabled, persistence.mode)


def _refuse(options: Mapping[str, object], whose: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise TypeError(f"{name}: only {whose} takes it, found {value!r:.80}")
