# Model-based: an ensemble of dynamics models, a replay of real steps, planning by random shooting, iterations of both.
import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(4, 24), nn.SiLU(), nn.Linear(24, 3))


class Ensemble:
    def __init__(self, n):
        self.models = [build() for _ in range(n)]
        self.optimizers = [torch.optim.Adam(m.parameters(), lr=3e-3) for m in self.models]

    def fit(self, data, epochs):
        inputs = torch.tensor(np.array([np.concatenate([s, a]) for s, a, _, _ in data]), dtype=torch.float32)
        targets = torch.tensor(np.array([s2 - s for s, _, _, s2 in data]), dtype=torch.float32)
        losses = []
        for model, optimizer in zip(self.models, self.optimizers):
            for _ in range(epochs):
                index = torch.randint(len(data), (32,))
                loss = (model(inputs[index]) - targets[index]).pow(2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
        return losses

    @torch.no_grad()
    def imagine(self, state, actions):
        s = torch.as_tensor(state, dtype=torch.float32).repeat(len(actions), 1)
        total = torch.zeros(len(actions))
        for t in range(actions.shape[1]):
            model = random.choice(self.models)
            s = s + model(torch.cat([s, actions[:, t]], 1))
            total += s[:, 0] - 0.1 * s[:, 2].abs()
        return total


def plan(ensemble, state, horizon=4, candidates=16):
    actions = torch.empty(candidates, horizon, 1).uniform_(-2, 2)
    return actions[ensemble.imagine(state, actions).argmax(), 0].numpy()


def main():
    random.seed(23)
    np.random.seed(23)
    torch.manual_seed(23)
    env = gym.make("Pendulum-v1", max_episode_steps=45)
    env.action_space.seed(23)
    ensemble, data, history = Ensemble(3), [], []
    state, _ = env.reset(seed=23)
    for iteration in range(8):  # the training loop
        total = 0.0
        for _ in range(30):
            action = env.action_space.sample() if iteration == 0 else plan(ensemble, state)
            next_state, reward, terminated, truncated, _ = env.step(action)
            data.append((state, action, reward, next_state))
            total += reward
            state = env.reset()[0] if terminated or truncated else next_state
        history.append((total, *ensemble.fit(data, 8)))
    print("end:", history, len(data), state.tolist())
    print("end:", [float(p.detach().double().sum()) for m in ensemble.models for p in m.parameters()])
    print("end:", random.random(), np.random.rand(), torch.rand(1).item(), env.action_space.sample())


if __name__ == "__main__":
    main()
