"""Vector environments of every kind, in a process of their own: `python vector_cases.py write|read DIRECTORY KIND ...`.

Each is stepped into later episodes and captured twice, once in mid-episode and once right after an episode's end; then
it goes on. The reading process builds it anew, restores, and goes on. Both print what they saw, a digest for each step.
"""

import hashlib
import importlib
import json
import os
import random
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

from perdure import tree
from perdure.environments import Resumable
from perdure.state import capture, restore

#: Their episodes have 23 steps at most. The whole matrix goes further.
BEFORE, AFTER = 60, int(os.environ.get("VECTOR_STEPS", "100"))
#: Of simulators, whose state lies in native code: two of them, for a shorter time.
SIMULATORS, SHORTER = ("HalfCheetah-v5", "Breakout"), 60
LIMITS = (11, 17, 23)


class Drawing(gym.Wrapper):
    """Draws from the generators of its process, and has something to say when it is reset."""

    def reset(self, **given):
        obs, info = super().reset(**given)
        return obs, {**info, "start": float(self.np_random.normal())}

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        drawn = random.random() + np.random.normal() + float(torch.rand(()))
        return obs, float(reward) + drawn, terminated, truncated, {**info, "drawn": drawn}


def bare(name):
    if name != "Breakout":
        return gym.make(name)
    gym.register_envs(importlib.import_module("ale_py"))
    made = gym.make("ALE/Breakout-v5", frameskip=1, repeat_action_probability=0.25)
    return gym.wrappers.FrameStackObservation(gym.wrappers.AtariPreprocessing(made), 4)


def env(name, limit):
    made = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.TimeLimit(bare(name), limit))
    return Resumable(Drawing(made))


class Pair(gym.Env):
    """A plain environment with observations of several kinds."""

    observation_space = gym.spaces.Dict(
        {"a": gym.spaces.Box(-9, 9, (2, 3)), "b": gym.spaces.Discrete(5), "c": gym.spaces.MultiBinary(3)}
    )
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.past = []
        return self.seen(), {}

    def seen(self):
        return {
            "a": self.np_random.normal(size=(2, 3)).clip(-9, 9).astype(np.float32),
            "b": np.int64(len(self.past) % 5),
            "c": self.np_random.integers(0, 2, 3, dtype=np.int8),
        }

    def step(self, action):
        self.past.append(int(action))
        return self.seen(), float(sum(self.past)), self.np_random.random() < 0.1, False, {}


def factories(name):
    if name == "Pair":
        return [lambda: Resumable(Drawing(Pair()))] * 3
    return [lambda limit=limit: env(name, limit) for limit in LIMITS[: 2 if name in SIMULATORS else 3]]


# -- the kinds: how one is made, and driven ------------------------------------------------------------------


class Gymnasium:
    def __init__(self, name, kind, mode="next_step", shared="shared", *more):
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
        from gymnasium.wrappers import vector

        self.mode = AutoresetMode[mode.upper()]
        if kind == "sync":
            self.envs = SyncVectorEnv(factories(name), autoreset_mode=self.mode)
        else:
            context = "spawn" if "spawn" in more else None
            self.envs = AsyncVectorEnv(
                factories(name), shared_memory=shared == "shared", autoreset_mode=self.mode, context=context,
                copy="uncopied" not in more,
            )  # fmt: skip
        if "wrapped" in more:
            self.envs = vector.RecordEpisodeStatistics(self.envs, stats_key="episodes")
            self.envs = vector.NormalizeReward(vector.NormalizeObservation(self.envs))
        self.done = np.zeros(self.envs.num_envs, bool)

    def reset(self, seed):
        return self.envs.reset(seed=seed)

    def step(self, draw):
        if self.mode.name == "DISABLED" and self.done.any():
            seen = self.envs.reset(options={"reset_mask": self.done})
            self.done[:] = False
            return seen
        actions = gym.vector.utils.iterate(self.envs.action_space, self.envs.action_space.sample())
        seen = self.envs.step(np.stack(list(actions)))
        self.done = seen[2] | seen[3]
        return seen

    def close(self):
        self.envs.close()


class SB3:
    def __init__(self, name, kind, *more):
        from stable_baselines3.common import vec_env

        if kind == "dummy":
            self.envs = vec_env.DummyVecEnv(factories(name))
        else:
            self.envs = vec_env.SubprocVecEnv(factories(name), start_method=more[0])
        if "wrapped" in more:
            self.envs = vec_env.VecFrameStack(vec_env.VecMonitor(self.envs), 3)
            self.envs = vec_env.VecNormalize(self.envs)
        self.done = np.zeros(self.envs.num_envs, bool)

    def reset(self, seed):
        self.envs.seed(seed)
        return self.envs.reset()

    def step(self, draw):
        actions = np.stack([self.envs.action_space.sample() for _ in self.done])
        seen = self.envs.step(actions)
        self.done = seen[2]
        return seen, list(self.envs.reset_infos)

    def close(self):
        self.envs.close()


