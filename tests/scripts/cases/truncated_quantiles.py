# Quantile regression DQN with global state in a config dict, logging to a CSV file opened anew for each line, early stop.
import csv
import os
import random
from collections import deque

import gymnasium as gym
import numpy as np
import torch
from torch import nn

CONFIG = {"n_quantiles": 11, "gamma": 0.98, "lr": 2e-3, "batch": 24, "eps": 1.0, "steps": 0, "updates": 0}
TAU = torch.arange(0.5, CONFIG["n_quantiles"]) / CONFIG["n_quantiles"]


def log(*row):
    is_new = not os.path.exists("progress.csv")
    with open("progress.csv", "a", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["episode", "steps", "length", "eps"])
        writer.writerow(row)


def quantiles(net, states):
    return net(torch.as_tensor(np.array(states))).view(-1, 2, CONFIG["n_quantiles"])


def learn(net, target, opt, memory):
    s, a, r, s2, d = zip(*random.sample(memory, CONFIG["batch"]))
    rows = torch.arange(CONFIG["batch"])
    with torch.no_grad():
        q2 = quantiles(target, s2)
        q2 = q2[rows, q2.mean(2).argmax(1)]
        wanted = torch.tensor(r)[:, None] + CONFIG["gamma"] * (1 - torch.tensor(d))[:, None] * q2
    q = quantiles(net, s)[rows, torch.tensor(a)]
    u = wanted[:, None, :] - q[:, :, None]
    huber = torch.where(u.abs() < 1, 0.5 * u * u, u.abs() - 0.5)
    loss = ((TAU[None, :, None] - (u.detach() < 0).float()).abs() * huber).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    CONFIG["updates"] += 1
    return loss


def main(episodes=200):
    random.seed(37)
    np.random.seed(37)
    torch.manual_seed(37)
    env = gym.make("CartPole-v1")
    net, target = (
        nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2 * CONFIG["n_quantiles"])) for _ in "ab"
    )
    target.load_state_dict(net.state_dict())
    opt = torch.optim.Adam(net.parameters(), CONFIG["lr"])
    memory, recent = deque(maxlen=500), deque(maxlen=5)
    env.reset(seed=37)
    for episode in range(episodes):  # the training loop
        state, _ = env.reset()
        for t in range(500):
            if random.random() < CONFIG["eps"]:
                action = random.randrange(2)
            else:
                with torch.no_grad():
                    action = quantiles(net, [state]).mean(2).argmax().item()
            new, reward, terminated, truncated, _ = env.step(action)
            memory.append((state, action, float(reward), new, float(terminated)))
            state = new
            CONFIG["steps"] += 1
            if len(memory) > 50 and CONFIG["steps"] % 2 == 0:
                loss = learn(net, target, opt, memory)
            if terminated or truncated:
                break
        CONFIG["eps"] = max(0.02, CONFIG["eps"] * 0.9)
        recent.append(t + 1)
        log(episode, CONFIG["steps"], t + 1, CONFIG["eps"])
        if episode % 5 == 0:
            target.load_state_dict(net.state_dict())
        if CONFIG["steps"] > 600:
            return net, list(recent), episode, loss.item()
    return net, list(recent), episodes, loss.item()


if __name__ == "__main__":
    net, recent, episode, loss = main()
    print("end:", recent, episode, loss, CONFIG, [float(p.detach().double().sum()) for p in net.parameters()])
    print("end:", random.random(), torch.rand(1).item())
