# Tabular Q-learning as in a first course: NumPy, a `while not done`, tqdm around the episodes.
import gymnasium as gym
import numpy as np
from tqdm import tqdm

env = gym.make("FrozenLake-v1", is_slippery=True)
env.action_space.seed(0)
np.random.seed(0)

q_table = np.zeros((env.observation_space.n, env.action_space.n))
alpha, gamma = 0.8, 0.95
epsilon, min_epsilon, decay = 1.0, 0.05, 0.01
rewards_per_episode = []
successes = 0

state, info = env.reset(seed=0)
for episode in tqdm(range(400)):  # the training loop
    state, info = env.reset()
    done = False
    total = 0.0
    while not done:
        if np.random.uniform(0, 1) < epsilon:
            action = env.action_space.sample()
        else:
            action = int(np.argmax(q_table[state]))
        new_state, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        q_table[state, action] += alpha * (
            reward + gamma * np.max(q_table[new_state]) - q_table[state, action]
        )
        state = new_state
        total += reward
    epsilon = min_epsilon + (1 - min_epsilon) * np.exp(-decay * episode)
    rewards_per_episode.append(total)
    successes += total > 0

evaluated = []
for _ in range(20):  # a phase: nothing here learns in the way of a library
    state, info = env.reset()
    done = False
    while not done:
        state, reward, terminated, truncated, info = env.step(int(np.argmax(q_table[state])))
        done = terminated or truncated
    evaluated.append(reward)
print("end:", q_table.sum(), epsilon, successes, sum(rewards_per_episode), sum(evaluated), np.random.rand())
