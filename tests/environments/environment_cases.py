"""Environments as a training makes them, by name. A case is a function without arguments that builds one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Make = Callable[[], Any]
CASES: dict[str, Make] = {}


def case(name: str, make: Make) -> None:
    CASES[name] = make


def gymnasium(name: str, *wraps: Callable[[Any], Any], needs: str = "", **options: Any) -> Make:
    def make() -> Any:
        import gymnasium as gym

        if needs:
            gym.register_envs(importlib.import_module(needs))
        env = gym.make(name, **options)
        for wrap in wraps:
            env = wrap(env)
        return env

    return make


def _continuous(env: Any) -> Any:
    """CleanRL's wrappers for continuous control."""
    import gymnasium as gym
    import numpy as np

    env = gym.wrappers.FlattenObservation(env)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = gym.wrappers.ClipAction(env)
    env = gym.wrappers.NormalizeObservation(env)
    env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
    env = gym.wrappers.NormalizeReward(env, gamma=0.99)
    return gym.wrappers.TransformReward(env, lambda reward: np.clip(reward, -10, 10))


def _statistics(env: Any) -> Any:
    import gymnasium as gym

    return gym.wrappers.RecordEpisodeStatistics(env)


def _limit(steps: int) -> Callable[[Any], Any]:
    def wrap(env: Any) -> Any:
        import gymnasium as gym

        return gym.wrappers.TimeLimit(env, steps)

    return wrap


def _preprocessed(env: Any) -> Any:
    import gymnasium as gym

    return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env), 4)


def _cleanrl_atari(env: Any) -> Any:
    import gymnasium as gym
    from stable_baselines3.common import atari_wrappers as sb3

    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = sb3.NoopResetEnv(env, noop_max=30)
    env = sb3.MaxAndSkipEnv(env, skip=4)
    env = sb3.EpisodicLifeEnv(env)
    if "FIRE" in env.unwrapped.get_action_meanings():
        env = sb3.FireResetEnv(env)
    env = sb3.ClipRewardEnv(env)
    env = gym.wrappers.ResizeObservation(env, (84, 84))
    env = gym.wrappers.GrayscaleObservation(env)
    return gym.wrappers.FrameStackObservation(env, 4)


def _sb3_atari(env: Any) -> Any:
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.monitor import Monitor

    return AtariWrapper(Monitor(env))


def _without_first_info(env: Any) -> Any:
    """highway-env: what `reset` says beside the observation holds a sample of a space that was made, unseeded, in that
    very reset: no two runs say the same."""
    import gymnasium as gym

    class WithoutFirstInfo(gym.Wrapper):
        def reset(self, **options: Any) -> Any:
            return super().reset(**options)[0], {}

    return WithoutFirstInfo(env)


def _pettingzoo(module: str, parallel: bool = True, **options: Any) -> Make:
    def make() -> Any:
        found = importlib.import_module(module)
        return (found.parallel_env if parallel else found.env)(**options)

    return make


def _dm_control(domain: str, task: str, limit: float = 1.0, **options: Any) -> Make:
    def make() -> Any:
        from dm_control import suite

        return suite.load(
            domain, task, task_kwargs={"random": 5, "time_limit": limit}, environment_kwargs=options
        )

    return make


for name in ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"):
    case(f"classic/{name}", gymnasium(name, _limit(60)))
for name in (
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "Blackjack-v1",
    "Taxi-v4",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
):
    case(f"toy-text/{name}", gymnasium(name, _limit(60)))

for name in (
    *(
        "HalfCheetah",
        "Hopper",
        "Walker2d",
        "Ant",
        "Humanoid",
        "HumanoidStandup",
        "Swimmer",
        "Reacher",
        "Pusher",
    ),
    *("InvertedPendulum", "InvertedDoublePendulum"),
):
    case(f"mujoco/{name}-v5", gymnasium(f"{name}-v5", _limit(120)))
for name in ("HalfCheetah", "Ant", "Humanoid"):
    case(f"mujoco/{name}-v5 cleanrl", gymnasium(f"{name}-v5", _limit(120), _continuous))

for game in (
    "Pong",
    "Breakout",
    "SpaceInvaders",
    "MsPacman",
    "Seaquest",
    "MontezumaRevenge",
    "Qbert",
    "Enduro",
    "Freeway",
    "Pitfall",
):
    case(
        f"atari/{game} preprocessed",
        gymnasium(f"ALE/{game}-v5", _preprocessed, _limit(120), needs="ale_py", frameskip=1),
    )
