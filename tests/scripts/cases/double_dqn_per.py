# Double DQN with prioritised replay: a sum tree, an agent class, a trainer class whose train() has a `while`.
import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn


class SumTree:
    def __init__(self, capacity):
        self.capacity = capacity
        self.tree = np.zeros(2 * capacity - 1)
        self.data = np.empty(capacity, dtype=object)
        self.write = 0
        self.n_entries = 0

    def _propagate(self, idx, change):
        while idx > 0:
            idx = (idx - 1) // 2
            self.tree[idx] += change

    def add(self, p, data):
        self.data[self.write] = data
        self.update(self.write + self.capacity - 1, p)
        self.write = (self.write + 1) % self.capacity
        self.n_entries = min(self.n_entries + 1, self.capacity)

    def update(self, idx, p):
        change = p - self.tree[idx]
        self.tree[idx] = p
        self._propagate(idx, change)

    def get(self, s):
        idx = 0
        while 2 * idx + 1 < len(self.tree):
            left = 2 * idx + 1
            if s <= self.tree[left] or self.tree[left + 1] == 0:
                idx = left
            else:
                s -= self.tree[left]
                idx = left + 1
        return idx, self.tree[idx], self.data[idx - self.capacity + 1]


class PrioritizedReplay:
    e, a, beta, beta_increment = 0.01, 0.6, 0.4, 0.001

    def __init__(self, capacity):
        self.tree = SumTree(capacity)

    def add(self, error, sample):
        self.tree.add((abs(error) + self.e) ** self.a, sample)

    def sample(self, n):
        self.beta = min(1.0, self.beta + self.beta_increment)
        segment = self.tree.tree[0] / n
        found = [self.tree.get(random.uniform(segment * i, segment * (i + 1))) for i in range(n)]
        weights = np.power(
            self.tree.n_entries * np.array([p for _, p, _ in found]) / self.tree.tree[0], -self.beta
        )
        return [i for i, _, _ in found], [d for _, _, d in found], weights / weights.max()

    def update(self, idxs, errors):
        for idx, error in zip(idxs, errors, strict=True):
            self.tree.update(idx, (abs(error) + self.e) ** self.a)


class Agent:
    def __init__(self, state_size, action_size):
        self.net, self.target = (
            nn.Sequential(nn.Linear(state_size, 24), nn.ReLU(), nn.Linear(24, action_size)) for _ in range(2)
        )
        self.target.load_state_dict(self.net.state_dict())
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.memory = PrioritizedReplay(256)
        self.epsilon = 1.0
        self.action_size = action_size

    def act(self, state):
        if np.random.rand() <= self.epsilon:
            return random.randrange(self.action_size)
        with torch.no_grad():
            return int(self.net(torch.as_tensor(state)).argmax())

    def remember(self, *sample):
        state, action, reward, next_state, done = sample
        with torch.no_grad():
            old = self.net(torch.as_tensor(state))[action]
            new = reward if done else reward + 0.99 * self.target(torch.as_tensor(next_state)).max()
        self.memory.add(float(abs(old - new)), sample)

    def replay(self, n=16):
        self.epsilon = max(0.05, self.epsilon * 0.99)
        idxs, batch, weights = self.memory.sample(n)
        states, actions, rewards, next_states, dones = (np.array(part) for part in zip(*batch, strict=True))
        q = self.net(torch.as_tensor(states)).gather(1, torch.as_tensor(actions)[:, None])[:, 0]
        with torch.no_grad():
            best = self.net(torch.as_tensor(next_states)).argmax(1, keepdim=True)
            future = self.target(torch.as_tensor(next_states)).gather(1, best)[:, 0]
            wanted = torch.as_tensor(rewards) + 0.99 * future * (
                1 - torch.as_tensor(dones, dtype=torch.float32)
            )
        errors = (q - wanted).detach().numpy()
        self.memory.update(idxs, errors)
        loss = (torch.as_tensor(weights) * (q - wanted).pow(2)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class Trainer:
    def __init__(self, env, agent, total):
        self.env, self.agent, self.total = env, agent, total
        self.frame = 0
        self.best = -float("inf")
        self.scores = []

    def train(self):
        state, _ = self.env.reset(seed=7)
        score = 0.0
        while self.frame < self.total:  # the training loop
            self.frame += 1
            action = self.agent.act(state)
            next_state, reward, terminated, truncated, _ = self.env.step(action)
            self.agent.remember(state, action, reward, next_state, terminated)
            state, score = next_state, score + reward
            if self.frame > 50:
                self.agent.replay()
            if self.frame % 60 == 0:
                self.agent.target.load_state_dict(self.agent.net.state_dict())
            if terminated or truncated:
                self.scores.append(score)
                self.best = max(self.best, score)
                state, _ = self.env.reset()
                score = 0.0
        return self.best


if __name__ == "__main__":
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    env = gym.make("CartPole-v1")
    trainer = Trainer(env, Agent(4, 2), total=400)
    best = trainer.train()
    agent = trainer.agent
    print("end:", best, trainer.scores, agent.epsilon, agent.memory.beta, agent.memory.tree.tree[0])
    print("end:", [float(p.detach().double().sum()) for p in agent.net.parameters()])
    print(
        "end:", random.random(), np.random.rand(), torch.rand(1).item(), agent.memory.tree.data[3][0].tolist()
    )
