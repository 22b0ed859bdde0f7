# Several agents that learn for themselves, in a parallel environment written by hand, `while env.agents` inside.
import random
from collections import defaultdict, deque

import numpy as np
import torch
from torch import nn, optim


class Chase:
    """Two predators and a prey on a ring; agents leave when the prey is caught."""

    possible_agents = ["predator_0", "predator_1", "prey"]

    def __init__(self, size=9, seed=None):
        self.size = size
        self.rng = np.random.RandomState(seed)
        self.agents = []

    def reset(self):
        self.agents = list(self.possible_agents)
        self.positions = {agent: int(self.rng.randint(self.size)) for agent in self.agents}
        self.moves = 0
        return self._observations()

    def _observations(self):
        everything = [self.positions[agent] / self.size for agent in self.possible_agents]
        return {
            agent: np.array([*everything, float(i == 2), self.moves / 20], dtype=np.float32)
            for i, agent in enumerate(self.possible_agents)
            if agent in self.agents
        }

    def step(self, actions):
        for agent, action in actions.items():
            self.positions[agent] = (self.positions[agent] + action - 1) % self.size
        self.moves += 1
        caught = any(self.positions[p] == self.positions["prey"] for p in self.possible_agents[:2])
        rewards = {
            agent: (1.0 if caught else -0.05) * (-1 if agent == "prey" else 1) for agent in self.agents
        }
        over = caught or self.moves >= 20
        dones = dict.fromkeys(self.agents, over)
        observations = self._observations()
        if over:
            self.agents = []
        return observations, rewards, dones


class Learner:
    count = 0

    def __init__(self, name):
        self.name = name
        self.net = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 3))
        self.optimizer = optim.SGD(self.net.parameters(), lr=0.02, momentum=0.9)
        self.memory = deque(maxlen=200)
        self.updates = 0
        Learner.count += 1

    def choose(self, obs, epsilon):
        if random.random() < epsilon:
            return random.randint(0, 2)
        with torch.no_grad():
            return int(self.net(torch.from_numpy(obs)).argmax())

    def learn(self):
        if len(self.memory) < 16:
            return None
        o, a, r, n, d = zip(*random.sample(self.memory, 16))
        with torch.no_grad():
            target = torch.tensor(r) + 0.9 * self.net(torch.tensor(np.array(n))).max(1).values * (
                1 - torch.tensor(d)
            )
        value = self.net(torch.tensor(np.array(o)))[range(16), a]
        loss = nn.functional.mse_loss(value, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        return loss.item()


random.seed(0)
torch.manual_seed(0)
env = Chase(seed=0)
learners = {agent: Learner(agent) for agent in env.possible_agents}
totals = defaultdict(list)

for episode in range(60):  # the training loop
    observations = env.reset()
    epsilon = max(0.1, 1 - episode / 40)
    sums = defaultdict(float)
    while env.agents:
        actions = {agent: learners[agent].choose(obs, epsilon) for agent, obs in observations.items()}
        new, rewards, dones = env.step(actions)
        for agent in actions:
            learners[agent].memory.append(
                (observations[agent], actions[agent], rewards[agent], new[agent], float(dones[agent]))
            )
            learners[agent].learn()
            sums[agent] += rewards[agent]
        observations = new
    for agent, total in sums.items():
        totals[agent].append(total)

for name, learner in learners.items():
    print(
        "end:", name, learner.updates, float(sum(p.detach().double().sum() for p in learner.net.parameters()))
    )
print(
    "end:", {k: (len(v), sum(v)) for k, v in totals.items()}, Learner.count, random.random(), env.rng.rand()
)