case("atari/Breakout raw", gymnasium("ALE/Breakout-v5", _limit(120), needs="ale_py"))
case(
    "atari/Pong without sticky actions",
    gymnasium("ALE/Pong-v5", _limit(120), needs="ale_py", repeat_action_probability=0.0),
)
case(
    "atari/SpaceInvaders frameskip 2 to 5",
    gymnasium("ALE/SpaceInvaders-v5", _limit(120), needs="ale_py", frameskip=(2, 5)),
)
case("atari/Breakout memory", gymnasium("ALE/Breakout-v5", _limit(120), needs="ale_py", obs_type="ram"))
case("atari/Hero continuous", gymnasium("ALE/Hero-v5", _limit(120), needs="ale_py", continuous=True))
case(
    "atari/Breakout cleanrl",
    gymnasium("BreakoutNoFrameskip-v4", _cleanrl_atari, needs="ale_py"),
)
case("atari/Breakout sb3", gymnasium("BreakoutNoFrameskip-v4", _sb3_atari, needs="ale_py"))

for name in (
    *("MiniGrid-DoorKey-8x8-v0", "MiniGrid-Dynamic-Obstacles-8x8-v0", "MiniGrid-KeyCorridorS3R3-v0"),
    *("MiniGrid-MultiRoom-N4-S5-v0", "MiniGrid-ObstructedMaze-1Dlhb-v0", "MiniGrid-FourRooms-v0"),
    *(
        "MiniGrid-LockedRoom-v0",
        "MiniGrid-MemoryS7-v0",
        "MiniGrid-PutNear-6x6-N2-v0",
        "MiniGrid-Fetch-8x8-N3-v0",
    ),
    *("BabyAI-GoToRedBall-v0", "BabyAI-BossLevel-v0", "BabyAI-PutNextS5N2Carrying-v0"),
):
    case(f"minigrid/{name}", gymnasium(name, _limit(120), needs="minigrid"))

for name in (
    "connect_four_v3",
    "tictactoe_v3",
    "rps_v2",
    "chess_v6",
    "go_v5",
    "texas_holdem_v4",
    "leduc_holdem_v4",
    "texas_holdem_no_limit_v6",
):
    case(f"pettingzoo classic/{name}", _pettingzoo(f"pettingzoo.classic.{name}", parallel=False))
for name in (
    *(
        "simple_spread_v3",
        "simple_tag_v3",
        "simple_speaker_listener_v4",
        "simple_world_comm_v3",
        "simple_crypto_v3",
    ),
    *("simple_push_v3", "simple_adversary_v3", "simple_reference_v3", "simple_v3"),
):
    case(f"mpe/{name}", _pettingzoo(f"mpe2.{name}", max_cycles=25))
case("mpe/simple_spread_v3 turns", _pettingzoo("mpe2.simple_spread_v3", parallel=False, max_cycles=25))
case("butterfly/cooperative_pong", _pettingzoo("pettingzoo.butterfly.cooperative_pong_v6"))
case("butterfly/knights_archers_zombies", _pettingzoo("pettingzoo.butterfly.knights_archers_zombies_v11"))
case(
    "butterfly/knights_archers_zombies pictures",
    _pettingzoo("pettingzoo.butterfly.knights_archers_zombies_v11", obs_method="image"),
)
case("sisl/pursuit", _pettingzoo("pettingzoo.sisl.pursuit_v5", max_cycles=60))

for name in (
    "highway-v0",
    "merge-v0",
    "roundabout-v0",
    "parking-v0",
    "intersection-v0",
    "racetrack-v0",
    "two-way-v0",
):
    case(f"highway/{name}", gymnasium(name, _without_first_info, needs="highway_env"))

for domain, task in (
    *(
        ("cartpole", "swingup"),
        ("cheetah", "run"),
        ("humanoid", "walk"),
        ("quadruped", "run"),
        ("finger", "spin"),
    ),
    *(
        ("manipulator", "bring_ball"),
        ("walker", "walk"),
        ("dog", "run"),
        ("fish", "swim"),
        ("stacker", "stack_2"),
    ),
    *(("hopper", "hop"), ("reacher", "easy"), ("ball_in_cup", "catch"), ("swimmer", "swimmer6")),
):
    case(f"dm_control/{domain}-{task}", _dm_control(domain, task))
case("dm_control/cheetah-run not legacy", _dm_control("cheetah", "run", legacy_step=False))
