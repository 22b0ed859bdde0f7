# Evolution strategies in NumPy: a population of perturbed weights, a generator of its own, `theta` rebound each time.
import gymnasium as gym
import numpy as np

rng = np.random.default_rng(42)
env = gym.make("CartPole-v1", max_episode_steps=100)
theta = rng.normal(size=(4, 2)) * 0.1
sigma, alpha, population = 0.1, 0.05, 8
best, best_theta, history = -np.inf, None, []


def fitness(weights, episodes=1):
    total = 0.0
    for _ in range(episodes):
        observation, _ = env.reset(seed=int(rng.integers(1 << 30)))
        while True:
            observation, reward, terminated, truncated, _ = env.step(int(np.argmax(observation @ weights)))
            total += reward
            if terminated or truncated:
                break
    return total / episodes


for generation in range(14):  # the training loop
    noise = rng.normal(size=(population, *theta.shape))
    scores = np.array([fitness(theta + sigma * each) for each in noise])
    if scores.std() > 0:
        advantage = (scores - scores.mean()) / scores.std()
        theta = theta + alpha / (population * sigma) * np.tensordot(advantage, noise, axes=1)
    if scores.max() > best:
        best, best_theta = scores.max(), theta + sigma * noise[scores.argmax()]
    sigma *= 0.98
    history.append(float(scores.mean()))

print("end:", theta.tolist(), best, best_theta.tolist(), sigma, history, rng.random(), fitness(best_theta))
