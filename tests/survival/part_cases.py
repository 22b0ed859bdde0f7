"""Loops whose world holds unusual parts: `python part_cases.py NAME DIRECTORY`. A step may be the last."""

import itertools
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


class Curriculum:
    """Tasks in an order, as users write it with iterators."""

    def __init__(self):
        self.tasks = [{"name": f"task {number}", "runs": 0} for number in range(5)]
        self.settings = {"lr": 0.1, "decay": 0.9, "noise": 0.2}
        self.ids = itertools.count(100)
        self.numbered = enumerate(zip(itertools.cycle(self.tasks), self.ids, strict=False))
        self.grid = itertools.product([0.1, 0.2, 0.3], "abcdefgh", self.tasks)
        self.names = itertools.cycle(self.settings)
        self.pairs = itertools.pairwise(itertools.chain(self.tasks, itertools.repeat(None)))
        self.waiting = iter(self.tasks)
        self.now = {self.numbered}
        self.rolling = itertools.accumulate(map(float, itertools.count()), max)


def iterators(run):
    world = perdure.World(plan=Curriculum(), seen=[], order=None)
    plan = world.plan
    for step in run.steps(world, 60, every=7):
        if step % 9 == 0:
            world.order = iter(np.random.permutation(4).tolist())
            plan.tasks.append({"name": f"new at {step}", "runs": 0})
        number, (task, name) = next(plan.numbered)
        task["runs"] += 1
        found = next(plan.waiting, {"runs": "none"})["runs"]
        pair = [each and each["name"] for each in next(plan.pairs)]
        world.seen.append(
            (number, name, next(plan.names), str(next(plan.grid)), found, pair, next(plan.rolling))
        )
        world.seen.append(next(world.order, "all"))
        assert plan.numbered in plan.now
        burn()
    return world


class Reservoir:
    """Offers Perdure's protocol and imports nothing of it."""

    def __init__(self):
        self.rows = np.zeros((8, 2))
        self.count = 0
        self._locked = (number for number in range(3))

    def add(self, row):
        self.rows[self.count % 8] = row
        self.count += 1

    def __perdure_state__(self):
        return {"rows": self.rows, "count": self.count}

    def __perdure_restore__(self, state):
        self.rows, self.count = state["rows"], state["count"]
        self._locked = (number for number in range(3))


def loaders(run):
    inputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    rows = torch.utils.data.TensorDataset(inputs, inputs.sum(1))
    first, second = torch.utils.data.random_split(rows, [30, 20])
    weights = [1.0 + number % 3 for number in range(20)]
    world = perdure.World(
        net=torch.nn.Linear(3, 1),
        shuffled=torch.utils.data.DataLoader(
            first, 4, shuffle=True, generator=torch.Generator().manual_seed(2)
        ),
        weighted=torch.utils.data.DataLoader(
            second, 3, sampler=torch.utils.data.WeightedRandomSampler(weights, 20), drop_last=True
        ),
        seen=[],
        reservoirs=[Reservoir()],
    )
    world.optimizer = torch.optim.Adam(world.net.parameters())
    world.batches = {"shuffled": iter(world.shuffled), "weighted": iter(world.weighted)}
    for step in run.steps(world, 60, every=7):
        for name in world.batches:
            try:
                x, y = next(world.batches[name])
            except StopIteration:
                world.batches[name] = iter(getattr(world, name))
                x, y = next(world.batches[name])
            loss = torch.nn.functional.mse_loss(world.net(x + 0.01 * torch.randn(x.shape)).squeeze(1), y)
            world.optimizer.zero_grad()
            loss.backward()
            world.optimizer.step()
            world.seen.append((name, x.sum().item()))
        world.reservoirs[-1].add(x[0, :2].numpy())
        if step % 20 == 0:
            world.reservoirs.append(Reservoir())
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
