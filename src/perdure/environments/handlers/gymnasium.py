"""Gymnasium's own environments and wrappers: the pictures they draw for people are left out. Imports nothing of it.

No observation is read from these pictures, and each frame is drawn anew.
"""

from __future__ import annotations

from perdure.environments.handlers import _toy_text
from perdure.state import Adapter, leave_out, register_adapter

_REASON = "a picture for people, drawn anew for each frame"
_TABLES = ("frozen_lake.FrozenLakeEnv", "cliffwalking.CliffWalkingEnv", "taxi.TaxiEnv")

for _name in (
    "cartpole.CartPoleEnv",
    "cartpole.CartPoleVectorEnv",
    "pendulum.PendulumEnv",
    "acrobot.AcrobotEnv",
    "mountain_car.MountainCarEnv",
    "continuous_mountain_car.Continuous_MountainCarEnv",
):
    leave_out(f"gymnasium.envs.classic_control.{_name}", ("screen", "screens", "surf"), _REASON)
for _name in (*_TABLES, "blackjack.BlackjackEnv"):
    leave_out(f"gymnasium.envs.toy_text.{_name}", ("window", "window_surface", "screen"), _REASON)
for _name in _TABLES:
    register_adapter(
        f"gymnasium.envs.toy_text.{_name}", Adapter(_toy_text.fields, _toy_text.assign, frozenset({"P"}))
    )
leave_out("gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer", ("viewer", "_viewers"), _REASON)
