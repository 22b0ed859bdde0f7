"""NetHack (the library nle): what `EpisodeReplay` needs to know of it. Imports nothing of it."""

from __future__ import annotations

from typing import Any

from perdure.state import leave_out

NLE = "nle.env.base.NLE"

leave_out("nle.nethack.nethack.Nethack", ("dlpath", "_vardir"), "a directory of this process")


def seeded_game(env: Any) -> None:
    """Seed the game of NetHack that begins with numbers from the environment's own generator.

    For `EpisodeReplay(env, before_reset=seeded_game)`. By itself nle seeds each game from the operating system's
    entropy, and again while it is played, whatever seed `reset` is given. Make the environment with
    `fix_moon_phase=True`; else the phase of the moon depends on the date, and it changes the game.

    :param env: an environment with a method `seed(core, disp, reseed)`, as those of nle.
    """
    base = env.unwrapped
    core, disp = (int(seed) for seed in base.np_random.integers(1 << 62, size=2))
    base.seed(core, disp, False)