class Tianshou:
    def __init__(self, name, kind, *more):
        from tianshou import env

        if kind == "dummy":
            self.envs = env.DummyVectorEnv(factories(name))
        elif kind == "shmem":
            self.envs = env.ShmemVectorEnv(factories(name))
        elif kind == "ray":
            self.envs = in_actors(factories(name))
        else:
            self.envs = env.SubprocVectorEnv(factories(name), share_memory="shared" in more, context="fork")
        if "wrapped" in more:
            self.envs = env.VectorEnvNormObs(self.envs)
        self.done = np.zeros(len(self.envs), bool)
        self.space = bare(name).action_space if name != "Pair" else Pair.action_space

    def reset(self, seed):
        self.envs.seed(seed)
        return self.envs.reset()

    def step(self, draw):
        if self.done.any():
            seen = self.envs.reset(np.flatnonzero(self.done))
            self.done[:] = False
            return seen
        seen = self.envs.step(np.stack([self.space.sample() for _ in self.done]))
        self.done = seen[2] | seen[3]
        return seen

    def close(self):
        self.envs.close()


def in_actors(makers):
    import ray
    from tianshou.env import RayVectorEnv

    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return RayVectorEnv(makers)


def make(kind):
    library, *words = kind.split(",")
    return {"gym": Gymnasium, "sb3": SB3, "tianshou": Tianshou}[library](*words)


# -- comparing -----------------------------------------------------------------------------------------------


def digest(seen):
    found = hashlib.blake2b(digest_size=6)
    _feed(found, seen)
    return found.hexdigest()


def _feed(found, value):
    """Everything an environment said, less the time that passed."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in ("t", "_t", "episode_time"):
                found.update(str(key).encode())
                _feed(found, each)
    elif isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.dtype == object):
        for each in value:
            _feed(found, each)
    elif isinstance(value, np.ndarray | np.generic):
        found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    else:
        found.update(f"{type(value).__name__} {value!r}".encode())


class Bytes:
    def __init__(self, content):
        self.content, self.nbytes = content, len(content)

    def read_into(self, buffer):
        buffer[:] = self.content


def save(state, path):
    document, blobs = tree.encode(state)
    path.with_suffix(".json").write_text(json.dumps(document, allow_nan=False))
    np.savez(path.with_suffix(".npz"), *[np.frombuffer(blob.buffer(), np.uint8) for blob in blobs])


def load(path):
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        content = [Bytes(arrays[f"arr_{number}"].tobytes()) for number in range(len(arrays.files))]
    return tree.decode(json.loads(path.with_suffix(".json").read_text()), content)


def go_on(case, steps):
    return [digest(case.step(None)) for _ in range(steps)]


def write(kind, path):
    case = make(kind)
    case.reset(1)
    seed_spaces(case, 2)
    seen = {}
    for where in ("within", "ended"):
        go_on(case, BEFORE)
        # Some episode has just ended, or none has.
        for _ in range(200):
            if case.done.any() == (where == "ended"):
                break
            case.step(None)
        else:
            raise AssertionError(f"{kind}: never {where}")
        save(capture({"case": case}), path.with_name(f"{path.name}-{where}"))
        seen[where] = go_on(case, after(kind))
    case.close()
    return seen


def after(kind):
    return SHORTER if kind.split(",")[1] in SIMULATORS else AFTER


def read(kind, path):
    case = make(kind)
    case.reset(3)
    seed_spaces(case, 4)
    seen = {}
    for where in ("within", "ended"):
        go_on(case, 7)
        report = restore(load(path.with_name(f"{path.name}-{where}")), {"case": case})
        assert report.exact, report
        seen[where] = go_on(case, after(kind))
    case.close()
    return seen


def seed_spaces(case, seed):
    if isinstance(case, Tianshou):
        case.space.seed(seed)
    else:
        case.envs.action_space.seed(seed)


def main() -> None:
    job, directory, *kinds = sys.argv[1:]
    torch.set_num_threads(1)
    seen = {}
    for kind in kinds:
        random.seed(job)
        seen[kind] = {"write": write, "read": read}[job](kind, Path(directory) / kind.replace(",", "-"))
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
