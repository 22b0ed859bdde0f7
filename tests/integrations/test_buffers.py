"""Replay buffers of Tianshou and Stable-Baselines3, written, emptied and checkpointed at random: each checkpoint is
the buffer at that moment, bit for bit."""

import os

import gymnasium as gym
import numpy as np
import pytest
from buffer_support import Scenario, small
from stable_baselines3.common.buffers import DictReplayBuffer as SB3Dict
from stable_baselines3.common.buffers import NStepReplayBuffer as SB3NStep
from stable_baselines3.common.buffers import ReplayBuffer as SB3Buffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer as SB3Her
from tianshou.data import (
    Batch,
    CachedReplayBuffer,
    HERVectorReplayBuffer,
    PrioritizedReplayBuffer,
    PrioritizedVectorReplayBuffer,
    ReplayBuffer,
    VectorReplayBuffer,
)

#: Another seed writes in other ways.
SEED = int(os.environ.get("BUFFER_SEED", "1"))
#: Whether the run is told between writes that training goes on, and whether rows are compared whatever the cursors say.
WAYS = pytest.mark.parametrize(
    ("ticks", "check"),
    [
        pytest.param(False, False, id="unseen-trusting"),
        pytest.param(True, True, id="ticks-checking"),
        pytest.param(False, True, id="unseen-checking", marks=pytest.mark.campaign),
        pytest.param(True, False, id="ticks-trusting", marks=pytest.mark.campaign),
    ],
)

# -- Tianshou ------------------------------------------------------------------------------------------------------


class Tianshou:
    """Writes into a Tianshou buffer like a collector: one transition for each of some of its sub-buffers."""

    rows = 40

    def __init__(self, buffer, envs=1, goals=False, shape=(3,)):
        self.buffer, self.envs, self.goals, self.shape = buffer, envs, goals, shape

    def obs(self, n):
        obs = np.random.normal(size=(n, *self.shape)).astype(np.float32)
        if not self.goals:
            return obs
        goal = np.random.normal(size=(n, 2)).astype(np.float32)
        return Batch(observation=obs, achieved_goal=goal, desired_goal=goal + 1)

    def write(self, count):
        written = 0
        while written < count:
            n = 1 if self.envs == 1 else np.random.randint(1, self.envs + 1)
            ids = np.sort(np.random.permutation(self.envs)[:n])
            done = np.random.random(n) < 0.2
            batch = Batch(
                obs=self.obs(n), act=np.random.randint(0, 9, n), rew=np.random.normal(size=n),
                terminated=done, truncated=np.zeros(n, bool), obs_next=self.obs(n),
                info=Batch(x=np.random.normal(size=n)),
            )  # fmt: skip
            if self.envs == 1:
                self.buffer.add(batch[0])
            else:
                self.buffer.add(batch, buffer_ids=ids)
            written += n

    def sample(self):
        if not len(self.buffer):
            return
        _, indices = self.buffer.sample(6)
        if hasattr(self.buffer, "update_weight"):
            self.buffer.update_weight(indices, np.random.random(len(indices)) + 0.01)

    def reset(self):
        self.buffer.reset()


def reward(achieved, desired):
    return (np.linalg.norm(achieved - desired, axis=-1) < 1).astype(np.float32)


FRAMES = {"stack_num": 2, "ignore_obs_next": True, "save_only_last_obs": True}
TIANSHOU = {
    "plain": (lambda: ReplayBuffer(40), {}),
    "frames": (lambda: ReplayBuffer(40, **FRAMES), {"shape": (2, 3, 3)}),
    "prioritized": (lambda: PrioritizedReplayBuffer(40, alpha=0.6, beta=0.4), {}),
    "vector": (lambda: VectorReplayBuffer(40, 4), {"envs": 4}),
    "vector-frames": (lambda: VectorReplayBuffer(40, 4, **FRAMES), {"envs": 4, "shape": (2, 3, 3)}),
    "vector-prioritized": (lambda: PrioritizedVectorReplayBuffer(40, 4, alpha=0.6, beta=0.4), {"envs": 4}),
    "vector-her": (
        lambda: HERVectorReplayBuffer(40, 4, compute_reward_fn=reward, horizon=5, future_k=2.0),
        {"envs": 4, "goals": True},
    ),
    "cached": (lambda: CachedReplayBuffer(ReplayBuffer(40), 3, 7), {"envs": 3}),
}


@WAYS
@pytest.mark.parametrize("kind", TIANSHOU)
def test_tianshou(kind, ticks, check, tmp_path, monkeypatch):
    small(monkeypatch, check)
    make, options = TIANSHOU[kind]
    scenario = Scenario(make, lambda buffer: Tianshou(buffer, **options), tmp_path, seed=SEED, ticks=ticks)
    assert scenario.go(6) == 12


# -- Stable-Baselines3 ---------------------------------------------------------------------------------------------


class SB3:
    """Writes into a buffer of Stable-Baselines3 like its algorithms."""

    rows = 40

    def __init__(self, buffer):
        self.buffer = buffer
        space = buffer.observation_space
        self.shapes = {key: each.shape for key, each in getattr(space, "spaces", {None: space}).items()}

    def obs(self):
        made = {
            key: np.random.randint(0, 2, (self.buffer.n_envs, *shape)).astype(np.float32)
            for key, shape in self.shapes.items()
        }
        return made.get(None, made)

    def write(self, count):
        for _ in range(count):
            n = self.buffer.n_envs
            done = np.random.random(n) < 0.2
            infos = [{"TimeLimit.truncated": bool(each)} for each in done]
            action = np.random.normal(size=(n, self.buffer.action_dim))
            self.buffer.add(self.obs(), self.obs(), action, np.random.normal(size=n), done, infos)

    def sample(self):
        if not self.buffer.size():
            return
        if isinstance(self.buffer, SB3Her) and not np.any(self.buffer.ep_length > 0):
            self.buffer.truncate_last_trajectory()
        self.buffer.sample(6)

    def reset(self):
        self.buffer.reset()


BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
DICT = gym.spaces.Dict({"a": BOX, "b": gym.spaces.Box(-1, 1, (2, 2), np.float32)})


def her(**options):
    env = DummyVecEnv([lambda: BitFlippingEnv(4)] * 2)
    return SB3Her(80, env.observation_space, env.action_space, env, n_envs=2, **options)


STABLE = {
    "plain": lambda: SB3Buffer(80, BOX, BOX, n_envs=2),
    "memory": lambda: SB3Buffer(
        80, BOX, BOX, n_envs=2, optimize_memory_usage=True, handle_timeout_termination=False
    ),
    "dict": lambda: SB3Dict(80, DICT, BOX, n_envs=2),
    "nstep": lambda: SB3NStep(80, BOX, BOX, n_envs=2),
    "her": her,
    "her-infos": lambda: her(copy_info_dict=True),
}


@pytest.mark.filterwarnings("ignore:The last trajectory")
@WAYS
@pytest.mark.parametrize("kind", STABLE)
def test_stable_baselines3(kind, ticks, check, tmp_path, monkeypatch):
    small(monkeypatch, check)
    scenario = Scenario(STABLE[kind], SB3, tmp_path, seed=SEED, ticks=ticks)
    assert scenario.go(6) == 12
