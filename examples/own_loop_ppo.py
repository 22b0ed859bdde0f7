"""Your own training loop: PPO on CartPole in CleanRL's style, with vectorised environments.

What one iteration hands to the next (here the last observations) is kept in the world and not in local
variables: a local variable is lost with its process. Everything else in this file is PPO as anybody writes
it.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python own_loop_ppo.py [--steps 50000]
"""

import argparse
import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import perdure

ENVS, LENGTH, BATCHES, EPOCHS = 4, 128, 4, 4


def mlp(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps of the whole run")
    iterations = max(1, parser.parse_args().steps // (ENVS * LENGTH))

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    same_step = gym.vector.AutoresetMode.SAME_STEP
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * ENVS, autoreset_mode=same_step)
    # Spaces draw from generators of their own, and Gymnasium seeds those differently in every process.
    for space in (
        envs.action_space,
        envs.observation_space,
        envs.single_action_space,
        envs.single_observation_space,
    ):
        space.seed(1)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    agent = nn.ModuleDict({"actor": mlp(2), "critic": mlp(1)})
    actor, critic = agent["actor"], agent["critic"]
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, iterations)

    # What the run consists of. The environments count: they are saved in mid-episode.
    world = perdure.World(envs=envs, agent=agent, optimizer=optimizer, schedule=schedule)
    world.obs, _ = envs.reset(seed=1)

    with perdure.Run("runs/own_loop_ppo") as run:
        for iteration in run.steps(world, iterations, every=5):  # only the iterations that are still to do
            shape = (LENGTH, ENVS)
            obs, actions = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.long)
            logprobs, values, rewards, over = (torch.zeros(shape) for _ in range(4))
            for t in range(LENGTH):
                obs[t] = torch.as_tensor(world.obs)
                with torch.no_grad():
                    distribution = torch.distributions.Categorical(logits=actor(obs[t]))
                    actions[t] = distribution.sample()
                    logprobs[t], values[t] = distribution.log_prob(actions[t]), critic(obs[t])[:, 0]
                world.obs, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
                rewards[t], over[t] = torch.as_tensor(reward), torch.as_tensor(terminated | truncated)

            with torch.no_grad():
                following, last = critic(torch.as_tensor(world.obs))[:, 0], torch.zeros(ENVS)
            advantages = torch.zeros(shape)
            for t in reversed(range(LENGTH)):
                delta = rewards[t] + 0.99 * following * (1 - over[t]) - values[t]
                advantages[t] = last = delta + 0.99 * 0.95 * (1 - over[t]) * last
                following = values[t]

            flat = [x.flatten(0, 1) for x in (obs, actions, logprobs, advantages, advantages + values)]
            for _ in range(EPOCHS):
                for rows in np.array_split(np.random.permutation(LENGTH * ENVS), BATCHES):
                    b_obs, b_actions, b_logprobs, b_advantages, b_returns = (x[rows] for x in flat)
                    distribution = torch.distributions.Categorical(logits=actor(b_obs))
                    ratio = (distribution.log_prob(b_actions) - b_logprobs).exp()
                    gain = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
                    policy_loss = -torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
                    value_loss = (critic(b_obs)[:, 0] - b_returns).pow(2).mean()
                    loss = policy_loss + 0.25 * value_loss - 0.01 * distribution.entropy().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                    optimizer.step()
            schedule.step()

            if envs.return_queue:  # the last 100 returns: the wrapper's, and so in the checkpoints as well
                mean = float(np.mean(envs.return_queue))
                is_best = run.report_score(mean, world, policy=actor)  # runs/own_loop_ppo/policy.pt
                print(
                    f"iteration {iteration}: mean return {mean:.1f}{', the best so far' if is_best else ''}"
                )
        # Started once more after the end, the loop has no iteration left to do, and this is all it says.
        print(f"{iterations} iterations done; the best mean return was {run.best_score}")


if __name__ == "__main__":
    main()
