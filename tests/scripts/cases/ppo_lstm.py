# PPO with an LSTM: its state is carried from one update to the next, a batch is one sequence per environment.
import random

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(5)
np.random.seed(5)
random.seed(5)
num_envs, num_steps, num_updates = 2, 20, 10


class Hidden(gym.ObservationWrapper):
    """Hides the velocities."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-5, 5, (2,), np.float32)

    def observation(self, obs):
        return obs[::2].copy()


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 16), nn.Tanh())
        self.lstm = nn.LSTM(16, 16)
        self.actor = nn.Linear(16, 2)
        self.critic = nn.Linear(16, 1)

    def states(self, x, lstm_state, done):
        hidden = self.body(x).reshape(-1, lstm_state[0].shape[1], 16)
        done = done.reshape(-1, lstm_state[0].shape[1])
        out = []
        for h, d in zip(hidden, done, strict=True):
            keep = (1.0 - d).view(1, -1, 1)
            h, lstm_state = self.lstm(h.unsqueeze(0), (keep * lstm_state[0], keep * lstm_state[1]))
            out += [h]
        return torch.flatten(torch.cat(out), 0, 1), lstm_state

    def act(self, x, lstm_state, done, action=None):
        hidden, lstm_state = self.states(x, lstm_state, done)
        probs = Categorical(logits=self.actor(hidden))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden).flatten(), lstm_state


envs = gym.vector.SyncVectorEnv([lambda: Hidden(gym.make("CartPole-v1"))] * num_envs)
agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
next_obs = torch.as_tensor(envs.reset(seed=5)[0])
next_done = torch.zeros(num_envs)
next_lstm_state = (torch.zeros(1, num_envs, 16), torch.zeros(1, num_envs, 16))
global_step, scores, running = 0, [], np.zeros(num_envs)

update = 1
while update <= num_updates:  # the training loop
    initial_lstm_state = (next_lstm_state[0].clone(), next_lstm_state[1].clone())
    obs, dones, actions, logprobs, rewards, values = ([] for _ in range(6))
    for step in range(num_steps):
        global_step += num_envs
        obs.append(next_obs)
        dones.append(next_done)
        with torch.no_grad():
            action, logprob, _, value, next_lstm_state = agent.act(next_obs, next_lstm_state, next_done)
        raw, reward, terminated, truncated, _ = envs.step(action.numpy())
        running += reward
        over = terminated | truncated
        scores += running[over].tolist()
        running[over] = 0
        actions.append(action)
        logprobs.append(logprob)
        values.append(value)
        rewards.append(torch.as_tensor(reward, dtype=torch.float32))
        next_obs, next_done = torch.as_tensor(raw), torch.as_tensor(over, dtype=torch.float32)
    returns, future = [], torch.zeros(num_envs)
    for reward, done in zip(reversed(rewards), reversed([*dones[1:], next_done]), strict=True):
        future = reward + 0.99 * future * (1 - done)
        returns.insert(0, future)
    advantages = torch.cat(returns) - torch.cat(values)
    for epoch in range(2):
        _, newlogprob, entropy, newvalue, _ = agent.act(
            torch.cat(obs), initial_lstm_state, torch.cat(dones), torch.cat(actions)
        )
        ratio = (newlogprob - torch.cat(logprobs)).exp()
        loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        loss = loss + 0.5 * (newvalue - torch.cat(returns)).pow(2).mean() - 0.01 * entropy.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    update += 1

print(
    "end:", [float(p.detach().double().sum()) for p in agent.parameters()], global_step, scores, loss.item()
)
print("end:", [float(each.sum()) for each in next_lstm_state], running.tolist(), torch.rand(1).item())
