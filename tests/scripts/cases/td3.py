# TD3: functions of the module that change global variables, observations of fixed noise, a loop over the steps in train().
import copy
import random
from collections import namedtuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Transition = namedtuple("Transition", "state action reward next_state not_done")

SEED = 11
total_it = 0
episode_num = 0
memory = []
position = 0
CAPACITY = 250


def mlp(n_in, n_out, last=None):
    layers = [nn.Linear(n_in, 32), nn.ReLU(), nn.Linear(32, n_out)]
    return nn.Sequential(*layers, *([last] if last else []))


def push(*parts):
    global position
    if len(memory) < CAPACITY:
        memory.append(None)
    memory[position] = Transition(*parts)
    position = (position + 1) % CAPACITY


def sample(n):
    batch = Transition(*zip(*random.sample(memory, n), strict=True))
    return [torch.as_tensor(np.array(part), dtype=torch.float32).reshape(n, -1) for part in batch]


def update(batch_size=32, discount=0.99, tau=0.01, policy_noise=0.2, noise_clip=0.5, policy_freq=2):
    global total_it
    total_it += 1
    state, action, reward, next_state, not_done = sample(batch_size)
    with torch.no_grad():
        noise = (torch.randn_like(action) * policy_noise).clamp(-noise_clip, noise_clip)
        next_action = (actor_target(next_state) * 2 + noise).clamp(-2, 2)
        inputs = torch.cat([next_state, next_action], 1)
        target_q = reward + not_done * discount * torch.min(*(critic(inputs) for critic in critics_target))
    inputs = torch.cat([state, action], 1)
    critic_loss = sum(F.mse_loss(critic(inputs), target_q) for critic in critics)
    critic_optimizer.zero_grad()
    critic_loss.backward()
    critic_optimizer.step()
    if total_it % policy_freq == 0:
        actor_loss = -critics[0](torch.cat([state, actor(state) * 2], 1)).mean()
        actor_optimizer.zero_grad()
        actor_loss.backward()
        actor_optimizer.step()
        for net, target in ((actor, actor_target), *zip(critics, critics_target, strict=True)):
            for p, t in zip(net.parameters(), target.parameters(), strict=True):
                t.data.mul_(1 - tau).add_(tau * p.data)


def train(env, max_timesteps=320, start_timesteps=80):
    global episode_num
    state, _ = env.reset(seed=SEED)
    episode_reward, history = 0, []
    for t in range(max_timesteps):  # the training loop
        if t < start_timesteps:
            action = env.action_space.sample()
        else:
            with torch.no_grad():
                action = actor(torch.as_tensor(state)).numpy() * 2
            action = (action + np.random.normal(0, 0.2, size=1)).clip(-2, 2).astype(np.float32)
        next_state, reward, terminated, truncated, _ = env.step(action)
        push(state, action, reward, next_state, 1.0 - terminated)
        state = next_state
        episode_reward += reward
        if t >= start_timesteps:
            update()
        if terminated or truncated:
            history.append(episode_reward)
            state, _ = env.reset()
            episode_reward = 0
            episode_num += 1
    return history


random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)
env = gym.make("Pendulum-v1", max_episode_steps=60)
env.action_space.seed(SEED)
actor = mlp(3, 1, nn.Tanh())
actor_target = copy.deepcopy(actor)
critics = nn.ModuleList([mlp(4, 1), mlp(4, 1)])
critics_target = copy.deepcopy(critics)
actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critics.parameters(), lr=1e-3)
history = train(env)
print("end:", history, total_it, episode_num, position, len(memory), float(memory[position].reward))
print(
    "end:", [float(p.detach().double().sum()) for n in (actor, actor_target, critics) for p in n.parameters()]
)
print("end:", random.random(), np.random.rand(), torch.rand(1).item(), env.action_space.sample())
