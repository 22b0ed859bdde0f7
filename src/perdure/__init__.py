"""Perdure: kill a reinforcement-learning run at any moment, start it again, and it ends as if nothing had happened.

    run = perdure.Run("runs/mine")
    world = perdure.World(agent=agent, optimizer=optimizer, envs=envs)
    for step in run.steps(world, 500_000, every=10_000):
        ...

Use `Run` and `World` for your own loop, `integrations.sb3.PersistenceCallback` for Stable-Baselines3,
`integrations.tianshou.run` for Tianshou, and `load_policy` if all you want is the trained policy.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach

if TYPE_CHECKING:
    from perdure import check_env, environments, errors, integrations, persistence, state, store
    from perdure.errors import Preempted
    from perdure.outputs import register_output
    from perdure.persistence import load_policy
    from perdure.run import Run, loop
    from perdure.state import FROM_SCRIPT, allow, register, register_rows, renamed, secrets, skip
    from perdure.store import Retention
    from perdure.world import World

__version__ = "0.1.0"

__all__ = [
    "FROM_SCRIPT",
    "Preempted",
    "Retention",
    "Run",
    "World",
    "allow",
    "check_env",
    "environments",
    "errors",
    "integrations",
    "load_policy",
    "loop",
    "persistence",
    "register",
    "register_output",
    "register_rows",
    "renamed",
    "secrets",
    "skip",
    "state",
    "store",
]

# When they are first used: `perdure --help` needs neither torch nor what is built on it.
__getattr__, __dir__ = attach(
    __name__,
    {
        **dict.fromkeys(
            ("check_env", "environments", "errors", "integrations", "persistence", "state", "store"), ""
        ),
        "FROM_SCRIPT": "state",
        "Preempted": "errors",
        "Retention": "store",
        "Run": "run",
        "World": "world",
        "allow": "state",
        "load_policy": "persistence",
        "loop": "run",
        "register": "state",
        "register_output": "outputs",
        "register_rows": "state",
        "renamed": "state",
        "secrets": "state",
        "skip": "state",
    },
)
