# A2C with several environments in a list and a `while True` that is left by `break`.
import gymnasium as gym
import numpy as np
import torch
from torch import nn, optim

N_ENVS, N_STEPS, MAX_UPDATES = 3, 8, 40
torch.manual_seed(0)
np.random.seed(0)

envs = [gym.make("CartPole-v1") for _ in range(N_ENVS)]
states = [env.reset(seed=i)[0] for i, env in enumerate(envs)]
body = nn.Sequential(nn.Linear(4, 32), nn.ReLU())
pi, v = nn.Linear(32, 2), nn.Linear(32, 1)
params = [*body.parameters(), *pi.parameters(), *v.parameters()]
opt = optim.RMSprop(params, lr=7e-3, alpha=0.99)
lengths, length = [], np.zeros(N_ENVS, dtype=int)
updates = 0
entropy_coef = 0.02

while True:  # the training loop
    log_probs, values, rewards, masks, entropies = [], [], [], [], []
    for _ in range(N_STEPS):
        hidden = body(torch.as_tensor(np.stack(states)))
        dist = torch.distributions.Categorical(logits=pi(hidden))
        actions = dist.sample()
        reward, mask = [], []
        for i, env in enumerate(envs):
            obs, r, terminated, truncated, _ = env.step(actions[i].item())
            length[i] += 1
            if terminated or truncated:
                lengths.append(int(length[i]))
                length[i] = 0
                obs, _ = env.reset()
            states[i] = obs
            reward.append(r)
            mask.append(1.0 - terminated)
        log_probs.append(dist.log_prob(actions))
        entropies.append(dist.entropy())
        values.append(v(hidden)[:, 0])
        rewards.append(torch.tensor(reward))
        masks.append(torch.tensor(mask))
    with torch.no_grad():
        R = v(body(torch.as_tensor(np.stack(states))))[:, 0]
    returns = []
    for r, m in zip(rewards[::-1], masks[::-1], strict=True):
        R = r + 0.99 * R * m
        returns.append(R)
    advantage = torch.stack(returns[::-1]) - torch.stack(values)
    loss = -(torch.stack(log_probs) * advantage.detach()).mean() + 0.5 * advantage.pow(2).mean()
    loss -= entropy_coef * torch.stack(entropies).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(params, 0.5)
    opt.step()
    entropy_coef *= 0.99
    updates += 1
    if updates >= MAX_UPDATES or (len(lengths) > 20 and np.mean(lengths[-20:]) > 150):
        break

print("end:", updates, lengths, length.tolist(), entropy_coef, loss.item())
print(
    "end:",
    [float(p.detach().double().sum()) for p in params],
    torch.rand(1).item(),
    [s.tolist() for s in states],
)
