# Vanilla policy gradient as in Spinning Up: train() with a nested train_one_epoch() that is called from the loop.
import gymnasium as gym
import numpy as np
import torch
import torch.nn as nn
from torch.distributions.categorical import Categorical
from torch.optim import Adam


def mlp(sizes, activation=nn.Tanh, output_activation=nn.Identity):
    layers = []
    for j in range(len(sizes) - 1):
        act = activation if j < len(sizes) - 2 else output_activation
        layers += [nn.Linear(sizes[j], sizes[j + 1]), act()]
    return nn.Sequential(*layers)


def train(env_name="CartPole-v1", hidden_sizes=[32], lr=1e-2, epochs=10, batch_size=150):
    env = gym.make(env_name)
    env.reset(seed=31)
    obs_dim = env.observation_space.shape[0]
    n_acts = env.action_space.n
    logits_net = mlp(sizes=[obs_dim] + hidden_sizes + [n_acts])
    total_episodes = 0

    def get_policy(obs):
        return Categorical(logits=logits_net(obs))

    def get_action(obs):
        return get_policy(obs).sample().item()

    def compute_loss(obs, act, weights):
        return -(get_policy(obs).log_prob(act) * weights).mean()

    optimizer = Adam(logits_net.parameters(), lr=lr)

    def train_one_epoch():
        nonlocal total_episodes
        batch_obs, batch_acts, batch_weights, batch_rets, batch_lens = [], [], [], [], []
        obs, _ = env.reset()
        done = False
        ep_rews = []
        while True:
            batch_obs.append(obs.copy())
            act = get_action(torch.as_tensor(obs, dtype=torch.float32))
            obs, rew, terminated, truncated, _ = env.step(act)
            done = terminated or truncated
            batch_acts.append(act)
            ep_rews.append(rew)
            if done:
                ep_ret, ep_len = sum(ep_rews), len(ep_rews)
                batch_rets.append(ep_ret)
                batch_lens.append(ep_len)
                batch_weights += [ep_ret] * ep_len
                (obs, _), done, ep_rews = env.reset(), False, []
                total_episodes += 1
                if len(batch_obs) > batch_size:
                    break
        optimizer.zero_grad()
        batch_loss = compute_loss(
            obs=torch.as_tensor(np.array(batch_obs), dtype=torch.float32),
            act=torch.as_tensor(batch_acts, dtype=torch.int32),
            weights=torch.as_tensor(batch_weights, dtype=torch.float32),
        )
        batch_loss.backward()
        optimizer.step()
        return batch_loss.item(), batch_rets, batch_lens

    for i in range(epochs):  # the training loop
        batch_loss, batch_rets, batch_lens = train_one_epoch()
        print(f"epoch: {i:3d} \t loss: {batch_loss:.3f} \t return: {np.mean(batch_rets):.3f}")
    return logits_net, total_episodes, batch_loss, batch_rets


if __name__ == "__main__":
    torch.manual_seed(31)
    net, episodes, loss, returns = train()
    print("end:", episodes, loss, returns, [float(p.detach().double().sum()) for p in net.parameters()])
    print("end:", torch.rand(1).item())
