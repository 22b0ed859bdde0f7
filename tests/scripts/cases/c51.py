# C51: a distribution of returns over 51 atoms; the loop is in a function that is called with keywords.
import random
from collections import deque

import gymnasium as gym
import numpy as np
import torch
from torch import nn, optim

N_ATOMS, V_MIN, V_MAX = 51, 0.0, 60.0


class QNetwork(nn.Module):
    def __init__(self, n_actions=2):
        super().__init__()
        self.n = n_actions
        self.register_buffer("atoms", torch.linspace(V_MIN, V_MAX, steps=N_ATOMS))
        self.network = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, n_actions * N_ATOMS))

    def get_action(self, x, action=None):
        pmfs = torch.softmax(self.network(x).view(len(x), self.n, N_ATOMS), dim=2)
        if action is None:
            action = torch.argmax((pmfs * self.atoms).sum(2), 1)
        return action, pmfs[torch.arange(len(x)), action]


def run(env, q, target, opt, *, steps, seed):
    buffer = deque(maxlen=300)
    obs, _ = env.reset(seed=seed)
    stats = {"episodes": 0, "return": 0.0, "last": None}
    for global_step in range(steps):  # the training loop
        epsilon = max(0.05, 1 - global_step / (steps / 2))
        if random.random() < epsilon:
            action = env.action_space.sample()
        else:
            action = q.get_action(torch.as_tensor(obs)[None])[0].item()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        buffer.append((obs, next_obs, action, reward, terminated))
        stats["return"] += reward
        obs = next_obs
        if terminated or truncated:
            stats.update(episodes=stats["episodes"] + 1, last=stats["return"])
            stats["return"] = 0.0
            obs, _ = env.reset()
        if global_step < 60 or global_step % 3:
            continue
        o, n, a, r, d = (np.array(part) for part in zip(*random.sample(buffer, 32)))
        r, d = (
            torch.as_tensor(r, dtype=torch.float32)[:, None],
            torch.as_tensor(d, dtype=torch.float32)[:, None],
        )
        with torch.no_grad():
            _, next_pmfs = target.get_action(torch.as_tensor(n))
            tz = (r + 0.99 * target.atoms * (1 - d)).clamp(V_MIN, V_MAX)
            b = (tz - V_MIN) / (target.atoms[1] - target.atoms[0])
            lower, upper = b.floor().clamp(0, N_ATOMS - 1), b.ceil().clamp(0, N_ATOMS - 1)
            d_m_l = (upper + (lower == upper).float() - b) * next_pmfs
            d_m_u = (b - lower) * next_pmfs
            target_pmfs = torch.zeros_like(next_pmfs)
            for i in range(len(target_pmfs)):
                target_pmfs[i].index_add_(0, lower[i].long(), d_m_l[i])
                target_pmfs[i].index_add_(0, upper[i].long(), d_m_u[i])
        _, old_pmfs = q.get_action(torch.as_tensor(o), torch.as_tensor(a))
        loss = (-(target_pmfs * old_pmfs.clamp(min=1e-5, max=1 - 1e-5).log()).sum(-1)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        if global_step % 60 == 0:
            target.load_state_dict(q.state_dict())
    return stats, buffer, loss.item()


if __name__ == "__main__":
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    env = gym.make("CartPole-v1")
    env.action_space.seed(9)
    q, target = QNetwork(), QNetwork()
    target.load_state_dict(q.state_dict())
    opt = optim.Adam(q.parameters(), lr=1e-3)
    stats, buffer, loss = run(env, q, target, opt, steps=450, seed=9)
    print("end:", stats, len(buffer), loss, [float(p.detach().double().sum()) for p in q.parameters()])
    print("end:", random.random(), torch.rand(1).item(), env.action_space.sample(), buffer[0][0].tolist())
