# SARSA(n) with traces on a cliff: `while True` inside, `while ... else` around, state in a class without a framework.
import numpy as np

rng = np.random.RandomState(17)


class Cliff:
    def reset(self):
        self.pos = [3, 0]
        return self._s()

    def _s(self):
        return self.pos[0] * 12 + self.pos[1]

    def step(self, a):
        dy, dx = ((-1, 0), (0, 1), (1, 0), (0, -1))[a]
        self.pos = [min(3, max(0, self.pos[0] + dy)), min(11, max(0, self.pos[1] + dx))]
        if self.pos[0] == 3 and 0 < self.pos[1] < 11:
            self.pos = [3, 0]
            return self._s(), -100.0, False, {}
        return self._s(), -1.0, self.pos == [3, 11], {}


class Sarsa:
    def __init__(self, n_states, n_actions, alpha=0.3, gamma=0.95, lam=0.7):
        self.Q = np.zeros((n_states, n_actions))
        self.E = np.zeros_like(self.Q)
        self.alpha, self.gamma, self.lam, self.eps = alpha, gamma, lam, 0.3

    def act(self, s):
        if rng.rand() < self.eps:
            return rng.randint(4)
        return int(rng.choice(np.flatnonzero(self.Q[s] == self.Q[s].max())))

    def update(self, s, a, r, s2, a2):
        delta = r + self.gamma * self.Q[s2, a2] - self.Q[s, a]
        self.E[s, a] = 1
        self.Q += self.alpha * delta * self.E
        self.E *= self.gamma * self.lam


env, agent = Cliff(), Sarsa(48, 4)
episode = 0
returns = []
good = 0
while good < 8:  # the training loop
    s = env.reset()
    a = agent.act(s)
    agent.E[:] = 0
    total, steps = 0.0, 0
    while True:
        s2, r, done, _ = env.step(a)
        a2 = agent.act(s2)
        agent.update(s, a, r, s2, a2)
        s, a = s2, a2
        total += r
        steps += 1
        if done or steps > 300:
            break
    returns.append(total)
    agent.eps *= 0.995
    good = good + 1 if total > -30 else 0
    episode += 1
    if episode >= 400:
        print("gave up")
        break
else:
    print("end: the last eight were good")

print("end:", episode, returns[-10:], sum(returns), agent.eps, agent.Q.sum(), agent.E.sum(), rng.rand(), s, a)
