"""Environments that are played again, in processes of their own.

`python replay_cases.py record CASE DIRECTORY` plays an environment and takes checkpoints on the way;
`python replay_cases.py resume CASE DIRECTORY` goes on from each of them. Both print what was observed, as JSON.
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
    return lambda: EpisodeReplay(gym.make(env_id, max_episode_steps=steps, **kwargs), before_reset=fresh_world)


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


#: How to make it; at which (episode, step) there are checkpoints; how many steps follow each.
CASES = {
    "lunar": (replayed("LunarLander-v3"), [(0, 0), (2, 45), (5, 1), (7, 60)], 500),
    "lunar_wind": (replayed("LunarLander-v3", enable_wind=True), [(3, 50)], 500),
    "lunar_continuous": (replayed("LunarLander-v3", continuous=True), [(2, 40)], 500),
    "wrapped": (in_wrappers, [(3, 33)], 500),
    "wraps": (with_state_inside, [(3, 33)], 500),
    "bipedal": (with_a_world_of_its_own("BipedalWalker-v3", 120), [(1, 70), (5, 38)], 500),
    "hardcore": (with_a_world_of_its_own("BipedalWalkerHardcore-v3", 150), [(1, 70), (5, 38)], 500),
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


def checkpoint(agent, directory):
    with perdure.Run(directory) as run:
        run.checkpoint(perdure.World(agent=agent, env=agent.env), 1)


def record(name, directory):
    make, points, following = CASES[name]
    points = list(points)
    agent = Agent(make(), 1)
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
        agent = Agent(make(), 2)
        for _ in range(23 * (number % 2)):  # the script may have used it before it resumes, or not
            agent.act()
        with perdure.Run(path) as run:
            assert run.resume(perdure.World(agent=agent, env=agent.env))
        found[path.name.rpartition("-")[2]] = [agent.act() for _ in range(following)]
        if path is runs[-1]:
            checkpoint(agent, directory / f"{name}-resumed-end")
    return found


if __name__ == "__main__":
    what, case, where = sys.argv[1:]
    print(json.dumps({"record": record, "resume": resume}[what](case, Path(where))))
