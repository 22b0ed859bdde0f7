import random

import gymnasium as gym
import numpy as np
import torch

EPISODES_SEEN = 0


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def fit(agent, env_id, episodes):
    global EPISODES_SEEN
    env = gym.make(env_id)
    env.reset(seed=14)
    history = []
    for episode in range(episodes):  # the training loop
        obs, _ = env.reset()
        score, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
            over = terminated or truncated
            score += reward
        agent.end_episode(score)
        history.append(score)
        EPISODES_SEEN += 1
    return history, EPISODES_SEEN, torch.rand(1).item(), np.random.rand(), random.random()
