"""Perdure: kill a reinforcement-learning run at any moment, start it again, and it ends as if nothing had happened.

    run = perdure.Run("runs/mine")
    world = perdure.World(agent=agent, optimizer=optimizer, envs=envs)
    for step in run.steps(world, 500_000, every=10_000):
        ...

The main entry points are `Run` and `World` for loops of one's own, `perdure.integrations.sb3.PersistenceCallback` for
Stable-Baselines3, `perdure.integrations.tianshou.run` for Tianshou, and `load_policy` for whoever only wants
the policy.
"""

from perdure import errors, integrations, persistence, state
from perdure.policy import load_policy
from perdure.run import Run
from perdure.signals import Preempted
from perdure.state import register, skip
from perdure.world import World

__version__ = "0.1.0"

__all__ = [
    "Preempted",
    "Run",
    "World",
    "errors",
    "integrations",
    "load_policy",
    "persistence",
    "register",
    "skip",
    "state",
]
