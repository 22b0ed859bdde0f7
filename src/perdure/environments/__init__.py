"""Environments: what a user puts around one so that it goes on in mid-episode, and whether it does.

What is known about particular libraries is registered by dotted class name, so that none of them is imported to be
known; capturing a world uses it unasked. `check` finds out about one environment, in fresh processes. Imports no
library by itself.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.environments.agents import AECEpisodeReplay, ParallelEpisodeReplay
    from perdure.environments.box2d import fresh_world
    from perdure.environments.checking import CheckReport, assert_exact, check
    from perdure.environments.nethack import seeded_game
    from perdure.environments.pools import PoolReplay
    from perdure.environments.replay import EpisodeReplay
    from perdure.environments.resumable import Resumable

__all__ = [
    "AECEpisodeReplay",
    "CheckReport",
    "EpisodeReplay",
    "ParallelEpisodeReplay",
    "PoolReplay",
    "Resumable",
    "assert_exact",
    "check",
    "fresh_world",
    "seeded_game",
]

_HOME = {
    "AECEpisodeReplay": "agents",
    "CheckReport": "checking",
    "EpisodeReplay": "replay",
    "ParallelEpisodeReplay": "agents",
    "PoolReplay": "pools",
    "Resumable": "resumable",
    "assert_exact": "checking",
    "check": "checking",
    "fresh_world": "box2d",
    "seeded_game": "nethack",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
