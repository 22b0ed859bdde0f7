"""Wrappers that make it possible to resume an environment in mid-episode. Most environments need none.

- `Resumable`: for an environment that runs in another process (`subprocess`).
- `EpisodeReplay`, `AECEpisodeReplay`, `ParallelEpisodeReplay`, `PoolReplay`: for an environment whose state Python
  cannot read; the current episode is recorded, and replayed when the run is resumed (`replay`).
- `fresh_world`, `seeded_game`: for `EpisodeReplay(env, before_reset=...)`.

`handlers` has the rules by which the state of particular libraries is captured: MuJoCo, the ALE, pygame and others.
`perdure.check_env` finds out whether an environment can be resumed exactly, and which wrapper it needs.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach

if TYPE_CHECKING:
    from perdure.environments.handlers import fresh_world, seeded_game
    from perdure.environments.replay import AECEpisodeReplay, EpisodeReplay, ParallelEpisodeReplay, PoolReplay
    from perdure.environments.subprocess import Resumable

__all__ = [
    "AECEpisodeReplay",
    "EpisodeReplay",
    "ParallelEpisodeReplay",
    "PoolReplay",
    "Resumable",
    "fresh_world",
    "seeded_game",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AECEpisodeReplay": "replay",
        "EpisodeReplay": "replay",
        "ParallelEpisodeReplay": "replay",
        "PoolReplay": "replay",
        "Resumable": "subprocess",
        "fresh_world": "handlers",
        "seeded_game": "handlers",
    },
)
