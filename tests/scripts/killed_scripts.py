"""Runs a training script without Perdure, and with `perdure run` while it is killed again and again; compares both."""

from __future__ import annotations

import atexit
import itertools
import os
import random
import re
import signal
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from prepared_process import Starter

from perdure.script import RUNS

HERE = Path(__file__).parent
CASES = HERE / "cases"
#: Another seed kills at other moments.
SEED = os.environ.get("SURVIVAL_SEED", "0")
#: Seconds of CPU that Perdure takes in each process before the script trains.
_START = 0.1
#: After so many processes a script is killed no more.
_MOST_PROCESSES = 9
#: What stands in the line of the loops that are to be found: the training, and what may be a phase of it.
MARKS = ("# the training loop", "# a phase")
#: Imported once, and not by each process of a script; torch._dynamo is what each optimizer imports.
_MODULES = (
    "torch._dynamo", "torch.utils.tensorboard", "torch.utils.data", "gymnasium", "gymnasium.wrappers", "tqdm",
    "gymnasium.envs.classic_control", "perdure.cli.running", "perdure.script._execute",
)  # fmt: skip
_turns = itertools.count()


@dataclass(frozen=True)
class Ended:
    """How a process of a script ended.

    :param cpu: seconds that it took; 0 if it was killed.
    :param newest_step: the phase and the step of the newest checkpoint that there is after it.
    """

    code: int
    output: str
    errors: str
    cpu: float
    newest_step: tuple[int, int]

    @property
    def results(self) -> list[str]:
        """What the script says of its end."""
        return [line for line in self.output.splitlines() if line.startswith("end:")]


@dataclass(frozen=True)
class Outcome:
    """What a script ended with, and what it left behind.

    :param results: what it said at its end.
    :param files: what is in each file that it wrote, and the points of TensorBoard's files, without what is different
        in the names of each run.
    """

    results: list[str]
    files: dict[str, object]


@cache
def _starter(seed: int) -> Starter:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(seed),
        "PYTHONWARNINGS": "default",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    starter = Starter(*_MODULES, environment=environment)
    atexit.register(starter.close)
    return starter


def launch(where: Path, *words: object, **variables: object) -> Ended:
    """Run one process to its end. One and the next have other hashes, and other addresses.

    :param where: its working directory.
    :param words: see `launched`.
    """
    with tempfile.TemporaryDirectory() as said:
        cpu = Path(said, "cpu")
        process = _starter(next(_turns) % 2).start(
            HERE / "launched.py", *words, where=Path(said), directory=where,
            environment={**_plain_environment(), "CPU": str(cpu), **{k: str(v) for k, v in variables.items()}},
        )  # fmt: skip
        code = process.wait()
        taken = float(cpu.read_text()) if cpu.exists() else 0.0
        return Ended(code, process.output, process.errors, taken, _newest_step(where))


def _plain_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("KILL_AFTER", "CPU")}


def without_perdure(script: Path, arguments: tuple[str, ...], where: Path) -> tuple[Outcome, float]:
    """What a script ends with, and how many seconds of CPU it takes."""
    where.mkdir()
    ended = launch(where, "plain", script, *arguments)
    assert ended.code == 0, ended.output + ended.errors
    return Outcome(ended.results, _files(where)), ended.cpu


def killed(
    script: Path,
    arguments: tuple[str, ...],
    options: tuple[str, ...],
    where: Path,
    cpu: float,
    kills: int = 3,
) -> tuple[Outcome, list[Ended]]:
    """What it ends with when `perdure run` runs it, and it is killed at random moments.

    :param cpu: how many seconds the whole takes.
    :param kills: how often it is killed after it has made progress.
    :returns: the outcome, and how each of its processes ended.
    """
    where.mkdir()
    draw = random.Random(f"{SEED} {script.stem}")
    processes: list[Ended] = []
    later = 1.0
    while kills and len(processes) < _MOST_PROCESSES:
        before = processes[-1].newest_step if processes else (0, 0)
        after = later * (_START + cpu * draw.uniform(0.2, 0.9))
        ended = launch(where, "run", *options, script, *arguments, KILL_AFTER=after)
        processes.append(ended)
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGPROF, ended.output + ended.errors
        if ended.newest_step > before:
            kills -= 1
        else:
            later *= 1.2
    if processes[-1].code != 0:
        processes.append(launch(where, "run", *options, script, *arguments))
    last = processes[-1]
    assert last.code == 0, last.output + last.errors
    # One that was killed after it had said what it ended with is finished, and says it no more.
    results = next((each.results for each in reversed(processes) if each.results), [])
    return Outcome(results, _files(where)), processes


def _files(where: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(where.rglob("*")):
        name = path.relative_to(where)
        if not path.is_file() or name.parts[0] == RUNS or "__pycache__" in name.parts:
            continue
        if path.name.startswith("events.out."):
            # Those of one directory are one curve. A name that is drawn anew would make another directory.
            directory = re.sub(r"__\d+.*", "", str(name.parent))
            points = found.setdefault(directory, [])
            assert isinstance(points, list)
            points.extend(_points(path))
        elif path.suffix in (".pt", ".pth"):
            found[str(name)] = str(torch.load(path, weights_only=True))
        else:
            found[str(name)] = path.read_bytes()
    found["directories"] = len([path for path in where.glob("runs/*") if path.is_dir()])
    return found


def _points(path: Path) -> list[tuple[str, int, float]]:
    """The points of a file, apart from what differs in each run, and from what the set-up of a script writes: a process
    that dies there leaves it beside what others have written."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return [
        (value.tag, event.step, value.simple_value)
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag not in ("charts/SPS", "hyperparameters/text_summary")
    ]


def _newest_step(where: Path) -> tuple[int, int]:
    """The newest phase, and the newest checkpoint of it."""
    return max(
        (
            (int(path.parts[-3][6:]), int(path.stem))
            for path in where.glob(f"{RUNS}/*/phase-*/checkpoints/*.json")
        ),
        default=(0, 0),
    )
