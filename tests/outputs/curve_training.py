"""A script in CleanRL's style: its directory is named after the moment, and it writes curves, histograms and images.

Usage: curve_training.py WHERE WRITER KILL: WRITER is the module of the SummaryWriter, KILL the round that kills it.
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import perdure

torch.set_num_threads(1)
torch.manual_seed(1)
where = Path(sys.argv[1])
SummaryWriter = importlib.import_module(sys.argv[2]).SummaryWriter
run_name = f"CartPole-v1__curves__1__{time.time_ns()}"
writer = SummaryWriter(str(where / f"files/{run_name}"))
writer.add_text("hyperparameters", "|lr|0.1|")
envs = gym.wrappers.vector.RecordEpisodeStatistics(
    gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
)
policy = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
obs, _ = envs.reset(seed=1)
start_time = time.time()
global_step = 0


def end_of_round(number):
    if number == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


for iteration in perdure.loop(range(1, 31), where / "run", every=4):
    for _ in range(10):
        global_step += 2
        actions = torch.distributions.Categorical(logits=policy(torch.as_tensor(obs))).sample()
        obs, rewards, terminated, truncated, infos = envs.step(actions.numpy())
        if "episode" in infos:
            for place in np.flatnonzero(infos["_episode"]):
                writer.add_scalar("charts/episodic_return", infos["episode"]["r"][place], global_step)
    loss = policy(torch.as_tensor(obs)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    writer.add_scalar("losses/loss", loss.item(), global_step)
    writer.add_histogram("weights", policy.weight.detach().numpy(), global_step)
    writer.add_image("image", torch.full((1, 4, 4), global_step / 700), global_step)
    writer.add_scalar("time/SPS", int(global_step / (time.time() - start_time)), global_step)
    end_of_round(iteration)
envs.close()
writer.close()
