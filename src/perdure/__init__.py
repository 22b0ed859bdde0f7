"""Perdure: kill a reinforcement-learning run at any moment, start it again, and it ends as if nothing had happened.

    run = perdure.Run("runs/mine")
    world = perdure.World(agent=agent, optimizer=optimizer, envs=envs)
    for step in run.steps(world, 500_000, every=10_000):
        ...

The main entry points are `Run` and `World` for loops of one's own, `integrations.sb3.PersistenceCallback` for
Stable-Baselines3, `integrations.tianshou.run` for Tianshou, and `load_policy` for whoever only wants the policy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure import environments, errors, integrations, persistence, state
    from perdure.policy import load_policy
    from perdure.run import Run
    from perdure.signals import Preempted
    from perdure.state import register, register_rows, renamed, skip
    from perdure.store import Retention
    from perdure.world import World

__version__ = "0.1.0"

__all__ = [
    "Preempted",
    "Retention",
    "Run",
    "World",
    "environments",
    "errors",
    "integrations",
    "load_policy",
    "persistence",
    "register",
    "register_rows",
    "renamed",
    "skip",
    "state",
]

_MODULES = ("environments", "errors", "integrations", "persistence", "state")
_HOME = {
    "Preempted": "signals",
    "Run": "run",
    "World": "world",
    "load_policy": "policy",
    "Retention": "store",
    "register": "state",
    "register_rows": "state",
    "renamed": "state",
    "skip": "state",
}


def __getattr__(name: str) -> Any:
    # When they are first used: `perdure --help` and `perdure ls` need neither torch nor what is built on it.
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
