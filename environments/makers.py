"""Environments that need more than an id: the wrapper stacks of training libraries, and pools in native code.

A fresh process finds each of these by name (`environments.makers:name`).
"""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
import numpy as np


def continuous(env_id: str, **kwargs: Any) -> Any:
    """CleanRL's wrappers for continuous control, including lambdas."""
    env = gym.wrappers.FlattenObservation(gym.make(env_id, **kwargs))
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = gym.wrappers.ClipAction(env)
    env = gym.wrappers.NormalizeObservation(env)
    env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
    env = gym.wrappers.NormalizeReward(env, gamma=0.99)
    return gym.wrappers.TransformReward(env, lambda reward: np.clip(reward, -10, 10))


def heavily_wrapped() -> Any:
    """CartPole in a stack of wrappers that remember things."""
    env = gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"), buffer_length=5)
    env = gym.wrappers.StickyAction(env, 0.2)
    env = gym.wrappers.TimeAwareObservation(env)
    env = gym.wrappers.FrameStackObservation(env, 3)
    env = gym.wrappers.FlattenObservation(env)
    env = gym.wrappers.NormalizeObservation(env)
    return gym.wrappers.NormalizeReward(env)


def delayed() -> Any:
    """Delayed observations of repeated actions."""
    env = gym.wrappers.RepeatAction(gym.make("CartPole-v1"), 2)
    return gym.wrappers.DelayObservation(gym.wrappers.StickyAction(env, 0.3, (1, 4)), 2)


def discretized() -> Any:
    """A continuous environment with discrete actions and rescaled observations."""
    env = gym.wrappers.MaxAndSkipObservation(gym.make("Pendulum-v1"), 2)
    env = gym.wrappers.RescaleObservation(env, np.float32(-1), np.float32(1))
    return gym.wrappers.DiscretizeAction(env, 7)


def rendered() -> Any:
    """Observations that contain a picture."""
    return gym.wrappers.AddRenderObservation(
        gym.make("CartPole-v1", render_mode="rgb_array"), render_only=False
    )


def atari(game: str, sticky: float = 0.25, **kwargs: Any) -> Any:
    """Gymnasium's preprocessing and frame stack."""
    gym.register_envs(importlib.import_module("ale_py"))
    env = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=sticky, **kwargs)
    return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(env), 4)


def atari_plain(game: str, **kwargs: Any) -> Any:
    """The emulator's own observations."""
    gym.register_envs(importlib.import_module("ale_py"))
    if isinstance(kwargs.get("frameskip"), list):
        # JSON has no tuples.
        kwargs["frameskip"] = tuple(kwargs["frameskip"])
    return gym.wrappers.RecordEpisodeStatistics(gym.make(f"ALE/{game}-v5", **kwargs))


def atari_stable_baselines(game: str) -> Any:
    """Stable-Baselines3's wrappers and monitor."""
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.monitor import Monitor

    gym.register_envs(importlib.import_module("ale_py"))
    return AtariWrapper(Monitor(gym.make(f"{game}NoFrameskip-v4")))


def atari_cleanrl(game: str) -> Any:
    """CleanRL's wrappers."""
    from stable_baselines3.common import atari_wrappers as sb3

    gym.register_envs(importlib.import_module("ale_py"))
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(f"{game}NoFrameskip-v4"))
    env = sb3.MaxAndSkipEnv(sb3.NoopResetEnv(env, noop_max=30), skip=4)
    env = sb3.ClipRewardEnv(sb3.FireResetEnv(sb3.EpisodicLifeEnv(env)))
    env = gym.wrappers.GrayscaleObservation(gym.wrappers.ResizeObservation(env, (84, 84)))
    return gym.wrappers.FrameStackObservation(env, 4)


def atari_vector(game: str) -> Any:
    """ALE's own vector, in native code."""
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(game, num_envs=3)


def atari_vector_replayed(game: str, max_replay_steps: int | None = None) -> Any:
    """ALE's own vector, replayed."""
    from ale_py.vector_env import AtariVectorEnv

    from perdure.environments import PoolReplay

    return PoolReplay(lambda seed: AtariVectorEnv(game, num_envs=3), 1, max_replay_steps=max_replay_steps)


def minigrid(env_id: str) -> Any:
    """As images, in MiniGrid's own wrapper."""
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(gym.make(env_id))


def two_vector_wrappers(mode: str) -> Any:
    """Gymnasium's wrappers around a vector."""
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    from perdure.environments import Resumable

    makers = [
        lambda cut=cut: Resumable(gym.wrappers.TimeLimit(gym.make("Hopper-v5"), cut)) for cut in (41, 55, 69)
    ]
    env = (AsyncVectorEnv if mode == "async" else SyncVectorEnv)(makers)
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    return gym.wrappers.vector.NormalizeReward(gym.wrappers.vector.NormalizeObservation(env))


def vector(
    mode: str, autoreset: str, env_id: str = "CartPole-v1", shared: bool = True, context: str | None = None
) -> Any:
    """Gymnasium's vectors in each of their modes."""
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

    from perdure.environments import Resumable

    makers = [
        lambda cut=cut: Resumable(gym.wrappers.TimeLimit(gym.make(env_id), cut)) for cut in (41, 55, 69)
    ]
    if mode == "sync":
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode[autoreset])
    return AsyncVectorEnv(
        makers, autoreset_mode=AutoresetMode[autoreset], shared_memory=shared, context=context
    )


