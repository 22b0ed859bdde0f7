"""Environments that are played again, in processes of their own.

`python replay_cases.py record CASE,… DIRECTORY` plays environments and takes checkpoints on the way;
`python replay_cases.py resume CASE,… DIRECTORY` goes on from each of them. Both print what was observed, as JSON.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import perdure
from perdure.environments import EpisodeReplay, fresh_world

torch.set_num_threads(1)
warnings.filterwarnings("ignore", category=UserWarning, module="gymnasium|pygame")


def replayed(env_id, steps=None, **kwargs):
    return lambda: EpisodeReplay(gym.make(env_id, max_episode_steps=steps, **kwargs))


def with_a_world_of_its_own(env_id, steps=None, **kwargs):
    return lambda: EpisodeReplay(
        gym.make(env_id, max_episode_steps=steps, **kwargs), before_reset=fresh_world
    )


def in_wrappers():
    """As in CleanRL: what keeps state of its own goes around."""
    env = replayed("LunarLander-v3", continuous=True)()
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.ClipAction(env))
    env = gym.wrappers.NormalizeObservation(env)
    env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
    return gym.wrappers.NormalizeReward(gym.wrappers.FrameStackObservation(env, 3))


def with_state_inside():
    """What is inside is played again with the rest."""
    env = gym.wrappers.FrameStackObservation(gym.wrappers.StickyAction(gym.make("LunarLander-v3"), 0.3), 3)
    return EpisodeReplay(gym.wrappers.NormalizeObservation(env))


def multiwalker():
    from pettingzoo.sisl import multiwalker_v9

    from perdure.environments import AECEpisodeReplay

    return AECEpisodeReplay(multiwalker_v9.env(max_cycles=60))


def parallel_multiwalker():
    from pettingzoo.sisl import multiwalker_v9

    from perdure.environments import ParallelEpisodeReplay

    return ParallelEpisodeReplay(multiwalker_v9.parallel_env(max_cycles=60, terminate_on_fall=False))


def doom(env_id):
    def make():
        from vizdoom import gymnasium_wrapper

        assert gymnasium_wrapper
        env = gym.make(f"Vizdoom{env_id}-v1", frame_skip=4, max_episode_steps=60)
        return EpisodeReplay(env)

    return make


def nethack():
    import nle

    from perdure.environments import seeded_game

    assert nle
    env = gym.make("NetHackScore-v0", fix_moon_phase=True, max_episode_steps=90)
    return EpisodeReplay(env, before_reset=seeded_game)


def bullet(own_world):
    def make():
        from bullet_env import Pole

        return EpisodeReplay(gym.wrappers.TimeLimit(Pole(own_world), 60))

    return make


def pool(env_id, max_replay_steps=None):
    def make():
        import envpool

        from perdure.environments import PoolReplay

        return PoolReplay(
            lambda seed: envpool.make(env_id, env_type="gymnasium", num_envs=3, seed=seed, num_threads=2),
            seed=5,
            max_replay_steps=max_replay_steps,
        )

    return make


def atari(game, max_replay_steps=None):
    def make():
        from ale_py.vector_env import AtariVectorEnv

        from perdure.environments import PoolReplay

        return PoolReplay(
            lambda seed: AtariVectorEnv(game, num_envs=3, num_threads=2),
            seed=5,
            max_replay_steps=max_replay_steps,
        )

    return make


def pool_sync(max_replay_steps=None):
    from perdure.environments import PoolReplay

    return PoolReplay(
        lambda seed: gym.make_vec("CartPole-v1", 3, "sync"), seed=5, max_replay_steps=max_replay_steps
    )


#: How to make it; at which (episode, step) there are checkpoints; how many steps follow each.
CASES = {
    "lunar": (replayed("LunarLander-v3"), [(0, 0), (2, 45), (5, 1), (7, 60)], 500),
    "lunar_wind": (replayed("LunarLander-v3", enable_wind=True), [(3, 50)], 500),
    "lunar_continuous": (replayed("LunarLander-v3", continuous=True), [(2, 40)], 500),
    "wrapped": (in_wrappers, [(3, 33)], 500),
    "wraps": (with_state_inside, [(3, 33)], 500),
    "bipedal": (with_a_world_of_its_own("BipedalWalker-v3", 120), [(1, 70), (5, 38)], 500),
    "hardcore": (with_a_world_of_its_own("BipedalWalkerHardcore-v3", 150), [(1, 70), (5, 38)], 500),
    "multiwalker": (multiwalker, [(2, 25)], 500),
    "multiwalker_parallel": (parallel_multiwalker, [(2, 25)], 500),
    "bullet": (bullet(True), [(1, 20), (4, 33)], 500),
    "doom_basic": (doom("Basic"), [(1, 9), (3, 29)], 500),
    "doom_center": (doom("DefendCenter"), [(2, 50)], 500),
    "doom_home": (doom("MyWayHome"), [(2, 50)], 500),
    "nethack": (nethack, [(1, 50), (3, 77)], 500),
    "pool_sync": (pool_sync, [(0, 130)], 500),
    "pool_sync_bounded": (lambda: pool_sync(100), [(0, 130), (0, 200), (0, 299)], 500),
    "pool_cartpole": (pool("CartPole-v1"), [(0, 230)], 500),
    "pool_cartpole_bounded": (pool("CartPole-v1", 100), [(0, 230), (0, 400), (0, 555)], 500),
    "pool_pong": (pool("Pong-v5"), [(0, 120)], 500),
    "pool_cheetah": (pool("HalfCheetah-v4", 300), [(0, 300), (0, 650)], 500),
    "pool_lunar": (pool("LunarLander-v3"), [(0, 230)], 500),
    "atari_breakout": (atari("breakout"), [(0, 150)], 500),
    "atari_pong_bounded": (atari("pong", 100), [(0, 150), (0, 299)], 500),
    "racing": (with_a_world_of_its_own("CarRacing-v3", 40), [(1, 30)], 60),
    "racing_long": (with_a_world_of_its_own("CarRacing-v3", 200), [(1, 100), (3, 150)], 500),
    "racing_discrete": (with_a_world_of_its_own("CarRacing-v3", 150, continuous=False), [(4, 140)], 500),
}


def seen(*values):
    """A digest of what an environment said; wall clocks left out."""
    found = hashlib.sha256()
    todo = list(values)
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo.extend(part for key, part in value.items() if key not in ("t", "_t"))
        elif isinstance(value, list | tuple):
            todo.extend(value)
        elif isinstance(value, np.ndarray | np.generic):
            found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()[:16]


class Agent:
    """Acts at random, by the environment's own generator."""

    def __init__(self, env, seed):
        self.env = env
        self.episode, self.step = 0, 0
        env.action_space.seed(seed)
        self.last = env.reset(seed=seed)[0]

    def act(self):
        action = self.env.action_space.sample()
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.last = obs  # some environments write into what they gave out
        self.step += 1
        if terminated or truncated:
            self.episode, self.step = self.episode + 1, 0
            again, more = self.env.reset()
            return seen(action, obs, reward, terminated, truncated, info, again, more)
        return seen(action, obs, reward, terminated, truncated, info)


