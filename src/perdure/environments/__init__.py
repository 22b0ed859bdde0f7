"""Environments: what a user puts around one so that it goes on in mid-episode. Imports no library by itself."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.environments.agents import AECEpisodeReplay, ParallelEpisodeReplay
    from perdure.environments.box2d import fresh_world
    from perdure.environments.nethack import seeded_game
    from perdure.environments.pools import PoolReplay
    from perdure.environments.replay import EpisodeReplay

__all__ = [
    "AECEpisodeReplay",
    "EpisodeReplay",
    "ParallelEpisodeReplay",
    "PoolReplay",
    "fresh_world",
    "seeded_game",
]

_HOME = {
    "AECEpisodeReplay": "agents",
    "EpisodeReplay": "replay",
    "ParallelEpisodeReplay": "agents",
    "PoolReplay": "pools",
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
