"""Replay buffers of TorchRL in use, as a program: `python torchrl_buffers.py DIRECTORY STEPS KIND...`.

Each kind has a run of its own in DIRECTORY, which goes on until STEPS steps are done. What its samples were is added up
in its world, and printed at the end.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import warnings
from pathlib import Path

from torchrl_trees import TREES

# isort: split
import logging

import torch
from tensordict import TensorDict, tensorclass
from torchrl.data import (
    LazyMemmapStorage,
    LazyTensorStorage,
    ListStorage,
    ReplayBuffer,
    TensorDictMaxValueWriter,
    TensorDictReplayBuffer,
    TensorDictRoundRobinWriter,
)
from torchrl.data.replay_buffers import RoundRobinWriter
from torchrl.data.replay_buffers.samplers import (
    PrioritizedSampler,
    PrioritizedSliceSampler,
    RandomSampler,
    SamplerWithoutReplacement,
    SliceSampler,
    SliceSamplerWithoutReplacement,
)

import perdure
from perdure.errors import PerdureWarning

logging.disable(logging.INFO)
ROWS = 60


@tensorclass
class Transition:
    obs: torch.Tensor
    reward: torch.Tensor


perdure.state.rebuildable(Transition)


def tensordict(n, g):
    done = torch.rand(n, 1, generator=g) < 0.2
    return TensorDict(
        {
            "obs": torch.randn(n, 3, generator=g),
            "episode": torch.randint(0, 4, (n,), generator=g).sort().values,
            "next": {
                "obs": torch.randn(n, 3, generator=g),
                "reward": torch.randn(n, 1, generator=g),
                "done": done,
            },
        },
        [n],
    )


def wide(n, g):
    # Three environments, n steps of each.
    return TensorDict(
        {"obs": torch.randn(3, n, 5, generator=g), "deep": {"x": torch.randn(3, n, generator=g)}}, [3, n]
    )


def tensor(n, g):
    return torch.randn(n, 4, generator=g)


def pytree(n, g):
    return {
        "obs": torch.randn(n, 3, generator=g),
        "pair": (torch.randn(n, generator=g), torch.randn(n, 2, generator=g)),
    }


def transitions(n, g):
    return Transition(obs=torch.randn(n, 3, generator=g), reward=torch.randn(n, generator=g), batch_size=[n])


def scratch():
    return tempfile.mkdtemp() + "/rows"


def buffer(storage, sampler=None, writer=None, kind=TensorDictReplayBuffer, batch_size=4, **options):
    return kind(
        storage=storage, sampler=sampler or RandomSampler(), writer=writer or TensorDictRoundRobinWriter(),
        batch_size=batch_size, generator=torch.Generator().manual_seed(5), **options,
    )  # fmt: skip


def plain(storage, sampler=None):
    return buffer(storage, sampler, RoundRobinWriter(), ReplayBuffer)


KINDS = {
    "tensor-random": (lambda: buffer(LazyTensorStorage(ROWS)), tensordict),
    "tensor-without": (lambda: buffer(LazyTensorStorage(ROWS), SamplerWithoutReplacement()), tensordict),
    "tensor-wide": (lambda: plain(LazyTensorStorage(3 * ROWS, ndim=2)), wide),
    "tensor-plain": (lambda: plain(LazyTensorStorage(ROWS)), tensor),
    "tensor-pytree": (lambda: plain(LazyTensorStorage(ROWS)), pytree),
    "tensor-class": (lambda: plain(LazyTensorStorage(ROWS)), transitions),
    "tensor-slices": (
        lambda: buffer(LazyTensorStorage(ROWS), SliceSampler(slice_len=2, traj_key="episode", strict_length=False)),
        tensordict,
    ),
    "tensor-slices-without": (
        lambda: buffer(
            LazyTensorStorage(ROWS),
            SliceSamplerWithoutReplacement(slice_len=2, traj_key="episode", strict_length=False),
        ),
        tensordict,
    ),
    "tensor-best": (
        lambda: buffer(LazyTensorStorage(ROWS), writer=TensorDictMaxValueWriter(rank_key=("next", "reward"))),
        tensordict,
    ),
    "tensor-generations": (
        lambda: buffer(LazyTensorStorage(ROWS), writer=TensorDictRoundRobinWriter(track_generations=True)),
        tensordict,
    ),
    "tensor-compilable": (
        lambda: buffer(
            LazyTensorStorage(ROWS, compilable=True), writer=TensorDictRoundRobinWriter(compilable=True),
            compilable=True,
        ),
        tensordict,
    ),
    "memmap-random": (lambda: buffer(LazyMemmapStorage(ROWS)), tensordict),
    "memmap-without": (lambda: buffer(LazyMemmapStorage(ROWS), SamplerWithoutReplacement()), tensordict),
    "memmap-scratch": (lambda: buffer(LazyMemmapStorage(ROWS, scratch_dir=scratch())), tensordict),
    "memmap-wide": (lambda: plain(LazyMemmapStorage(3 * ROWS, ndim=2)), wide),
    "memmap-plain": (lambda: plain(LazyMemmapStorage(ROWS)), tensor),
    "memmap-pytree": (lambda: plain(LazyMemmapStorage(ROWS, scratch_dir=scratch())), pytree),
    "memmap-class": (lambda: plain(LazyMemmapStorage(ROWS)), transitions),
    "list": (lambda: buffer(ListStorage(ROWS)), tensordict),
    "list-without": (lambda: buffer(ListStorage(ROWS), SamplerWithoutReplacement()), tensordict),
}  # fmt: skip
PRIORITIZED = {
    "prioritized": (lambda: buffer(LazyTensorStorage(ROWS), PrioritizedSampler(ROWS, 0.7, 0.5)), tensordict),
    "prioritized-within": (
        lambda: buffer(
            LazyTensorStorage(ROWS),
            PrioritizedSampler(ROWS, 0.7, 0.5, max_priority_within_buffer=True),
        ),
        tensordict,
    ),
    "prioritized-memmap": (
        lambda: buffer(LazyMemmapStorage(ROWS), PrioritizedSampler(ROWS, 0.7, 0.5)),
        tensordict,
    ),
    "prioritized-slices": (
        lambda: buffer(
            LazyTensorStorage(ROWS),
            PrioritizedSliceSampler(ROWS, 0.7, 0.5, slice_len=2, traj_key="episode", strict_length=False),
        ),
        tensordict,
    ),
}
if TREES:
    KINDS |= PRIORITIZED


class Feed:
    """Writes random rows into a buffer, and samples from it."""

    rows = ROWS

    def __init__(self, rb, rows_of, generator, draw):
        self.rb, self.rows_of, self.generator, self.draw = rb, rows_of, generator, draw

    def write(self, count):
        rows = self.rows_of(count, self.generator)
        if isinstance(self.rb._writer, TensorDictMaxValueWriter):
            rows = rows[:ROWS]
        if count == 1 and self.rows_of is tensordict:
            self.rb.add(rows[0])
        else:
            self.rb.extend(rows)

    def sample(self):
        if not len(self.rb):
            return None
        sample, info = self.rb.sample(return_info=True)
        if isinstance(self.rb._sampler, PrioritizedSampler):
            index = info["index"]
            count = len(index[0]) if isinstance(index, tuple) else len(index)
            self.rb.update_priority(index, torch.rand(count, generator=self.generator) + 0.01)
        return sample

    def reset(self):
        self.rb.empty()

    def overwrite(self):
        """Write beside the cursor."""
        if (
            len(self.rb)
            and self.rows_of is tensordict
            and type(self.rb._writer) is TensorDictRoundRobinWriter
        ):
            index = self.draw.randrange(len(self.rb))
            self.rb._storage[index] = self.rb._storage[index].apply(
                lambda x: x + 1 if x.is_floating_point() else x
            )


def digest(value):
    if isinstance(value, torch.Tensor):
        return [value.numpy().tobytes()]
    if isinstance(value, dict):
        return [part for key in sorted(value) for part in digest(value[key])]
    if isinstance(value, list | tuple):
        return [part for child in value for part in digest(child)]
    return digest(value.to_dict())


def go(kind, directory, steps):
    make, rows_of = KINDS[kind]
    torch.manual_seed(1)
    world = perdure.World(
        buffer=make(), draw=random.Random(kind), generator=torch.Generator().manual_seed(2), seen=""
    )
    feed = Feed(world.buffer, rows_of, world.generator, world.draw)
    with perdure.Run(Path(directory) / kind) as run:
        for _ in run.steps(world, steps, every=3):
            what = world.draw.random()
            if what < 0.05:
                feed.reset()
            elif what < 0.1:
                feed.overwrite()
            feed.write(world.draw.choice([1, 1, 2, 3, 7, ROWS + 3]))
            sample = feed.sample()
            hashed = hashlib.sha256(world.seen.encode())
            for part in digest(sample):
                hashed.update(part)
            world.seen = hashed.hexdigest()
    print(kind, world.seen, torch.rand(()).item())


if __name__ == "__main__":
    warnings.simplefilter("error", PerdureWarning)
    torch.set_num_threads(1)
    # Rows that were never written hold what memory held, which is something else in each process; so it is filled.
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[3:]:
        go(name, sys.argv[1], int(sys.argv[2]))
