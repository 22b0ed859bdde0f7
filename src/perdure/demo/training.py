"""A training loop that survives being killed: DQN on CartPole, in CleanRL's style.

It is the agent of `perdure demo`, and an example to copy from. What Perdure needs is marked (1) to (4). Alone:

    python -m perdure.demo.training runs/cartpole
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import perdure

ENVS = 4
BATCH = 128
LEARNING_STARTS = 250
TRAIN_EVERY = 2
TARGET_EVERY = 100
GAMMA = 0.99
REPORT_EVERY = 25


class ReplayBuffer:
    """A ring of transitions in NumPy arrays."""

    def __init__(self, size: int, width: int) -> None:
        self.obs = np.zeros((size, width), np.float32)
        self.next_obs = np.zeros((size, width), np.float32)
        self.actions = np.zeros(size, np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.terminations = np.zeros(size, np.float32)
        self.size = size
        self.added = 0

    def add(self, *columns: np.ndarray) -> None:
        """Add one transition of each environment, over the oldest ones when the ring is full."""
        rows = (self.added + np.arange(len(columns[0]))) % self.size
        for array, column in zip(self._arrays(), columns, strict=True):
            array[rows] = column
        self.added += len(rows)

    def sample(self, count: int) -> list[torch.Tensor]:
        """Draw `count` transitions at random."""
        rows = np.random.randint(0, min(self.added, self.size), count)
        return [torch.from_numpy(array[rows]) for array in self._arrays()]

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.obs, self.next_obs, self.actions, self.rewards, self.terminations


def network() -> nn.Sequential:
    """The value of each of CartPole's two actions."""
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def train(run: perdure.Run, total: int, every: int, seed: int, report: Callable[[int, float], None]) -> None:
    """Train for `total` steps of all environments, with a checkpoint after each `every` steps.

    :param report: is called now and then with the step and the mean return of the last episodes.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    envs = gym.make_vec("CartPole-v1", num_envs=ENVS, vectorization_mode="sync")
    # Each space has its own generator, which Gymnasium seeds differently in every process.
    for spaces in (
        (envs.action_space, envs.single_action_space),
        (envs.observation_space, envs.single_observation_space),
    ):
        for space in spaces:
            space.seed(seed)
    agent, target = network(), network()
    target.load_state_dict(agent.state_dict())
    optimizer = torch.optim.Adam(agent.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total // TRAIN_EVERY)
    buffer = ReplayBuffer(20_000, 4)

    # (2) what the experiment consists of, and what the loop carries from one step to the next
    world = perdure.World(agent=agent, target=target, optimizer=optimizer, schedule=schedule, envs=envs)
    world.buffer = buffer
    world.obs, _ = envs.reset(seed=seed)
    world.over = np.zeros(ENVS, bool)
    world.episode = np.zeros(ENVS)
    world.returns = deque(maxlen=40)

    for step in run.steps(world, total, every=every):  # (3) only the steps that are still to do
        epsilon = max(0.05, 1 - 0.95 * step / (0.3 * total))
        if random.random() < epsilon:
            actions = envs.action_space.sample()
        else:
            with torch.no_grad():
                actions = agent(torch.from_numpy(world.obs)).argmax(1).numpy()
        next_obs, rewards, terminations, truncations, _ = envs.step(actions)

        # After the end of an episode Gymnasium takes a step that only resets: no transition.
        real = ~world.over
        buffer.add(world.obs[real], next_obs[real], actions[real], rewards[real], terminations[real])
        world.episode += rewards
        world.over = terminations | truncations
        world.returns.extend(world.episode[world.over].tolist())
        world.episode[world.over] = 0
        world.obs = next_obs

        if step >= LEARNING_STARTS and step % TRAIN_EVERY == 0:
            obs, following, action, reward, terminated = buffer.sample(BATCH)
            with torch.no_grad():  # double DQN
                choice = agent(following).argmax(1, keepdim=True)
                goal = reward + GAMMA * target(following).gather(1, choice).squeeze(1) * (1 - terminated)
            loss = nn.functional.smooth_l1_loss(agent(obs).gather(1, action[:, None]).squeeze(1), goal)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if step % TARGET_EVERY == 0:
            target.load_state_dict(agent.state_dict())

        mean = float(np.mean(world.returns)) if world.returns else 0.0
        if len(world.returns) == world.returns.maxlen and step % 100 == 0:
            run.report_score(mean, world)  # (4) policy.pt is the best one so far
        if step % REPORT_EVERY == 0:
            report(step, mean)
    envs.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    directory = sys.argv[1] if len(sys.argv) > 1 else "runs/cartpole"
    # (1) one process trains in a directory; the next one goes on where it was
    with perdure.Run(directory) as run:
        train(run, 12_000, 1_000, 1, lambda step, mean: print(f"step {step}: mean return {mean:.1f}"))