class Turns:
    """Agents of PettingZoo that act in turn, at random."""

    def __init__(self, env, seed):
        self.env = env
        self.episode, self.step = 0, 0
        for agent in env.possible_agents:
            env.action_space(agent).seed(seed)
        env.reset(seed=seed)

    def act(self):
        self.step += 1
        if not self.env.agents:
            self.env.reset()
            self.episode, self.step = self.episode + 1, 0
        agent = self.env.agent_selection
        obs, reward, terminated, truncated, info = self.env.last()
        action = None if terminated or truncated else self.env.action_space(agent).sample()
        self.env.step(action)
        return seen(agent, obs, reward, terminated, truncated, info, action)


class Together:
    """Agents of PettingZoo that act at once, at random."""

    def __init__(self, env, seed):
        self.env = env
        self.episode, self.step = 0, 0
        for agent in env.possible_agents:
            env.action_space(agent).seed(seed)
        self.last = env.reset(seed=seed)[0]

    def act(self):
        actions = {agent: self.env.action_space(agent).sample() for agent in self.env.agents}
        result = self.env.step(actions)
        self.last = result[0]
        self.step += 1
        if self.env.agents:
            return seen(actions, *result)
        self.episode, self.step = self.episode + 1, 0
        return seen(actions, *result, *self.env.reset())


class Pool:
    """Acts at random in all environments of a pool, by the generator of a single one's space."""

    def __init__(self, env, seed):
        self.env = env
        self.episode, self.step = 0, 0
        env.single_action_space.seed(seed)
        self.last = env.reset()[0]

    def act(self):
        self.step += 1
        space = self.env.single_action_space
        actions = np.array([space.sample() for _ in range(self.env.num_envs)])
        actions = actions.astype(np.int32 if actions.dtype.kind == "i" else np.float64)
        result = self.env.step(actions)
        self.last = result[0]
        return seen(actions, *result)


def play(env, seed):
    if isinstance(env, gym.vector.VectorEnv):
        return Pool(env, seed)
    if not hasattr(env, "possible_agents"):
        return Agent(env, seed)
    return (Turns if hasattr(env, "last") else Together)(env, seed)


def checkpoint(agent, directory):
    with perdure.Run(directory) as run:
        run.checkpoint(perdure.World(agent=agent, env=agent.env), 1)


def record(name, directory):
    make, points, following = CASES[name]
    points = list(points)
    agent = play(make(), 1)
    found, taken = [], []
    while points or len(found) < taken[-1] + following:
        if points and (agent.episode, agent.step) >= points[0]:
            points.pop(0)
            taken.append(len(found))
            checkpoint(agent, directory / f"{name}-{len(found)}")
        assert len(found) < 20_000, "no episode is that long"
        found.append(agent.act())
    checkpoint(agent, directory / f"{name}-end")
    return {"at": taken, "seen": found}


def resume(name, directory):
    make, points, following = CASES[name]
    found = {}
    runs = sorted(directory.glob(f"{name}-[0-9]*"), key=lambda path: int(path.name.rpartition("-")[2]))
    assert len(runs) == len(points)
    for number, path in enumerate(runs):
        agent = play(make(), 2)
        for _ in range(23 * (number % 2)):  # the script may have used it before it resumes, or not
            agent.act()
        with perdure.Run(path) as run:
            assert run.resume(perdure.World(agent=agent, env=agent.env))
        found[path.name.rpartition("-")[2]] = [agent.act() for _ in range(following)]
        if path is runs[-1]:
            checkpoint(agent, directory / f"{name}-resumed-end")
    return found


if __name__ == "__main__":
    what, cases, where = sys.argv[1:]
    print(json.dumps({case: globals()[what](case, Path(where)) for case in cases.split(",")}))
