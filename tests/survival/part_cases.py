"""Loops whose world holds unusual parts: `python part_cases.py NAME DIRECTORY`. A step may be the last."""

import random
import sys

import numpy as np
import torch
from fuse import burn
from tianshou.data import Batch, CachedReplayBuffer, ReplayBuffer, ReplayBufferManager, VectorReplayBuffer

import perdure


def transition(step, count=4):
    """What a collector adds, with columns of Python objects, as PettingZoo's environments have them."""
    done = np.random.random(count) < 0.2
    agents = np.array([f"player_{np.random.randint(3)}" for _ in range(count)], object)
    view = Batch(agent_id=agents, obs=np.random.normal(size=(count, 3)), mask=np.ones((count, 2), bool))
    who = np.array([{"step": step, "env": env} if env else None for env in range(count)], object)
    return Batch(
        obs=view, act=np.random.randint(0, 9, count), rew=np.random.normal(size=count), terminated=done,
        truncated=np.zeros(count, bool), obs_next=view, info=Batch(who=who),
    )  # fmt: skip


def buffers(run):
    made = {
        "vector": VectorReplayBuffer(40, 4),
        "manager": ReplayBufferManager([ReplayBuffer(10) for _ in range(4)]),
        "cached": CachedReplayBuffer(ReplayBuffer(40), 4, 7),
        "filled": VectorReplayBuffer(40, 4),
    }
    made["filled"].add(transition(-1), buffer_ids=np.arange(4))
    world = perdure.World(buffers=made, seen=[])
    for step in run.steps(world, 60, every=7):
        for name, buffer in made.items():
            buffer.add(transition(step), buffer_ids=np.arange(4))
            if step > 5:
                batch, _ = buffer.sample(6)
                found = [each if each is None else dict(each) for each in batch.info.who]
                world.seen.append((name, batch.obs.agent_id.tolist(), found))
        burn()
    return world


def main() -> None:
    name, directory = sys.argv[1:3]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    globals()[name](perdure.Run(directory))


if __name__ == "__main__":
    main()
