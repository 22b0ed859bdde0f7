"""Several experiments, as `build_seeded_collection` makes them: each has its run, in a directory of its own."""

from __future__ import annotations

import copy
import os
from collections import Counter
from typing import Any

from tianshou.evaluation.launcher import ExpLauncher, RegisteredExpLauncher
from tianshou.highlevel.experiment import Experiment
from tianshou.trainer import InfoStats

from perdure.integrations.tianshou._experiment import run_experiment
from perdure.integrations.tianshou._training import Cadence


def run_collection(
    experiments: list[Experiment],
    directory: str | os.PathLike[str],
    launcher: ExpLauncher | RegisteredExpLauncher | str,
    cadence: Cadence,
    options: dict[str, Any],
) -> list[InfoStats | None]:
    """Run experiments, or go on with them. See :func:`perdure.integrations.tianshou.run`.

    :raises ValueError: if two of the experiments would have the same directory.
    """
    if isinstance(launcher, str):
        if launcher.upper() not in RegisteredExpLauncher.__members__:
            names = ", ".join(repr(each.lower()) for each in RegisteredExpLauncher.__members__)
            raise ValueError(f"launcher: expected {names}, or a launcher, found {launcher!r:.80}")
        launcher = RegisteredExpLauncher[launcher.upper()]
    launcher = (
        launcher.create_launcher() if isinstance(launcher, RegisteredExpLauncher) else copy.copy(launcher)
    )
    is_named = len({each.name for each in experiments}) > 1
    places = [_place(each, is_named) for each in experiments]
    twice = [place for place, count in Counter(places).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(experiments)} experiments have the directories {', '.join(sorted(set(places)))}, but each needs "
            f"one of its own: give those with {twice[0]} another seed (config.seed) or another name (experiment.name)"
        )
    runner = _Runner(os.path.abspath(os.fspath(directory)), is_named, cadence, options)
    launcher.experiment_runner = runner
    results: list[Any] = launcher.launch(experiments)
    left = next((each for each in results if isinstance(each, _Left)), None)
    if left is not None:
        # A launcher takes any exception for a failure, and starts the next experiment. An order to leave is obeyed.
        raise left.why
    return results


def _place(experiment: Experiment, is_named: bool) -> str:
    seed: str = experiment.get_seeding_info_as_str()
    return os.path.join(experiment.name, seed) if is_named else seed


class _Left:
    """The result of an experiment during which the process was asked to leave."""

    def __init__(self, why: BaseException) -> None:
        self.why = why


class _Runner:
    """Runs one experiment of a collection. Launchers call it, in this process or in others."""

    def __init__(self, directory: str, is_named: bool, cadence: Cadence, options: dict[str, Any]) -> None:
        self.directory = directory
        self.is_named = is_named
        self.cadence = cadence
        self.options = options
        self.left: _Left | None = None

    def __call__(self, experiment: Experiment) -> Any:
        if self.left is not None:
            return self.left
        place = os.path.join(self.directory, _place(experiment, self.is_named))
        try:
            return run_experiment(experiment, place, self.cadence, self.options).trainer_result
        except (SystemExit, KeyboardInterrupt) as why:
            self.left = _Left(why)
            return self.left
