# SAC in the style of CleanRL: alpha is rebound late in the loop, the policy is trained every second step.
import random

import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

seed, total_timesteps, learning_starts, batch_size = 3, 350, 100, 32
gamma, tau, policy_frequency = 0.99, 0.005, 2


class SoftQNetwork(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.fc1 = nn.Linear(int(np.prod(env.observation_space.shape) + np.prod(env.action_space.shape)), 32)
        self.fc2 = nn.Linear(32, 1)

    def forward(self, x, a):
        return self.fc2(F.relu(self.fc1(torch.cat([x, a], 1))))


class Actor(nn.Module):
    def __init__(self, env):
        super().__init__()
        self.fc1 = nn.Linear(int(np.prod(env.observation_space.shape)), 32)
        self.fc_mean = nn.Linear(32, int(np.prod(env.action_space.shape)))
        self.fc_logstd = nn.Linear(32, int(np.prod(env.action_space.shape)))
        high, low = env.action_space.high, env.action_space.low
        self.register_buffer("action_scale", torch.tensor((high - low) / 2.0, dtype=torch.float32))
        self.register_buffer("action_bias", torch.tensor((high + low) / 2.0, dtype=torch.float32))

    def get_action(self, x):
        x = F.relu(self.fc1(x))
        mean, log_std = self.fc_mean(x), torch.tanh(self.fc_logstd(x))
        log_std = -5 + 0.5 * (2 + 5) * (log_std + 1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        x_t = normal.rsample()
        y_t = torch.tanh(x_t)
        log_prob = normal.log_prob(x_t) - torch.log(self.action_scale * (1 - y_t.pow(2)) + 1e-6)
        return y_t * self.action_scale + self.action_bias, log_prob.sum(1, keepdim=True)


random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)
env = gym.wrappers.RecordEpisodeStatistics(gym.make("Pendulum-v1", max_episode_steps=70))
env.action_space.seed(seed)

actor = Actor(env)
qf1, qf2 = SoftQNetwork(env), SoftQNetwork(env)
qf1_target, qf2_target = SoftQNetwork(env), SoftQNetwork(env)
qf1_target.load_state_dict(qf1.state_dict())
qf2_target.load_state_dict(qf2.state_dict())
q_optimizer = optim.Adam(list(qf1.parameters()) + list(qf2.parameters()), lr=1e-3)
actor_optimizer = optim.Adam(list(actor.parameters()), lr=3e-4)

target_entropy = -float(np.prod(env.action_space.shape))
log_alpha = torch.zeros(1, requires_grad=True)
alpha = log_alpha.exp().item()
a_optimizer = optim.Adam([log_alpha], lr=1e-2)

replay = []
returns = []
obs, _ = env.reset(seed=seed)
for global_step in range(total_timesteps):  # the training loop
    if global_step < learning_starts:
        action = env.action_space.sample()
    else:
        action, _ = actor.get_action(torch.as_tensor(obs)[None])
        action = action.detach().numpy()[0]
    next_obs, reward, terminated, truncated, info = env.step(action)
    replay.append((obs, action, reward, next_obs, float(terminated)))
    obs = next_obs
    if terminated or truncated:
        returns.append(info["episode"]["r"])
        obs, _ = env.reset()

    if global_step > learning_starts:
        batch = random.sample(replay, batch_size)
        b_obs, b_act, b_rew, b_next, b_done = (
            torch.as_tensor(np.array(part), dtype=torch.float32) for part in zip(*batch, strict=True)
        )
        with torch.no_grad():
            next_actions, next_log_pi = actor.get_action(b_next)
            min_next = torch.min(qf1_target(b_next, next_actions), qf2_target(b_next, next_actions))
            next_q = b_rew + (1 - b_done) * gamma * (min_next - alpha * next_log_pi).view(-1)
        qf_loss = F.mse_loss(qf1(b_obs, b_act).view(-1), next_q) + F.mse_loss(
            qf2(b_obs, b_act).view(-1), next_q
        )
        q_optimizer.zero_grad()
        qf_loss.backward()
        q_optimizer.step()

        if global_step % policy_frequency == 0:
            for _ in range(policy_frequency):
                pi, log_pi = actor.get_action(b_obs)
                min_q = torch.min(qf1(b_obs, pi), qf2(b_obs, pi))
                actor_loss = ((alpha * log_pi) - min_q).mean()
                actor_optimizer.zero_grad()
                actor_loss.backward()
                actor_optimizer.step()

                with torch.no_grad():
                    _, log_pi = actor.get_action(b_obs)
                alpha_loss = (-log_alpha.exp() * (log_pi + target_entropy)).mean()
                a_optimizer.zero_grad()
                alpha_loss.backward()
                a_optimizer.step()
                alpha = log_alpha.exp().item()

        for source, target in ((qf1, qf1_target), (qf2, qf2_target)):
            for param, target_param in zip(source.parameters(), target.parameters(), strict=True):
                target_param.data.copy_(tau * param.data + (1 - tau) * target_param.data)

print("end:", alpha, log_alpha.item(), returns, len(replay), obs.tolist())
print(
    "end:", [float(p.detach().double().sum()) for net in (actor, qf1, qf2_target) for p in net.parameters()]
)
print("end:", random.random(), np.random.rand(), torch.rand(1).item(), env.action_space.sample())
