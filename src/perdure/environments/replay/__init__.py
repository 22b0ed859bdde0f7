"""Wrappers that record the current episode and replay it when the run is resumed.

For environments whose state lies in native code: from the same Python state, the same reset and the same actions bring
them to the same state again. What was observed shows whether they did.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach, publish

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

publish(globals())