def atari_in_processes(library: str = "gymnasium") -> Any:
    """Emulators in processes."""
    from perdure.environments import Resumable

    makers = [lambda: Resumable(atari("Breakout"))] * 3
    if library == "gymnasium":
        from gymnasium.vector import AsyncVectorEnv

        return AsyncVectorEnv(makers)
    if library == "stable_baselines3":
        from stable_baselines3.common.vec_env import SubprocVecEnv

        return SubprocVecEnv(makers, start_method="fork")
    from tianshou.env import SubprocVectorEnv

    return SubprocVectorEnv(makers)


def stable_baselines_vector(kind: str, env_id: str = "CartPole-v1") -> Any:
    """Stable-Baselines3's vectors in its wrappers."""
    from stable_baselines3.common.vec_env import (
        DummyVecEnv,
        SubprocVecEnv,
        VecFrameStack,
        VecMonitor,
        VecNormalize,
    )

    from perdure.environments import Resumable

    makers = [
        lambda cut=cut: Resumable(gym.wrappers.TimeLimit(gym.make(env_id), cut)) for cut in (41, 55, 69)
    ]
    env = DummyVecEnv(makers) if kind == "dummy" else SubprocVecEnv(makers, start_method="fork")
    return VecNormalize(VecFrameStack(VecMonitor(env), 2))


def tianshou_vector(kind: str, env_id: str = "CartPole-v1") -> Any:
    """Tianshou's vectors, with the observations normalized."""
    from tianshou.env import DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs

    from perdure.environments import Resumable

    kinds = {"dummy": DummyVectorEnv, "subproc": SubprocVectorEnv, "shmem": ShmemVectorEnv}
    makers = [
        lambda cut=cut: Resumable(gym.wrappers.TimeLimit(gym.make(env_id), cut)) for cut in (41, 55, 69)
    ]
    return VectorEnvNormObs(kinds[kind](makers))


class _Crafter(gym.Env):
    """Adapts Crafter, which has the interface of Gymnasium's predecessor."""

    def __init__(self) -> None:
        import crafter

        self.env = crafter.Env(seed=1)
        self.action_space = gym.spaces.Discrete(17)
        self.observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """As Gymnasium's."""
        return self.env.reset(), {}

    def step(self, action: Any) -> Any:
        """As Gymnasium's."""
        observation, reward, done, info = self.env.step(action)
        return observation, reward, done, False, info


def crafter() -> Any:
    """Crafter, which keeps its creatures in sets."""
    return _Crafter()


class _Bullet(gym.Env):
    """A pole on a cart in PyBullet, which refers to its simulation by a client's number."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def __init__(self) -> None:
        import pybullet
        import pybullet_data

        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.client = pybullet.connect(pybullet.DIRECT)
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), physicsClientId=self.client)
        self.body = -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Build the cart anew."""
        import pybullet as p

        super().reset(seed=seed)
        p.resetSimulation(physicsClientId=self.client)
        p.setGravity(0, 0, -9.8, physicsClientId=self.client)
        self.body = p.loadURDF("cartpole.urdf", physicsClientId=self.client)
        for joint, mode in ((0, p.VELOCITY_CONTROL), (1, p.VELOCITY_CONTROL)):
            p.setJointMotorControl2(self.body, joint, mode, force=0, physicsClientId=self.client)
        tilt = float(self.np_random.uniform(-0.05, 0.05))
        p.resetJointState(self.body, 1, tilt, physicsClientId=self.client)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Push."""
        import pybullet as p

        p.setJointMotorControl2(
            self.body, 0, p.TORQUE_CONTROL, force=float(action[0]) * 20, physicsClientId=self.client
        )
        p.stepSimulation(physicsClientId=self.client)
        seen = self._seen()
        return seen, 1.0, bool(abs(seen[2]) > 0.6), False, {}

    def _seen(self) -> Any:
        import pybullet as p

        states = [p.getJointState(self.body, joint, physicsClientId=self.client) for joint in (0, 1)]
        return np.array([number for state in states for number in state[:2]])


def bullet() -> Any:
    """PyBullet without replay: its state is behind a number."""
    return _Bullet()


def bullet_replayed() -> Any:
    """PyBullet, replayed."""
    from perdure.environments import EpisodeReplay

    return EpisodeReplay(_Bullet(), skip=["*.client", "*.body"])


def box2d_replayed(env_id: str, wrapped: bool = False, **kwargs: Any) -> Any:
    """Box2D's environments; those that keep one world get a new one for each episode."""
    from perdure.environments import EpisodeReplay, fresh_world

    shares = env_id.startswith(("BipedalWalker", "CarRacing"))
    env: Any = EpisodeReplay(gym.make(env_id, **kwargs), before_reset=fresh_world if shares else None)
    if wrapped:
        env = gym.wrappers.NormalizeReward(
            gym.wrappers.FrameStackObservation(gym.wrappers.NormalizeObservation(env), 3)
        )
    return env


def nethack_replayed(env_id: str = "NetHackScore-v0") -> Any:
    """NetHack, replayed."""
    import nle  # noqa: F401 - registers it

    from perdure.environments import EpisodeReplay, seeded_game

    return EpisodeReplay(gym.make(env_id, fix_moon_phase=True), before_reset=seeded_game)


def doom_replayed(env_id: str) -> Any:
    """VizDoom, replayed."""
    import vizdoom.gymnasium_wrapper  # noqa: F401 - registers it

    from perdure.environments import EpisodeReplay

    return EpisodeReplay(gym.make(env_id))


def deepmind(domain: str, task: str, seconds: float = 1.0, **kwargs: Any) -> Any:
    """dm_control with short episodes."""
    from dm_control import suite

    return suite.load(
        domain, task, task_kwargs={"random": 5, "time_limit": seconds}, environment_kwargs=kwargs or None
    )
