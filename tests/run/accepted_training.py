"""A training that puts objects of every kind that the tests know into its world.

It is called with PHASE DIRECTORY, and finds the modules of `tests/run` and `tests/state`. "train" asks of each kind by
itself whether a checkpoint accepts it, and takes one of all that are accepted. "resume" is a fresh process: it restores
that checkpoint and writes what is not as it was saved.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from changing_worlds import KINDS, Row, function
from test_state_made_while_running import CHANGES, LAZY, NETS, OPTIMIZERS, Growing, Net, _used

import perdure
from perdure.errors import CaptureError
from perdure.state import BuiltWorld, State, capture, diff, walk_live
from perdure.store import Store
from perdure.tree import Object

warnings.simplefilter("ignore")
PHASE, DIRECTORY = sys.argv[1], Path(sys.argv[2])


class Holder:
    """A part of the world: what the script builds, and what the training makes."""

    def __init__(self) -> None:
        self.built: Any = None
        self.made: Any = None
        self.call: Any = function
        self.row = Row()


def _build(case: str) -> Holder:
    holder = Holder()
    family, _, kind = case.partition(": ")
    if family in ("net", "lazy"):
        holder.built = NETS[kind]() if family == "net" else LAZY[kind][0]()
    elif family in ("optimizer", "change"):
        holder.built = Net() if family == "optimizer" else Growing()
    elif family == "kind in place":
        holder.made = KINDS[kind]()
    return holder


def _train(case: str, holder: Holder) -> None:
    family, _, kind = case.partition(": ")
    if family == "net":
        holder.made = [copy.deepcopy(holder.built)]
    elif family == "lazy":
        _used(kind, holder.built)
    elif family == "optimizer":
        holder.made = OPTIMIZERS[kind](holder.built.parameters())
        sum(parameter.sum() for parameter in holder.built.parameters()).backward()
        holder.made.step()
    elif family == "change":
        CHANGES[kind](holder.built)
    elif family == "kind in a list":
        holder.made = [1, {"a": (KINDS[kind](), None)}]
    else:
        holder.made = KINDS[kind]()


CASES = [
    *(f"{family}: {kind}" for family in ("kind", "kind in a list", "kind in place") for kind in KINDS),
    *(f"net: {kind}" for kind in NETS),
    *(f"lazy: {kind}" for kind in LAZY),
    *(f"optimizer: {kind}" for kind in OPTIMIZERS),
    *(f"change: {kind}" for kind in CHANGES),
]


def accepted(case: str) -> bool:
    holder = _build(case)
    world = {"holder": holder}
    record = BuiltWorld(walk_live(world))
    record.release()
    try:
        _train(case, holder)
        live = walk_live(world)
        live.state()
    except CaptureError:
        return False
    return record.compare(live).exact


def built(cases: list[str]) -> perdure.World:
    np.random.seed(0)
    torch.manual_seed(0)
    return perdure.World(**{f"n{number}": _build(case) for number, case in enumerate(cases)})


if PHASE == "train":
    cases = [case for case in CASES if accepted(case)]
    (DIRECTORY / "cases.json").write_text(json.dumps(cases))
    world = built(cases)
    with perdure.Run(DIRECTORY / "run") as run:
        for _ in run.steps(world, 1):
            for case, holder in zip(cases, world.parts().values(), strict=True):
                _train(case, holder)
else:
    cases = json.loads((DIRECTORY / "cases.json").read_text())
    world = built(cases)
    with perdure.Run(DIRECTORY / "run") as run:
        run.resume(world)
    saved = Store.open(DIRECTORY / "run").latest().state.root
    parts = {name: node for name, node in saved.fields.items() if name.startswith("n") and name[1:].isdigit()}
    found = diff(State(Object(saved.type, parts)), capture(world), ignore=["rng*"])
    (DIRECTORY / "found.json").write_text(json.dumps([str(each) for each in found]))
    world.parts()["n7"].row.number = 99
    assert "n7.row.number" in [each.path for each in diff(State(Object(saved.type, parts)), capture(world))]
