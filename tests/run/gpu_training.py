"""A small training on an accelerator: `python gpu_training.py DEVICE DIRECTORY [KILLED_AT]`."""

from __future__ import annotations

import os
import random
import signal
import sys

import numpy as np
import torch
from torch import nn

import perdure

STEPS = 40


def main() -> None:
    device, directory, *killed_at = sys.argv[1:]
    torch.use_deterministic_algorithms(True)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    agent = nn.Sequential(nn.Linear(64, 512), nn.Tanh(), nn.Linear(512, 1)).to(device)
    world = perdure.World(
        agent=agent,
        optimizer=torch.optim.Adam(agent.parameters(), lr=1e-3),
        # A view in another order, and a buffer of a few megabytes: what is copied on a stream of its own.
        turned=torch.zeros(300, 200, device=device).t(),
        buffer=torch.zeros(20_000, 64, device=device),
    )
    with perdure.Run(directory) as run:
        for step in run.steps(world, STEPS, every=4):
            batch = torch.randn(256, 64, device=device)
            world.buffer[step * 256 : (step + 1) * 256] = batch
            world.turned += batch[:200, :1]
            rows = torch.randint(0, (step + 1) * 256, (128,), device=device)
            loss = (world.agent(world.buffer[rows]) - batch[:128].sum(1, keepdim=True)).square().mean()
            world.optimizer.zero_grad()
            loss.backward()
            world.optimizer.step()
            if step in map(int, killed_at):
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
