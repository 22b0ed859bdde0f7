"""Wrappers that record the current episode and play it again when the run is resumed.

For environments whose state lies in native code: with the same Python state, the same reset and the same actions they
get to the same state again. Whether they did is checked by what was observed.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach

if TYPE_CHECKING:
    from perdure.environments.replay._gymnasium import EpisodeReplay
    from perdure.environments.replay._pettingzoo import AECEpisodeReplay, ParallelEpisodeReplay
    from perdure.environments.replay._pools import PoolReplay

__all__ = ["AECEpisodeReplay", "EpisodeReplay", "ParallelEpisodeReplay", "PoolReplay"]

# Each needs its library only when it is used.
__getattr__, __dir__ = attach(
    __name__,
    {
        "AECEpisodeReplay": "_pettingzoo",
        "EpisodeReplay": "_gymnasium",
        "ParallelEpisodeReplay": "_pettingzoo",
        "PoolReplay": "_pools",
    },
)
