# Three seeds one after the other, each a training of its own in a function.
import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn


def evaluate(policy, seed, episodes=3):
    env = gym.make("CartPole-v1")
    scores = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        score, over = 0, False
        while not over:
            with torch.no_grad():
                action = policy(torch.as_tensor(obs)).argmax().item()
            obs, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            score += reward
        scores.append(score)
    return float(np.mean(scores))


def train(seed, episodes=12):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    env = gym.make("CartPole-v1")
    policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    baseline = 0.0
    env.reset(seed=seed)
    for episode in range(episodes):  # the training loop
        obs, _ = env.reset()
        log_probs, rewards = [], []
        while True:
            dist = torch.distributions.Categorical(logits=policy(torch.as_tensor(obs)))
            action = dist.sample()
            obs, reward, terminated, truncated, _ = env.step(action.item())
            log_probs.append(dist.log_prob(action))
            rewards.append(reward)
            if terminated or truncated:
                break
        total = sum(rewards)
        baseline = 0.9 * baseline + 0.1 * total
        loss = -(total - baseline) * torch.stack(log_probs).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    env.close()
    return policy, baseline


results = {}
for seed in range(3):
    policy, baseline = train(seed)
    results[seed] = (
        baseline,
        evaluate(policy, seed),
        sum(float(p.detach().double().sum()) for p in policy.parameters()),
    )
    print("seed", seed, results[seed])
print("end:", results)
print("end:", random.random(), np.random.rand(), torch.rand(1).item())
