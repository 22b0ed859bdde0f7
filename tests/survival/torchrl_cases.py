"""A hand-written DQN with a replay buffer of TorchRL: `python torchrl_cases.py NAME DIRECTORY [plain]`."""

import logging
import random
import sys

import numpy as np
import torch
from fuse import make
from tensordict import TensorDict
from torch import nn
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.replay_buffers.samplers import PrioritizedSampler, RandomSampler, SamplerWithoutReplacement

import perdure

logging.disable(logging.INFO)
BUFFERS = {
    "tensor": lambda: (LazyTensorStorage(150), RandomSampler()),
    "memmap": lambda: (LazyMemmapStorage(150), SamplerWithoutReplacement()),
    "prioritized": lambda: (LazyTensorStorage(150), PrioritizedSampler(150, 0.7, 0.5)),
}


def dqn(steps, buffer):
    storage, sampler = BUFFERS[buffer]()
    env = make("CartPole-v1")()
    q = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    world = perdure.World(
        agent=q,
        optimizer=torch.optim.Adam(q.parameters(), lr=1e-3),
        env=env,
        buffer=TensorDictReplayBuffer(
            storage=storage, sampler=sampler, batch_size=16, generator=torch.Generator().manual_seed(3)
        ),
    )
    env.action_space.seed(1)
    world.obs, _ = env.reset(seed=1)
    for step in steps(world, 400):
        with torch.no_grad():
            action = int(q(torch.as_tensor(world.obs)).argmax())
        if random.random() < max(0.05, 1 - step / 200):
            action = int(env.action_space.sample())
        following, reward, done, truncated, _ = env.step(action)
        transition = {
            "obs": torch.as_tensor(world.obs),
            "action": torch.tensor(action),
            "next": {
                "obs": torch.as_tensor(following),
                "reward": torch.tensor(reward, dtype=torch.float32),
                "done": torch.tensor(done, dtype=torch.float32),
            },
        }
        world.buffer.add(TensorDict(transition, []))
        world.obs = env.reset()[0] if done or truncated else following
        if step > 20 and step % 2 == 0:
            batch = world.buffer.sample()
            with torch.no_grad():
                best = q(batch["next", "obs"]).max(1).values
                goal = batch["next", "reward"] + 0.99 * best * (1 - batch["next", "done"])
            error = q(batch["obs"]).gather(1, batch["action"][:, None])[:, 0] - goal
            if buffer == "prioritized":
                world.buffer.update_priority(batch["index"], error.detach().abs())
            loss = error.square().mean()
            world.optimizer.zero_grad()
            loss.backward()
            world.optimizer.step()
        yield world


def main() -> None:
    name, directory = sys.argv[1:3]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    run = perdure.Run(directory)
    for _ in dqn(lambda world, total: run.steps(world, total, every=40), name):
        pass


if __name__ == "__main__":
    main()
