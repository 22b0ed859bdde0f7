# The cross-entropy method: a mean and a deviation in NumPy, an elite in each generation, `with` around the environment's loop.
import contextlib
import json

import gymnasium as gym
import numpy as np

np.random.seed(13)
N, ELITE, GENERATIONS = 10, 3, 12
mean, std = np.zeros(8), np.ones(8)
env = gym.make("CartPole-v1", max_episode_steps=120)
records = {}


def evaluate(parameters, seed):
    w = parameters.reshape(4, 2)
    obs, _ = env.reset(seed=seed)
    total = 0
    done = False
    while not done:
        obs, reward, terminated, truncated, _ = env.step(int((obs @ w).argmax()))
        total += reward
        done = terminated or truncated
    return total


with contextlib.closing(env):
    for generation in range(GENERATIONS):  # the training loop
        population = mean + std * np.random.randn(N, 8)
        returns = [evaluate(each, seed=int(np.random.randint(10_000))) for each in population]
        elite = population[np.argsort(returns)[-ELITE:]]
        mean, std = elite.mean(axis=0), elite.std(axis=0) + 0.5 / (generation + 1)
        records[generation] = {"best": max(returns), "mean": float(np.mean(returns))}
        with open("records.json", "w") as file:
            json.dump(records, file)

print("end:", mean.tolist(), std.tolist(), records, np.random.rand())
