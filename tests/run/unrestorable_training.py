"""A training that makes something which no fresh process could restore.

It is called with RUN KIND REMEDY STEPS KILL. With the remedy that the error names (REMEDY is 1), it can be restored.
KILL is the step in which the process is killed, or -1.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import perdure

#: What is made anew in each step.
ANEW = ("finalizer", "native", "value", "imported late", "matrix")
directory, kind = Path(sys.argv[1]), sys.argv[2]
remedied, steps, kill = sys.argv[3] == "1", int(sys.argv[4]), int(sys.argv[5])
options: dict[str, Any] = {}


class Handle:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __del__(self) -> None:
        pass


class Native:
    __slots__ = ("hidden",)

    def __init__(self, hidden: Any = 0) -> None:
        self.hidden = hidden


class Structure(ctypes.Structure):
    """The state of a simulator in C."""

    _fields_ = (("time", ctypes.c_double),)


class Agent:
    def __init__(self) -> None:
        self.net = torch.nn.Linear(2, 2)
        self.made: Any = None
        self.rows: list[Any] = []


def build(agent: Agent) -> None:
    """What the remedy has the script build, or say, before it resumes."""
    if kind == "finalizer":
        perdure.register(
            Handle,
            capture=lambda one: one.value,
            restore=lambda one, value: setattr(one, "value", value),
            create=Handle,
        )
    elif kind == "native":
        perdure.register(Native, capture=capture, restore=restore, create=Native)
    elif kind == "value":
        perdure.register(struct.Struct, capture=lambda one: one.format, create=struct.Struct)
    elif kind == "structure":
        agent.made = make(agent, 0)
        perdure.register(
            Structure,
            capture=bytes,
            restore=lambda one, saved: ctypes.memmove(ctypes.addressof(one), saved, len(saved)),
        )
    elif kind in ("environment", "sentinel"):
        agent.made = make(agent, 0)
    elif kind == "imported late":
        sys.path.insert(0, str(directory))
        perdure.state.rebuildable(importlib.import_module("late_rows").Late)
    elif kind == "matrix":
        perdure.state.rebuildable(importlib.import_module("scipy.sparse").csr_matrix)
    elif kind == "parametrization":
        torch.nn.utils.parametrizations.weight_norm(agent.net)
        agent.made = agent.net
    elif kind == "script module":
        perdure.skip(torch.jit.ScriptModule, "it shares the parameters of a module of the world")
    elif kind == "skipped":
        options["skip"] = ["agent.rows"]


def capture(one: Native) -> Any:
    return one.hidden


def restore(one: Native, hidden: Any) -> None:
    one.hidden = hidden


def make(agent: Agent, step: int) -> Any:
    """What the training makes."""
    match kind:
        case "finalizer" | "skipped":
            return Handle(np.random.rand())
        case "native":
            return Native(np.random.rand())
        case "environment":
            env = gym.make("CartPole-v1")
            env.reset(seed=1)
            return env
        case "sentinel":
            return object()
        case "matrix":
            return importlib.import_module("scipy.sparse").csr_matrix(np.random.rand(2, 2))
        case "parametrization":
            return torch.nn.utils.parametrizations.weight_norm(agent.net)
        case "script module":
            return torch.jit.script(agent.net)
        case "value":
            return struct.Struct(f"<{step}d")
        case "structure":
            return Structure(0.5)
        case "imported late":
            sys.path.insert(0, str(directory))
            return importlib.import_module("late_rows").Late(np.random.rand())
    raise ValueError(kind)


if kind == "native" and not remedied:
    perdure.register(Native, capture=capture, restore=restore)
directory.mkdir(parents=True, exist_ok=True)
(directory / "late_rows.py").write_text(
    "class Late:\n    def __init__(self, value):\n        self.value = value\n"
)
np.random.seed(0)
torch.manual_seed(0)
agent = Agent()
if remedied:
    build(agent)
world = perdure.World(agent=agent)
with perdure.Run(directory / "run", **options) as run:
    for step in run.steps(world, steps, every=3):
        if kind != "skipped" and (agent.made is None or kind in ANEW):
            agent.made = make(agent, step)
        if kind == "skipped":
            agent.rows.append(make(agent, step))
        if kind == "environment":
            agent.made.step(step % 2)
        if kind == "structure":
            agent.made.time += float(np.random.rand())
        with torch.no_grad():
            for parameter in agent.net.parameters():
                parameter.add_(float(np.random.rand()))
            if kind == "script module":
                agent.net.bias.add_(agent.made(torch.ones(2)) / 100)
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
shown = getattr(agent.made, "value", None) or getattr(agent.made, "hidden", None)
if kind == "value":
    shown = agent.made.format
if kind == "matrix":
    shown = agent.made.todense().tolist()
if kind in ("parametrization", "script module"):
    shown = [each.tolist() for each in agent.net.state_dict().values()]
if kind == "structure":
    shown = agent.made.time
if kind == "environment":
    shown = agent.made.unwrapped.state.tolist()
print(agent.net.weight.tolist(), shown, np.random.rand())
