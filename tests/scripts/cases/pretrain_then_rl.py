# Two trainings in a row: imitation first, then policy gradients on what it learned; then it tells what it ended with.
import csv

import gymnasium as gym
import numpy as np
import torch
from torch import nn

torch.manual_seed(8)
np.random.seed(8)
env = gym.make("CartPole-v1")
policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
pretraining = torch.optim.SGD(policy.parameters(), lr=0.05)
log = open("log.csv", "w", newline="")
table = csv.writer(log)
table.writerow(["phase", "round", "value"])

rows = np.random.normal(size=(256, 4)).astype(np.float32)
labels = (rows[:, 2] + rows[:, 3] > 0).astype(np.int64)
for epoch in range(20):  # the training loop
    order = np.random.permutation(256)
    for i in range(0, 256, 64):
        batch = order[i : i + 64]
        loss = nn.functional.cross_entropy(
            policy(torch.from_numpy(rows[batch])), torch.from_numpy(labels[batch])
        )
        pretraining.zero_grad()
        loss.backward()
        pretraining.step()
    table.writerow(["imitation", epoch, loss.item()])

print("imitation loss", loss.item())
optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
returns = []
env.reset(seed=8)
for episode in range(15):  # the training loop
    obs, _ = env.reset()
    log_probs, done = [], False
    while not done and len(log_probs) < 80:
        dist = torch.distributions.Categorical(logits=policy(torch.as_tensor(obs)))
        action = dist.sample()
        log_probs.append(dist.log_prob(action))
        obs, _, terminated, truncated, _ = env.step(action.item())
        done = terminated or truncated
    returns.append(len(log_probs))
    advantage = returns[-1] - float(np.mean(returns))
    policy_loss = -advantage * torch.stack(log_probs).sum()
    optimizer.zero_grad()
    policy_loss.backward()
    optimizer.step()
    table.writerow(["policy", episode, returns[-1]])
    log.flush()

log.close()
print("end:", loss.item(), returns, [float(p.detach().double().sum()) for p in policy.parameters()])
print("end:", torch.rand(1).item(), np.random.rand(), obs.tolist(), epoch, episode)
