"""Trainings that make objects and change their structure: `python growing_training.py KIND DIRECTORY KILLS`.

It is killed by SIGKILL in the steps KILLS ("12,27"), each of them once, and writes at its end what it ended as.
"""

import collections
import copy
import dataclasses
import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
import torch.nn.utils.prune

import perdure

KIND, DIRECTORY = sys.argv[1], Path(sys.argv[2])
KILLS = [int(each) for each in sys.argv[3].split(",")] if len(sys.argv) > 3 else []
TOTAL = 40
Renamed = collections.namedtuple("Transition", ["obs", "reward"])


class Agent(torch.nn.Module):
    def __init__(self, lazy=False):
        super().__init__()
        first = torch.nn.LazyLinear(4) if lazy else torch.nn.Linear(3, 4)
        self.layers = torch.nn.ModuleList([first, torch.nn.BatchNorm1d(4)])
        self.head = torch.nn.Linear(4, 1)
        self.register_buffer("mask", None)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


class Memory:
    def __init__(self):
        self.items = collections.deque(maxlen=15)
        self.make = collections.namedtuple("Experience", ["obs", "reward"])


class Stopped(Exception):
    def __init__(self, step):
        super().__init__(f"stopped at {step}")
        self.step = step


def learn(agent, optimizer, scaler=None):
    loss = agent(torch.randn(6, 3)).square().mean()
    optimizer.zero_grad()
    if scaler is None:
        loss.backward()
        optimizer.step()
    else:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return float(loss.detach())


def first_count():
    return 0.5


def change(world, step):
    """What a kind of training does beside learning."""
    agent = world.agent
    if KIND == "pool" and step % 6 == 2:
        world.pool.append(copy.deepcopy(agent).requires_grad_(False))
    elif KIND == "population" and step % 9 == 4:
        world.pool.append(copy.deepcopy((agent, world.optimizer)))
    elif KIND == "best" and step % 7 == 3:
        world.best = copy.deepcopy(agent.state_dict())
    elif KIND == "optimizer" and step == 9:
        world.optimizer = torch.optim.SGD(agent.parameters(), 1e-2, momentum=0.9)
        world.schedule = torch.optim.lr_scheduler.StepLR(world.optimizer, 3)
    elif KIND == "growing" and step % 11 == 5:
        agent.layers.append(torch.nn.Linear(4, 4))
        world.optimizer.add_param_group({"params": list(agent.layers[-1].parameters())})
    elif KIND == "wider" and step == 8:
        agent.layers = torch.nn.ModuleList([torch.nn.Linear(3, 9), torch.nn.BatchNorm1d(9)])
        agent.head = torch.nn.Linear(9, 1)
        world.optimizer = torch.optim.Adam(agent.parameters(), 1e-2)
    elif KIND == "pruned" and step == 8:
        torch.nn.utils.prune.l1_unstructured(agent.head, "weight", 0.5)
    elif KIND == "scaler" and step == 8:
        world.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=5)
    elif KIND == "spectral norm" and step == 8:
        torch.nn.utils.spectral_norm(agent.head)
    elif KIND == "counts":
        world.last = world.last or collections.defaultdict(first_count)
        world.last[step % 7] += random.random()
    elif KIND == "error" and step % 10 == 6:
        try:
            raise Stopped(step)
        except Stopped as error:
            world.last = error
    elif KIND == "tensor attributes":
        for parameter in agent.parameters():
            parameter.seen = getattr(parameter, "seen", 0) + random.random()
    elif KIND == "sparse":
        world.last = scipy.sparse.csr_array(np.random.rand(3, 3).round())
    elif KIND in ("local", "renamed", "dataclass"):
        world.memory.items.append(world.memory.make(np.random.rand(3), random.random()))


def worth(world):
    """A number that depends on everything that was made."""
    last = dict(world.last) if KIND == "counts" else world.last  # a function is shown with its address
    made = [world.best, last, len(world.pool), [type(each).__name__ for each in world.memory.items]]
    for member in world.pool:
        agent, optimizer = member if isinstance(member, tuple) else (member, None)
        if optimizer is not None:
            learn(agent, optimizer)
        made.append({name: tensor.tolist() for name, tensor in agent.state_dict().items()})
    made.append([getattr(parameter, "seen", None) for parameter in world.agent.parameters()])
    made.append(world.scaler and world.scaler.state_dict())
    made.append([(each.obs.tolist(), each.reward) for each in world.memory.items])
    return repr(made)


def main():
    @dataclasses.dataclass
    class Step:
        obs: object
        reward: float

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    agent, memory = Agent(lazy=KIND == "lazy"), Memory()
    if KIND != "local":
        memory.make = {"renamed": Renamed, "dataclass": Step}.get(KIND)
    optimizer = None if KIND == "lazy" else torch.optim.Adam(agent.parameters(), 1e-2)
    world = perdure.World(
        agent=agent,
        optimizer=optimizer,
        schedule=None,
        pool=[],
        best=None,
        last=None,
        memory=memory,
        scaler=None,
    )
    run = perdure.Run(DIRECTORY / "run")
    for step in run.steps(world, TOTAL, every=5):
        if world.optimizer is None:
            world.agent(torch.randn(2, 3))
            world.optimizer = torch.optim.Adam(world.agent.parameters(), 1e-2)
        change(world, step)
        learn(world.agent, world.optimizer, world.scaler)
        if world.schedule is not None:
            world.schedule.step()
        mark = DIRECTORY / f"killed.{step}"
        if step in KILLS and not mark.exists():
            mark.touch()
            run.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    state = [
        world.agent.state_dict(),
        world.optimizer.state_dict(),
        worth(world),
        torch.rand(3),
        random.random(),
    ]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()
    (DIRECTORY / "final.json").write_text(json.dumps(digest))


main()
