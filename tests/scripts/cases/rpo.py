# RPO: PPO whose mean is perturbed; a scheduler of the learning rate by hand, a warm-up before the loop, an evaluation after it.
import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal, Uniform

torch.manual_seed(12)
np.random.seed(12)
RPO_ALPHA = 0.5
env = gym.make("Pendulum-v1", max_episode_steps=40)
env.action_space.seed(12)


class RunningMeanStd:
    def __init__(self):
        self.mean, self.var, self.count = np.zeros(3), np.ones(3), 1e-4

    def update(self, x):
        delta, total = x - self.mean, self.count + 1
        self.mean = self.mean + delta / total
        self.var = (self.var * self.count + delta**2 * self.count / total) / total
        self.count = total

    def __call__(self, x):
        return torch.as_tensor((x - self.mean) / np.sqrt(self.var + 1e-8), dtype=torch.float32)


normalize = RunningMeanStd()
actor = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
critic = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
log_std = nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters(), log_std], lr=1e-3)

obs, _ = env.reset(seed=12)
for _ in range(60):  # a phase
    obs, _, _, truncated, _ = env.step(env.action_space.sample())
    normalize.update(obs)
    if truncated:
        obs, _ = env.reset()

scores, score = [], 0.0
for update in range(1, 11):  # the training loop
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * (1 - (update - 1) / 10)
    rollout = []
    for _ in range(50):
        x = normalize(obs)
        with torch.no_grad():
            dist = Normal(actor(x), log_std.exp())
            action = dist.sample()
        new_obs, reward, terminated, truncated, _ = env.step(action.numpy().clip(-2, 2))
        rollout.append((x, action, dist.log_prob(action), reward / 10, float(truncated), critic(x).item()))
        normalize.update(new_obs)
        score += reward
        obs = new_obs
        if truncated:
            scores.append(score)
            score, (obs, _) = 0.0, env.reset()
    xs, actions, logps = (torch.stack(part) for part in list(zip(*rollout))[:3])
    returns, future = [], critic(normalize(obs)).item()
    for *_, reward, over, _ in reversed(rollout):
        future = reward + 0.95 * future * (1 - over)
        returns.append(future)
    returns = torch.tensor(returns[::-1])
    advantages = returns - torch.tensor([each[-1] for each in rollout])
    for epoch in range(4):
        mean = actor(xs)
        mean = mean + Uniform(-RPO_ALPHA, RPO_ALPHA).sample(mean.shape)
        ratio = (Normal(mean, log_std.exp()).log_prob(actions) - logps).exp()[:, 0]
        loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        loss = loss + 0.5 * (critic(xs)[:, 0] - returns).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

evaluation = []
for episode in range(2):
    obs, _ = env.reset()
    done, total = False, 0.0
    while not done:
        with torch.no_grad():
            obs, reward, _, done, _ = env.step(actor(normalize(obs)).numpy().clip(-2, 2))
        total += reward
    evaluation.append(total)
print("end:", scores, evaluation, loss.item(), log_std.item(), normalize.count, normalize.mean.tolist())
print(
    "end:",
    [float(p.detach().double().sum()) for p in actor.parameters()],
    np.random.rand(),
    torch.rand(1).item(),
)
