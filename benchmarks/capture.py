"""What the training thread pays for a snapshot of all live objects, against snapshots of less by other means."""

from __future__ import annotations

import copy
import io
import pickle
import statistics
from typing import Any

import perdure
from benchmarks.report import Figure, Result, Table, milliseconds, times
from benchmarks.timing import Case, interleaved, median_ratio, spread
from benchmarks.worlds import trained_sac
from perdure import tree
from perdure.state import capture

_OURS = "perdure capture"
_SLOWEST = 0.010


def run(*, rounds: int, capacity: int = 10_000) -> Result:
    """Measure `rounds` snapshots of each kind."""
    model = trained_sac(capacity)
    world = perdure.World(model=model)
    state = capture(world)
    # The environment and the logger hold what no pickle can.
    picklable = _picklable({name: value for name, value in vars(model).items() if name != "replay_buffer"})
    cases = {
        _OURS: Case(lambda: capture(world)),
        "perdure tree.encode": Case(lambda: tree.encode(state)),
        "copy.deepcopy(policy.state_dict())": Case(lambda: copy.deepcopy(model.policy.state_dict())),
        "pickle.dumps of what pickles": Case(lambda: pickle.dumps(picklable)),
        "model.save(BytesIO())": Case(lambda: model.save(io.BytesIO())),
    }
    taken = {
        _OURS: f"{len(state):,} paths, environments, generators, replay buffer (by reference)",
        "perdure tree.encode": "the same, as a document for the store",
        "copy.deepcopy(policy.state_dict())": "the networks' weights",
        "pickle.dumps of what pickles": f"{len(picklable)} of {len(vars(model)) - 1} attributes, no replay buffer",
        "model.save(BytesIO())": "networks, optimizers, settings; no replay buffer, no environments",
    }
    seconds = interleaved(cases, rounds, warmup=2)
    rows = []
    for name, values in seconds.items():
        low, high = spread(values)
        rows.append(
            [
                name,
                milliseconds(statistics.median(values)),
                f"{low * 1e3:.2f} - {high * 1e3:.2f}",
                times(median_ratio(values, seconds[_OURS])),
                taken[name],
            ]
        )
    median = statistics.median(seconds[_OURS])
    return Result(
        "capture",
        [
            Table(
                f"A snapshot of SB3 SAC on Pendulum, on the training thread ({rounds} rounds)",
                ["what", "median", "quartiles, ms", "against capture", "what it takes"],
                rows,
            )
        ],
        [
            Figure(
                "a capture of about 1,000 paths costs milliseconds (below 10)",
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
