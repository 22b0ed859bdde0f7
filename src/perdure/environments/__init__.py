"""What to put around an environment so that it can be resumed in mid-episode.

- `Resumable`: around an environment that runs in a process of its own (`subprocess`).
- `EpisodeReplay`, `AECEpisodeReplay`, `ParallelEpisodeReplay`, `PoolReplay`: around an environment whose state Python
  cannot read; the current episode is recorded, and played again when the run is resumed (`replay`).
- `fresh_world`, `seeded_game`: for `EpisodeReplay(env, before_reset=...)`.

`handlers` knows how the state of particular libraries is captured: MuJoCo, the ALE, pygame and others. Most
environments need nothing of all this. `perdure.check_env` finds out.
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
