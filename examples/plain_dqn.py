"""A plain training script, which knows nothing of Perdure: DQN on CartPole, in CleanRL's style.

    perdure run plain_dqn.py [--seed 1] [--steps 6000]

Kill it at any moment and type the same command again: it goes on where it was and ends, bit for bit, as
`python plain_dqn.py` does. `perdure run --show plain_dqn.py` tells what is saved.
"""

import argparse
import random
import time
from collections import deque

import gymnasium as gym
import numpy as np
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--steps", type=int, default=6_000)
args = parser.parse_args()

torch.set_num_threads(1)  # networks this small are faster on one core
run_name = f"CartPole-v1__dqn__{args.seed}__{int(time.time())}"
random.seed(args.seed)
np.random.seed(args.seed)
torch.manual_seed(args.seed)

env = gym.make("CartPole-v1")
env.action_space.seed(args.seed)
q_network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
target_network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
target_network.load_state_dict(q_network.state_dict())
optimizer = torch.optim.Adam(q_network.parameters(), lr=1e-3)
replay = deque(maxlen=5_000)
returns = deque(maxlen=20)
start = time.time()

observation, _ = env.reset(seed=args.seed)
episode_return = 0.0
for step in range(args.steps):
    epsilon = max(0.05, 1 - step / (0.5 * args.steps))
    if random.random() < epsilon:
        action = env.action_space.sample()
    else:
        action = q_network(torch.as_tensor(observation)).argmax().item()
    following, reward, terminated, truncated, _ = env.step(action)
    replay.append((observation, action, reward, following, terminated))
    observation = following
    episode_return += float(reward)
    if terminated or truncated:
        returns.append(episode_return)
        episode_return = 0.0
        observation, _ = env.reset()

    if step > 200:
        before, taken, rewards, after, ends = map(np.array, zip(*random.sample(replay, 64), strict=True))
        with torch.no_grad():
            best = target_network(torch.as_tensor(after)).max(1).values
        goal = (
            torch.as_tensor(rewards, dtype=torch.float32) + 0.99 * best * torch.as_tensor(1.0 - ends).float()
        )
        value = q_network(torch.as_tensor(before)).gather(1, torch.as_tensor(taken)[:, None]).squeeze(1)
        loss = nn.functional.mse_loss(value, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if step % 250 == 0:
        target_network.load_state_dict(q_network.state_dict())
    if step % 1_000 == 999:
        rate = (step + 1) / (time.time() - start)
        print(f"step {step + 1}: mean return {np.mean(returns):.1f}, {rate:.0f} steps a second", flush=True)

weights = sum(parameter.detach().double().sum().item() for parameter in q_network.parameters())
print(f"done: mean return {np.mean(returns):.1f}, weights {weights:.12f}")
