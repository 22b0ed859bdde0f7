# Dyna-Q: a world and a model of it as plain dictionaries, real and imagined steps, a `while` over the steps.
import random
from collections import defaultdict


class GridWorld:
    """A small world of its own, without any library."""

    walls = {(1, 1), (2, 1), (3, 3), (1, 3)}

    def __init__(self, size=5):
        self.size = size
        self.reset()

    def reset(self):
        self.position = (0, 0)
        self.steps = 0
        return self.position

    def step(self, action):
        dx, dy = ((0, 1), (0, -1), (1, 0), (-1, 0))[action]
        if random.random() < 0.1:
            dx, dy = dy, dx
        x, y = self.position[0] + dx, self.position[1] + dy
        if 0 <= x < self.size and 0 <= y < self.size and (x, y) not in self.walls:
            self.position = (x, y)
        self.steps += 1
        done = self.position == (self.size - 1, self.size - 1)
        return self.position, 1.0 if done else -0.01, done or self.steps > 200


class DynaQ:
    def __init__(self, n_planning=8):
        self.q = defaultdict(float)
        self.model = {}
        self.visited = set()
        self.n_planning = n_planning

    def act(self, state, epsilon):
        if random.random() < epsilon:
            return random.randrange(4)
        values = [self.q[state, a] for a in range(4)]
        return random.choice([a for a, value in enumerate(values) if value == max(values)])

    def update(self, s, a, r, s2, done):
        target = r if done else r + 0.95 * max(self.q[s2, b] for b in range(4))
        self.q[s, a] += 0.2 * (target - self.q[s, a])

    def observe(self, s, a, r, s2, done):
        self.update(s, a, r, s2, done)
        self.model[s, a] = (r, s2, done)
        self.visited.add(s)
        for _ in range(self.n_planning):
            (ps, pa), (pr, ps2, pdone) = random.choice(list(self.model.items()))
            self.update(ps, pa, pr, ps2, pdone)


def main():
    random.seed(3)
    env, agent = GridWorld(), DynaQ()
    state = env.reset()
    step, episodes, epsilon = 0, [], 0.3
    while step < 6000:  # the training loop
        action = agent.act(state, epsilon)
        next_state, reward, done = env.step(action)
        agent.observe(state, action, reward, next_state, done)
        state = next_state
        step += 1
        if done:
            episodes.append(env.steps)
            state = env.reset()
            epsilon = max(0.01, epsilon * 0.99)
    print("end:", sorted(agent.q.items())[:20], len(agent.model), len(agent.visited))
    print("end:", step, episodes, epsilon, state, random.random())


main()
