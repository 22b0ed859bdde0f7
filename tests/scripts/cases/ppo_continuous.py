# Continuous PPO with normalised observations and rewards, in a main() with closures and a schedule object.
import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal


def parse():
    from types import SimpleNamespace

    return SimpleNamespace(
        seed=2, num_steps=64, num_updates=12, epochs=3, minibatches=4, gamma=0.98, lam=0.95, clip=0.2
    )


def make_env(gamma):
    env = gym.make("Pendulum-v1", max_episode_steps=50)
    env = gym.wrappers.FlattenObservation(env)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    env = gym.wrappers.ClipAction(env)
    env = gym.wrappers.NormalizeObservation(env)
    env = gym.wrappers.TransformObservation(env, lambda obs: np.clip(obs, -10, 10), env.observation_space)
    env = gym.wrappers.NormalizeReward(env, gamma=gamma)
    return gym.wrappers.TransformReward(env, lambda reward: float(np.clip(reward, -10, 10)))


class Agent(nn.Module):
    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(obs_dim, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor_mean = nn.Sequential(nn.Linear(obs_dim, 32), nn.Tanh(), nn.Linear(32, act_dim))
        self.actor_logstd = nn.Parameter(torch.zeros(1, act_dim))

    def policy(self, obs):
        mean = self.actor_mean(obs)
        return Normal(mean, self.actor_logstd.expand_as(mean).exp())


def main():
    args = parse()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = make_env(args.gamma)
    agent = Agent(env.observation_space.shape[0], env.action_space.shape[0])
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 - update / args.num_updates)
    finished = []
    steps_done = 0

    def note(info):
        nonlocal steps_done
        steps_done += 1
        if "episode" in info:
            finished.append((steps_done, float(info["episode"]["r"]), int(info["episode"]["l"])))

    obs, _ = env.reset(seed=args.seed)
    for update in range(args.num_updates):  # the training loop
        memory = {name: [] for name in ("obs", "act", "logp", "rew", "done", "val")}
        for _ in range(args.num_steps):
            tensor = torch.as_tensor(obs, dtype=torch.float32)[None]
            with torch.no_grad():
                dist = agent.policy(tensor)
                action = dist.sample()
                logp = dist.log_prob(action).sum(1)
                value = agent.critic(tensor)
            new_obs, reward, terminated, truncated, info = env.step(action[0].numpy())
            note(info)
            for name, each in zip(
                memory, (tensor[0], action[0], logp[0], reward, terminated, value[0, 0]), strict=True
            ):
                memory[name].append(each)
            obs = env.reset()[0] if terminated or truncated else new_obs
        with torch.no_grad():
            next_value = agent.critic(torch.as_tensor(obs, dtype=torch.float32)[None])[0, 0]
        advantages, last = np.zeros(args.num_steps, np.float32), 0.0
        for t in range(args.num_steps - 1, -1, -1):
            mask = 1.0 - memory["done"][t]
            delta = memory["rew"][t] + args.gamma * next_value * mask - memory["val"][t]
            last = float(delta + args.gamma * args.lam * mask * last)
            advantages[t], next_value = last, memory["val"][t]
        b_obs, b_act = torch.stack(memory["obs"]), torch.stack(memory["act"])
        b_logp, b_val = torch.stack(memory["logp"]), torch.stack(memory["val"])
        b_adv = torch.as_tensor(advantages)
        b_ret = b_adv + b_val
        for _ in range(args.epochs):
            for index in np.array_split(np.random.permutation(args.num_steps), args.minibatches):
                dist = agent.policy(b_obs[index])
                ratio = (dist.log_prob(b_act[index]).sum(1) - b_logp[index]).exp()
                adv = (b_adv[index] - b_adv[index].mean()) / (b_adv[index].std() + 1e-8)
                clipped = torch.clamp(ratio, 1 - args.clip, 1 + args.clip)
                value_loss = (agent.critic(b_obs[index])[:, 0] - b_ret[index]).pow(2).mean()
                loss = -torch.min(ratio * adv, clipped * adv).mean() + 0.5 * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        scheduler.step()
    print("end:", [float(p.detach().double().sum()) for p in agent.parameters()])
    print("end:", finished, steps_done, optimizer.param_groups[0]["lr"], obs.tolist(), loss.item())
    print("end:", np.random.rand(), torch.rand(1).item(), env.get_wrapper_attr("return_rms").mean)


if __name__ == "__main__":
    main()
