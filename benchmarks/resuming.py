"""What resuming costs a training whose environments run in worker processes, beside what one capture of it costs.

If asked for, also beside what resuming costs with another checkout of Perdure."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, Result, Table, milliseconds, times
from benchmarks.timing import median_ratio, rotated, spread

KINDS = ("AsyncVectorEnv", "SubprocVecEnv")
_NOW, _BEFORE = "this checkout", "the other checkout"
# Resuming asks each worker three times: for its state, whether the saved state fits, and to restore it. A capture asks
# once, and only reads.
_MOST = 12.0


def run(*, rounds: int, repeats: int, environments: int = 8, before: Path | None = None) -> Result:
    """In each of `rounds` rounds, a fresh process for each checkout resumes the same run `repeats` times.

    :param environments: how many there are; each runs in its own process.
    :param before: the `src` folder of another checkout.
    """
    sources = {_NOW: Path(__file__).parents[1] / "src"}
    if before is not None:
        sources[_BEFORE] = before
    names = [(kind, name) for kind in KINDS for name in sources]
    found: dict[tuple[str, str], list[dict[str, float]]] = {each: [] for each in names}
    for number in range(rounds):
        for kind, name in rotated(names, number):
            found[kind, name].append(_start(sources[name], kind, environments, repeats))
    rows = [_row(kind, name, found) for kind, name in names]
    figures = [_figure(kind, found) for kind in KINDS]
    return Result(
        "resuming",
        [
            Table(
                f"Resuming with {environments} environments in worker processes ({rounds} processes, "
                f"{repeats} times each)",
                [
                    "environments, checkout",
                    "resume",
                    "quartiles, ms",
                    "capture",
                    "resume / capture",
                    "of this one",
                ],
                rows,
                note="resume: of an open run, into a world that exists; the workers are started off the clock. "
                "capture: one walk, which asks each worker for its state. of this one: ratio to it, by pairs.",
            )
        ],
        figures,
        {f"{kind}, {name}": values for (kind, name), values in found.items()},
    )


def _row(kind: str, name: str, found: dict[tuple[str, str], list[dict[str, float]]]) -> list[str]:
    resumes, captures = _values(found[kind, name], "resume"), _values(found[kind, name], "capture")
    low, high = spread(resumes)
    ratio = "" if name == _NOW else times(median_ratio(resumes, _values(found[kind, _NOW], "resume")))
    return [
        f"{kind}, {name}",
        milliseconds(statistics.median(resumes)),
        f"{low * 1e3:.0f} to {high * 1e3:.0f}",
        milliseconds(statistics.median(captures)),
        times(median_ratio(resumes, captures)),
        ratio,
    ]


def _figure(kind: str, found: dict[tuple[str, str], list[dict[str, float]]]) -> Figure:
    ratio = median_ratio(_values(found[kind, _NOW], "resume"), _values(found[kind, _NOW], "capture"))
    return Figure("resume", kind, f"at most {_MOST:g} x one capture", times(ratio), ratio <= _MOST)


def _values(found: Sequence[dict[str, float]], what: str) -> list[float]:
    return [each[what] for each in found]


def _start(source: Path, kind: str, environments: int, repeats: int) -> dict[str, float]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(root)])}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.resuming", kind, str(environments), str(repeats)],
        env=environment,
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


# -- in the process that is measured -------------------------------------------------------------------------


def _environments(kind: str, count: int) -> Any:
    import gymnasium as gym

    from perdure.environments import Resumable

    makers = [lambda: Resumable(gym.make("CartPole-v1"))] * count
    if kind == "AsyncVectorEnv":
        return gym.vector.AsyncVectorEnv(makers)
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return SubprocVecEnv(makers, start_method="fork")


def _measure(kind: str, count: int, repeats: int) -> dict[str, float]:
    import numpy as np
    import torch

    import perdure
    from benchmarks.timing import settle, timed
    from perdure.state import capture

    torch.set_num_threads(1)
    agent = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, 2))
    envs = _environments(kind, count)
    world = perdure.World(agent=agent, optimizer=torch.optim.Adam(agent.parameters()), envs=envs)
    envs.reset()
    resumes, captures = [], []
    with tempfile.TemporaryDirectory() as directory:
        with perdure.Run(directory) as run:
            run.resume(world)
            envs.step(np.zeros(count, np.int64))
            run.checkpoint(world, 1)
        for number in range(repeats + 1):
            with perdure.Run(directory) as run:
                settle()
                resume = timed(lambda run=run: run.resume(world))
            settle()
            taken = timed(lambda: capture(world))
            if number:  # the first time, code is imported and workers are found to be wrapped
                resumes.append(resume)
                captures.append(taken)
    envs.close()
    return {"resume": statistics.median(resumes), "capture": statistics.median(captures)}


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
