# DDPG in a class with an OU process and a bar that is updated by hand, ended by try/finally; saves the best actor.
import random
from copy import deepcopy

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
from tqdm import tqdm


class OUNoise:
    def __init__(self, size, theta=0.15, sigma=0.2):
        self.size, self.theta, self.sigma = size, theta, sigma
        self.reset()

    def reset(self):
        self.state = np.zeros(self.size)

    def sample(self):
        self.state = self.state - self.theta * self.state + self.sigma * np.random.randn(self.size)
        return self.state


class ReplayMemory:
    def __init__(self, capacity):
        self.capacity, self.buffer, self.position = capacity, [], 0

    def push(self, *transition):
        if len(self.buffer) < self.capacity:
            self.buffer.append(None)
        self.buffer[self.position] = transition
        self.position = (self.position + 1) % self.capacity

    def sample(self, n):
        return (
            torch.as_tensor(np.stack(p), dtype=torch.float32) for p in zip(*random.sample(self.buffer, n))
        )

    def __len__(self):
        return len(self.buffer)


class DDPG:
    def __init__(self, env):
        self.env = env
        self.actor = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 1), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 1))
        self.actor_target, self.critic_target = deepcopy(self.actor), deepcopy(self.critic)
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=1e-4)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
        self.memory, self.noise = ReplayMemory(200), OUNoise(1)
        self.best, self.rewards = -float("inf"), []

    def select(self, state):
        with torch.no_grad():
            action = self.actor(torch.as_tensor(state)).numpy()
        return np.clip(action + self.noise.sample(), -1, 1).astype(np.float32) * 2

    def optimize(self):
        s, a, r, s2, d = self.memory.sample(24)
        with torch.no_grad():
            target = r[:, None] + 0.99 * (1 - d[:, None]) * self.critic_target(
                torch.cat([s2, 2 * self.actor_target(s2)], 1)
            )
        critic_loss = nn.functional.mse_loss(self.critic(torch.cat([s, a], 1)), target)
        self.critic_opt.zero_grad()
        critic_loss.backward()
        self.critic_opt.step()
        actor_loss = -self.critic(torch.cat([s, 2 * self.actor(s)], 1)).mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        self.actor_opt.step()
        for net, old in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
            for p, t in zip(net.parameters(), old.parameters()):
                t.data.lerp_(p.data, 0.01)

    def learn(self, total_steps):
        state, _ = self.env.reset(seed=19)
        episode_reward, step = 0.0, 0
        bar = tqdm(total=total_steps)
        try:
            while step < total_steps:  # the training loop
                action = self.select(state)
                next_state, reward, terminated, truncated, _ = self.env.step(action)
                self.memory.push(state, action, reward, next_state, float(terminated))
                state, episode_reward = next_state, episode_reward + reward
                if len(self.memory) >= 64:
                    self.optimize()
                if terminated or truncated:
                    self.rewards.append(episode_reward)
                    if episode_reward > self.best:
                        self.best = episode_reward
                        torch.save(self.actor.state_dict(), "best_actor.pt")
                    state, _ = self.env.reset()
                    self.noise.reset()
                    episode_reward = 0.0
                step += 1
                bar.update(1)
        finally:
            bar.close()
            self.env.close()


if __name__ == "__main__":
    random.seed(19)
    np.random.seed(19)
    torch.manual_seed(19)
    agent = DDPG(gym.make("Pendulum-v1", max_episode_steps=50))
    agent.learn(330)
    print(
        "end:",
        agent.best,
        agent.rewards,
        agent.noise.state.tolist(),
        len(agent.memory),
        agent.memory.position,
    )
    print(
        "end:",
        [
            float(p.detach().double().sum())
            for n in (agent.actor, agent.critic_target)
            for p in n.parameters()
        ],
    )
    print("end:", random.random(), np.random.rand(), torch.rand(1).item())
