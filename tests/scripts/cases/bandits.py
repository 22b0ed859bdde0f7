# Bandits as in Sutton and Barto's second chapter: several strategies in turn, each over many steps, arms that drift.
import math
import random

import numpy as np


class Bandit:
    def __init__(self, k):
        self.q = np.random.normal(0, 1, k)

    def step(self, arm):
        self.q += np.random.normal(0, 0.01, len(self.q))
        return float(np.random.normal(self.q[arm], 1))


class EpsilonGreedy:
    def __init__(self, k):
        self.n, self.value = [0] * k, [0.0] * k

    def select(self, t):
        if random.random() < 0.1:
            return random.randrange(len(self.n))
        return max(range(len(self.n)), key=lambda a: self.value[a])

    def update(self, arm, reward):
        self.n[arm] += 1
        self.value[arm] += (reward - self.value[arm]) / self.n[arm]


class UCB(EpsilonGreedy):
    def select(self, t):
        return max(
            range(len(self.n)),
            key=lambda a: (
                math.inf if not self.n[a] else self.value[a] + 2 * math.sqrt(math.log(t + 1) / self.n[a])
            ),
        )


class Gradient(EpsilonGreedy):
    def __init__(self, k):
        super().__init__(k)
        self.h, self.mean = np.zeros(k), 0.0

    def select(self, t):
        self.p = np.exp(self.h - self.h.max())
        self.p /= self.p.sum()
        return int(np.random.choice(len(self.p), p=self.p))

    def update(self, arm, reward):
        super().update(arm, reward)
        self.mean += 0.1 * (reward - self.mean)
        self.h -= 0.1 * (reward - self.mean) * self.p
        self.h[arm] += 0.1 * (reward - self.mean)


random.seed(2)
np.random.seed(2)
table = {}
for strategy in (EpsilonGreedy, UCB, Gradient):  # the training loop
    bandit, agent, total = Bandit(10), strategy(10), 0.0
    for t in range(1500):
        arm = agent.select(t)
        reward = bandit.step(arm)
        agent.update(arm, reward)
        total += reward
    table[strategy.__name__] = (total / 1500, agent.n, max(agent.value))

print("end:", table, random.random(), np.random.rand())
