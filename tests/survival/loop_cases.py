"""Hand-written training loops in CleanRL's style: `python loop_cases.py NAME DIRECTORY [plain]`."""

import itertools
import random
import sys

import gymnasium as gym
import numpy as np
import torch
from fuse import burn, make
from torch import nn

import perdure


def layers(*sizes):
    pairs = list(itertools.pairwise(sizes))
    made = [module for a, b in pairs for module in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*made[:-1])


class ReplayBuffer:
    def __init__(self, size, envs):
        shape = envs.single_observation_space.shape
        self.obs = np.zeros((size, *shape), np.float32)
        self.next_obs = np.zeros((size, *shape), np.float32)
        self.actions = np.zeros(size, np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.dones = np.zeros(size, np.float32)
        self.size, self.pos, self.full = size, 0, False

    def add(self, *rows):
        for row in zip(*rows, strict=True):
            for array, value in zip(
                (self.obs, self.next_obs, self.actions, self.rewards, self.dones), row, strict=True
            ):
                array[self.pos] = value
            self.pos += 1
            if self.pos == self.size:
                self.pos, self.full = 0, True

    def sample(self, n):
        rows = np.random.randint(0, self.size if self.full else self.pos, n)
        return (
            torch.as_tensor(array[rows])
            for array in (self.obs, self.next_obs, self.actions, self.rewards, self.dones)
        )


class FusedVector(gym.vector.VectorWrapper):
    def step(self, actions):
        burn()
        return self.env.step(actions)


def asynchronous(steps):
    return dqn(
        steps,
        FusedVector(
            gym.make_vec(
                "CartPole-v1", 2, vectorization_mode="async", wrappers=[perdure.environments.Resumable]
            )
        ),
    )


def dqn(steps, envs=None):
    envs = envs if envs is not None else gym.vector.SyncVectorEnv([make("CartPole-v1")] * 2)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    q, target = layers(4, 32, 2), layers(4, 32, 2)
    target.load_state_dict(q.state_dict())
    optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
    world = perdure.World(
        agent=q, target=target, optimizer=optimizer, envs=envs, buffer=ReplayBuffer(300, envs), returns=[]
    )
    envs.single_action_space.seed(1)
    world.obs, _ = envs.reset(seed=1)
    for step in steps(world, 700):
        epsilon = max(0.05, 1 - step / 400)
        if random.random() < epsilon:
            actions = np.array([envs.single_action_space.sample() for _ in range(envs.num_envs)])
        else:
            with torch.no_grad():
                actions = q(torch.as_tensor(world.obs)).argmax(1).numpy()
        next_obs, rewards, terminations, _, infos = envs.step(actions)
        if "episode" in infos:
            world.returns.extend(infos["episode"]["r"][infos["_episode"]].tolist())
            if len(world.returns) >= 5:
                yield float(np.mean(world.returns[-5:])), world
        world.buffer.add(world.obs, next_obs, actions, rewards, terminations)
        world.obs = next_obs
        if step > 50 and step % 4 == 0:
            obs, following, action, reward, done = world.buffer.sample(32)
            with torch.no_grad():
                goal = reward + 0.99 * target(following).max(1).values * (1 - done)
            loss = nn.functional.mse_loss(goal, q(obs).gather(1, action[:, None]).squeeze(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 50 == 0:
            target.load_state_dict(q.state_dict())


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = layers(3, 32, 1)
        self.mean = layers(3, 32, 1)
        self.logstd = nn.Parameter(torch.zeros(1, 1))

    def forward(self, obs, action=None):
        distribution = torch.distributions.Normal(self.mean(obs), self.logstd.exp())
        action = distribution.sample() if action is None else action
        return action, distribution.log_prob(action).sum(1), distribution.entropy().sum(1), self.critic(obs)


def wrapped():
    env = make("Pendulum-v1")()
    env = gym.wrappers.RecordEpisodeStatistics(gym.wrappers.FlattenObservation(env))
    env = gym.wrappers.NormalizeObservation(gym.wrappers.ClipAction(env))
    env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
    env = gym.wrappers.NormalizeReward(env, gamma=0.99)
    return gym.wrappers.TransformReward(env, lambda reward: float(np.clip(reward, -10, 10)))


def ppo(steps):
    envs = gym.vector.SyncVectorEnv([wrapped] * 2)
    agent, length = Agent(), 32
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 30)
    world = perdure.World(agent=agent, optimizer=optimizer, schedule=schedule, envs=envs)
    first, _ = envs.reset(seed=[1, 2])
    world.obs, world.done = torch.tensor(first, dtype=torch.float32), torch.zeros(2)
    for _update in steps(world, 30):
        rows = []
        for _ in range(length):
            with torch.no_grad():
                action, logprob, _, value = agent(world.obs)
            following, reward, terminated, truncated, _ = envs.step(action.numpy())
            rows.append(
                (
                    world.obs,
                    action,
                    logprob,
                    torch.tensor(reward, dtype=torch.float32),
                    world.done,
                    value[:, 0],
                )
            )
            world.obs = torch.tensor(following, dtype=torch.float32)
            world.done = torch.tensor(np.logical_or(terminated, truncated), dtype=torch.float32)
        obs, actions, logprobs, rewards, dones, values = (
            torch.stack(column) for column in zip(*rows, strict=True)
        )
        with torch.no_grad():
            after, last, advantages = agent(world.obs)[3][:, 0], 0, torch.zeros_like(rewards)
            for t in reversed(range(length)):
                left = 1 - (world.done if t == length - 1 else dones[t + 1])
                delta = rewards[t] + 0.99 * (after if t == length - 1 else values[t + 1]) * left - values[t]
                advantages[t] = last = delta + 0.99 * 0.95 * left * last
        for rows_of_batch in np.array_split(np.random.permutation(2 * length), 4):
            pick = lambda x, rows=rows_of_batch: x.reshape(2 * length, *x.shape[2:])[rows]  # noqa: E731
            _, new, entropy, value = agent(pick(obs), pick(actions))
            ratio, gain = (new - pick(logprobs)).exp(), pick(advantages)
            policy = -torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
            loss = (
                policy + 0.5 * (value[:, 0] - pick(advantages + values)).pow(2).mean() - 0.01 * entropy.mean()
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
        schedule.step()
        yield float(rewards.mean()), world


def main() -> None:
    name, directory = sys.argv[1:3]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    run = perdure.Run(directory)
    if "plain" in sys.argv:
        *_, (_, world) = globals()[name](lambda world, total: range(total))
        run.checkpoint(world, 0)
        return
    every = {"dqn": 60, "asynchronous": 60, "ppo": 4}[name]
    for score, world in globals()[name](lambda world, total: run.steps(world, total, every=every)):
        run.report_score(score, world)


if __name__ == "__main__":
    main()
