"""The script whose run is attacked: its objects, built anew as a process builds them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

import perdure


class Thing:
    """An object as users write them: a place, a key, containers."""

    def __init__(self, out: Path) -> None:
        self.out = str(out)
        self.log = f"{out}/log.csv"
        self.best: str | None = None
        self.written: list[str] = []
        self.api_key = "mine"
        self.size = 1
        self.text = "text"
        self.items: list[Any] = [1, "a"]
        self.table: dict[Any, Any] = {"a": 1}

    def method(self) -> str:
        return "mine"


def plain(out: Path) -> dict[str, Any]:
    """A network that learns, its optimizer, generators of every kind, and an object."""
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    return {
        "thing": Thing(out),
        "net": net,
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 10),
        "python": random.Random(1),
        "numpy": np.random.default_rng(1),
        "legacy": np.random.RandomState(1),
        "mt": np.random.Generator(np.random.MT19937(1)),
        "philox": np.random.Generator(np.random.Philox(1)),
        "sfc": np.random.Generator(np.random.SFC64(1)),
        "torch": torch.Generator().manual_seed(1),
        "buffer": np.arange(50_000, dtype=np.float32),
        "small": np.zeros(8, np.float32),
    }


def mujoco(out: Path) -> dict[str, Any]:
    """A robot."""
    import gymnasium as gym

    env = gym.make("Hopper-v5")
    env.reset(seed=1)
    return {"thing": Thing(out), "env": env}


def atari(out: Path) -> dict[str, Any]:
    """A game console."""
    import ale_py
    import gymnasium as gym

    gym.register_envs(ale_py)
    env = gym.make("ALE/Pong-v5")
    env.reset(seed=1)
    return {"thing": Thing(out), "env": env}


WORLDS = {"plain": plain, "mujoco": mujoco, "atari": atari}


def use(world: perdure.World) -> None:
    """What the script does with its world: a state that is no state would be found out now."""
    for name in ("numpy", "mt", "philox", "sfc"):
        if (generator := getattr(world, name, None)) is not None:
            generator.normal(size=3)
            generator.integers(10, size=700)
    if getattr(world, "legacy", None) is not None:
        world.legacy.normal(size=3)
        world.legacy.randint(10, size=700)
        world.python.gauss(0, 1)
        world.python.randbytes(4_000)
        torch.rand(700, generator=world.torch)
        world.net(torch.ones(1, 3)).sum().backward()
    np.random.normal(size=700)
    torch.rand(700)
    random.random()
    if (env := getattr(world, "env", None)) is not None:
        env.step(env.action_space.sample())
    # Where the script writes: in its own directory, whatever was restored.
    Path(world.thing.log).write_text("a,b\n")
    (Path(world.thing.out) / "more.txt").write_text("x")
    if world.thing.best is not None:
        Path(world.thing.best).write_text("x")
    for path in [
        *world.thing.written,
        *(key for key in world.thing.table if isinstance(key, str) and "/" in key),
    ]:
        Path(path).write_text("x")
