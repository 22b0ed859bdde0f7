"""A training in which everything of `reference_cases` changes in the third step. It ends with what can be seen of it.

Usage: reference_training.py RUN RESULT STEP, where STEP is that in which the process is killed, or -1.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "state"))

import torch
from reference_cases import CASES, Box

import perdure

torch.set_num_threads(1)
directory, result, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])


def gentle(x):
    return 0.1 * x


def harsh(x):
    return 10.0 * x


def capped(x, most):
    return min(harsh(x), most)


class Soft:
    gain = 1


class Hard:
    gain = 2


class Agent:
    """What the script's own module defines, and switches to."""

    def __init__(self):
        self.reward = gentle
        self.kind = Soft
        self.shape = partial(gentle)
        self.now = self.easy
        self.table = {"easy": gentle}
        self.bias = 3.0

    def easy(self):
        return 1

    def hard(self):
        return 2

    def harden(self):
        self.reward = harsh
        self.kind = Hard
        self.shape = partial(capped, most=4.0)
        self.now = self.hard
        self.table["hard"] = lambda x: x - 1
        self.table["biased"] = lambda x: x - self.bias

    def seen(self):
        table = {name: each(5.0) for name, each in self.table.items()}
        return [self.reward(1.0), self.kind.gain, self.shape(1.0), self.now(), table]


boxes = {name.replace(" ", "_"): Box() for name in CASES}
for box, case in zip(boxes.values(), CASES.values(), strict=True):
    case.build(box)
world = perdure.World(agent=Agent(), boxes=boxes)


def change_all(kept=[]):  # noqa: B006
    """What a change returns is kept alive."""
    world.agent.harden()
    kept += [case.change(box) for box, case in zip(world.boxes.values(), CASES.values(), strict=True)]


with perdure.Run(directory) as run:
    for step in run.steps(world, 6, every=1):
        if step == 2:
            change_all()
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)
boxes = world.boxes
found = {name: repr(case.see(boxes[name.replace(" ", "_")])) for name, case in CASES.items()}
result.write_text(json.dumps({"agent": repr(world.agent.seen()), **found}))
