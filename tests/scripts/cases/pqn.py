# PQN: parallel environments, no replay buffer, Q(lambda) returns, layer norms; typed, with a dataclass and a main(args).
from __future__ import annotations

import random
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn


@dataclass
class Args:
    seed: int = 1
    num_envs: int = 3
    num_steps: int = 16
    total_timesteps: int = 960
    lr: float = 1e-3
    gamma: float = 0.99
    q_lambda: float = 0.65
    layers: list[int] = field(default_factory=lambda: [32])
    batch_size: int = 0
    num_iterations: int = 0


def make_q(args: Args) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, args.layers[0]), nn.LayerNorm(args.layers[0]), nn.ReLU(), nn.Linear(args.layers[0], 2)
    )


def main(args: Args) -> dict[str, float]:
    args.batch_size = args.num_envs * args.num_steps
    args.num_iterations = args.total_timesteps // args.batch_size
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    envs = gym.make_vec("CartPole-v1", num_envs=args.num_envs, vectorization_mode="sync")
    envs.action_space.seed(args.seed)
    q_network = make_q(args)
    optimizer = torch.optim.RAdam(q_network.parameters(), lr=args.lr)

    obs = torch.zeros((args.num_steps, args.num_envs, 4))
    actions = torch.zeros((args.num_steps, args.num_envs), dtype=torch.long)
    rewards, dones, values = torch.zeros((3, args.num_steps, args.num_envs))
    global_step: int = 0
    avg: dict[str, float] = {"length": 0.0, "loss": 0.0}
    lengths: np.ndarray = np.zeros(args.num_envs)
    next_obs: Tensor = torch.as_tensor(envs.reset(seed=args.seed)[0])
    next_done: Tensor = torch.zeros(args.num_envs)

    for iteration in range(1, args.num_iterations + 1):  # the training loop
        optimizer.param_groups[0]["lr"] = (1.0 - (iteration - 1.0) / args.num_iterations) * args.lr
        for step in range(0, args.num_steps):
            global_step += args.num_envs
            obs[step], dones[step] = next_obs, next_done
            epsilon = max(0.05, 1 - global_step / (0.5 * args.total_timesteps))
            random_actions = torch.randint(0, 2, (args.num_envs,))
            with torch.no_grad():
                q_values = q_network(next_obs)
                max_actions = torch.argmax(q_values, dim=1)
                values[step] = q_values[torch.arange(args.num_envs), max_actions]
            explore = torch.rand((args.num_envs,)) < epsilon
            actions[step] = torch.where(explore, random_actions, max_actions)
            raw, reward, terminations, truncations, _ = envs.step(actions[step].numpy())
            lengths += 1
            over = terminations | truncations
            if over.any():
                avg["length"] = 0.9 * avg["length"] + 0.1 * float(lengths[over].mean())
                lengths[over] = 0
            rewards[step] = torch.as_tensor(reward)
            next_obs, next_done = torch.as_tensor(raw), torch.as_tensor(over, dtype=torch.float32)
        with torch.no_grad():
            returns = torch.zeros_like(rewards)
            for t in reversed(range(args.num_steps)):
                if t == args.num_steps - 1:
                    next_value = torch.max(q_network(next_obs), dim=-1)[0]
                    returns[t] = rewards[t] + args.gamma * next_value * (1.0 - next_done)
                else:
                    nonterminal = 1.0 - dones[t + 1]
                    returns[t] = rewards[t] + args.gamma * nonterminal * (
                        args.q_lambda * returns[t + 1] + (1 - args.q_lambda) * values[t + 1]
                    )
        b_obs, b_actions, b_returns = obs.reshape(-1, 4), actions.reshape(-1), returns.reshape(-1)
        for epoch in range(2):
            for mb in np.split(np.random.permutation(args.batch_size), 4):
                old_val = q_network(b_obs[mb]).gather(1, b_actions[mb].unsqueeze(-1)).squeeze()
                loss = nn.functional.mse_loss(b_returns[mb], old_val)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(q_network.parameters(), 10.0)
                optimizer.step()
        avg["loss"] += 0.1 * (loss.item() - avg["loss"])
    envs.close()
    print(
        "end:",
        [float(p.detach().double().sum()) for p in q_network.parameters()],
        global_step,
        lengths.tolist(),
    )
    print("end:", next_obs.tolist(), random.random(), np.random.rand(), torch.rand(1).item())
    return avg


if __name__ == "__main__":
    print("end:", main(Args()))
