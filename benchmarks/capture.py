"""What the training thread pays for a snapshot of all live objects, against other means to take less."""

from __future__ import annotations

import copy
import pickle
import statistics
from typing import Any

import perdure
from benchmarks.report import Figure, Result, Table, milliseconds, times
from benchmarks.timing import Case, interleaved, median_ratio
from benchmarks.worlds import sac, trained
from perdure import tree
from perdure.state import capture

_OURS = "perdure capture"
_SLOWEST = 0.010


def run(*, rounds: int, capacity: int = 10_000) -> Result:
    """Measure `rounds` snapshots of each kind."""
    model = trained(sac(capacity))
    world = perdure.World(model=model)
    state = capture(world)
    # The environment and the logger hold what no pickle can.
    picklable = _picklable({name: value for name, value in vars(model).items() if name != "replay_buffer"})
    cases = {
        _OURS: Case(lambda: capture(world)),
        "perdure tree.encode": Case(lambda: tree.encode(state)),
        "copy.deepcopy(policy.state_dict())": Case(lambda: copy.deepcopy(model.policy.state_dict())),
        "pickle.dumps of what pickles": Case(lambda: pickle.dumps(picklable)),
    }
    seconds = interleaved(cases, rounds, warmup=2)
    rows = []
    for name, values in seconds.items():
        rows.append(
            [
                name,
                milliseconds(statistics.median(values)),
                milliseconds(min(values)),
                times(median_ratio(values, seconds[_OURS])),
            ]
        )
    median = statistics.median(seconds[_OURS])
    return Result(
        "capture",
        [
            Table(
                f"A snapshot of SB3 SAC, on the training thread ({rounds} rounds)",
                ["what", "median", "fastest", "against capture"],
                rows,
                note=f"Capture takes {len(state):,} paths: networks, optimizers, environments, generators, and the "
                f"replay buffer by reference. encode makes a document of it. The state dict is the networks "
                f"alone; pickled are {len(picklable)} of the model's {len(vars(model))} attributes, without the "
                "replay buffer.",
            )
        ],
        [
            Figure(
                "capture",
                "SB3 SAC",
                "milliseconds (below 10)",
                f"{milliseconds(median)} for {len(state):,} paths",
                median < _SLOWEST,
            )
        ],
        {"paths": len(state), "seconds": seconds},
    )


def _picklable(attributes: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in attributes.items():
        try:
            pickle.dumps(value)
        except Exception:  # any class may refuse in its own way
            continue
        found[name] = value
    return found
