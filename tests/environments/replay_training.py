"""A training on an environment that is played again: `python replay_training.py ENVIRONMENT DIRECTORY`.

Set by environment variables: FUSE (kill this process with SIGKILL at its n-th step).
"""

import os
import random
import signal
import sys

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import perdure
from perdure.environments import EpisodeReplay

torch.set_num_threads(1)
FUSE = int(os.environ.get("FUSE", "0"))


def lander():
    return EpisodeReplay(gym.make("LunarLander-v3", max_episode_steps=120))


def doom():
    from vizdoom import gymnasium_wrapper

    assert gymnasium_wrapper
    env = gym.make("VizdoomBasic-v1", frame_skip=4, max_episode_steps=50)
    env = EpisodeReplay(env)
    small = gym.spaces.Box(0, 1, (8,), np.float32)
    return gym.wrappers.TransformObservation(
        env, lambda obs: obs["screen"].mean(2)[::60, ::160].ravel()[:8].astype(np.float32) / 255, small
    )


def main(make, directory):
    random.seed(1)
    torch.manual_seed(1)
    np.random.seed(1)
    env = gym.wrappers.RecordEpisodeStatistics(make())
    n = env.action_space.n
    q = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, int(n)))
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    world = perdure.World(q=q, optimizer=optimizer, env=env, memory=[], returns=[])
    env.action_space.seed(1)
    world.obs, _ = env.reset(seed=1)
    taken = 0
    with perdure.Run(directory) as run:
        for step in run.steps(world, 700, every=150):
            taken += 1
            if taken == FUSE:
                os.kill(os.getpid(), signal.SIGKILL)
            if np.random.random() < max(0.1, 1 - step / 400):
                action = env.action_space.sample()
            else:
                with torch.no_grad():
                    action = int(q(torch.as_tensor(world.obs)).argmax())
            following, reward, terminated, truncated, info = env.step(action)
            world.memory.append((world.obs, int(action), float(reward), following, terminated))
            world.obs = following
            if terminated or truncated:
                world.returns.append(float(info["episode"]["r"]))
                world.obs, _ = env.reset()
            if step > 50:
                rows = [world.memory[index] for index in np.random.randint(0, len(world.memory), 16)]
                obs, actions, rewards, after, ends = (np.array(column) for column in zip(*rows, strict=True))
                with torch.no_grad():
                    goal = torch.as_tensor(rewards, dtype=torch.float32)
                    goal += 0.99 * q(torch.as_tensor(after)).max(1).values * ~torch.as_tensor(ends)
                chosen = q(torch.as_tensor(obs)).gather(1, torch.as_tensor(actions)[:, None])[:, 0]
                optimizer.zero_grad()
                nn.functional.mse_loss(chosen, goal).backward()
                optimizer.step()


if __name__ == "__main__":
    main(globals()[sys.argv[1]], sys.argv[2])
