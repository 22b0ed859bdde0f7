"""Screens of MiniGrid, MPE2, PettingZoo's MPE and highway-env: left out. Imports none of these libraries.

No observation is read from these screens, and each frame is drawn anew.
"""

from __future__ import annotations

from perdure.state import leave_out

for _name, _screens in {
    "minigrid.minigrid_env.MiniGridEnv": ("window",),
    "mpe2._mpe_utils.simple_env.SimpleEnv": ("screen", "viewer"),
    "pettingzoo.mpe._mpe_utils.simple_env.SimpleEnv": ("screen", "viewer"),
    "highway_env.envs.common.abstract.AbstractEnv": ("viewer",),
}.items():
    leave_out(_name, _screens, "a picture for people, drawn anew for each frame")
