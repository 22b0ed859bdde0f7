"""A DataLoader's iterator goes on with the batches that it would have given."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from state_support import transported
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

import perdure
from perdure import errors
from perdure.state import capture, restore

COUNT = 23


def numbers() -> TensorDataset:
    return TensorDataset(torch.arange(COUNT), torch.arange(COUNT) * 0.5)


class Noisy(Dataset[Any]):
    """Draws from the generators for each item, between the draws of the sampler."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Any:
        return index + random.random() + float(np.random.random()) + float(torch.rand(()))


class Listed(Dataset[Any]):
    """A map-style data set of Python objects."""

    def __init__(self) -> None:
        self.rows = [{"text": f"row {index}", "number": index} for index in range(COUNT)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index] if isinstance(index, int) else index


class Pieces:
    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> int:
        if self.at >= COUNT:
            raise StopIteration
        self.at += 1
        return self.at


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        return Pieces()


class Generated(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        yield from range(COUNT)


class Shuffled(Sampler[int]):
    """A user's sampler that returns an iterator over all its indices."""

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.permutation(COUNT).tolist())

    def __len__(self) -> int:
        return COUNT


class Yielding(Shuffled):
    def __iter__(self) -> Iterator[int]:
        yield from np.random.permutation(COUNT).tolist()


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def split() -> Any:
    parts = random_split(numbers(), [15, 8], generator=seeded())
    return ConcatDataset([parts[1], parts[0]])


CASES: dict[str, Callable[[], DataLoader[Any]]] = {
    "in order": lambda: DataLoader(numbers(), batch_size=4),
    "shuffled": lambda: DataLoader(numbers(), batch_size=4, shuffle=True),
    "the last dropped": lambda: DataLoader(numbers(), batch_size=4, shuffle=True, drop_last=True),
    "a generator": lambda: DataLoader(numbers(), batch_size=4, shuffle=True, generator=seeded()),
    "one by one": lambda: DataLoader(numbers(), batch_size=None, shuffle=True),
    "with replacement": lambda: DataLoader(
        numbers(), batch_size=7, sampler=RandomSampler(range(COUNT), True, num_samples=75)
    ),
    "with replacement and a generator": lambda: DataLoader(
        numbers(), batch_size=7, sampler=RandomSampler(range(COUNT), True, 64, seeded())
    ),
    "more than once": lambda: DataLoader(
        numbers(), batch_size=7, sampler=RandomSampler(range(COUNT), num_samples=60, generator=seeded())
    ),
    "exactly twice": lambda: DataLoader(
        numbers(), batch_size=7, sampler=RandomSampler(range(COUNT), num_samples=46)
    ),
    "fewer": lambda: DataLoader(numbers(), batch_size=2, sampler=RandomSampler(range(COUNT), num_samples=9)),
    "a subset": lambda: DataLoader(numbers(), batch_size=3, sampler=SubsetRandomSampler(range(3, 20))),
    "weighted": lambda: DataLoader(
        numbers(), batch_size=3, sampler=WeightedRandomSampler([0.1, 0.9, 0.4] * 7, 20)
    ),
    "batches of its own": lambda: DataLoader(
        numbers(), batch_sampler=BatchSampler(SubsetRandomSampler(list(range(20))), 3, True)
    ),
    "batches in batches": lambda: DataLoader(
        Listed(),
        batch_size=None,
        sampler=BatchSampler(BatchSampler(SequentialSampler(range(COUNT)), 2, False), 2, False),  # type: ignore[arg-type]
        collate_fn=str,
    ),
    "distributed": lambda: DataLoader(
        numbers(),
        batch_size=3,
        sampler=DistributedSampler(range(COUNT), 2, 1, seed=5),  # type: ignore[arg-type]
    ),
    "parts of parts": lambda: DataLoader(split(), batch_size=4, shuffle=True),
    "noisy": lambda: DataLoader(Noisy(), batch_size=4, shuffle=True, generator=seeded()),
    "objects": lambda: DataLoader(Listed(), batch_size=4, shuffle=True),
    "a stream": lambda: DataLoader(Stream(), batch_size=4),
    "a stream without batches": lambda: DataLoader(Stream(), batch_size=None),
    "a user's sampler": lambda: DataLoader(numbers(), batch_size=4, sampler=Shuffled()),
}


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_the_end(world: Any) -> list[str]:
    """The rest of this epoch, the whole next one, and what the generators draw then."""
    found = [str(batch) for batch in world.batches]
    found += [str(batch) for batch in world.loader]
    return [*found, str(random.random()), str(np.random.random()), str(torch.rand(()))]


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_with_the_same_batches(case: str) -> None:
    ends = []
    for steps in (0, 1, 2, 5, 100):
        seed_all(1)
        loader = CASES[case]()
        ours = perdure.World(loader=loader, batches=iter(loader))
        for _ in range(steps):
            next(ours.batches, None)
        state = transported(capture(ours))
        expected = to_the_end(ours)
        seed_all(2)
        loader = CASES[case]()
        theirs = perdure.World(loader=loader, batches=iter(loader))
        script = theirs.batches
        if steps % 2:
            next(theirs.batches)
        assert restore(state, theirs).exact
        assert theirs.batches is script
        # Once more, as the next checkpoint would be: a resumed sampler can be captured too.
        again = transported(capture(theirs))
        assert to_the_end(theirs) == expected
        loader = CASES[case]()
        third = perdure.World(loader=loader, batches=iter(loader))
        assert restore(again, third).exact
        assert to_the_end(third) == expected
        ends.append(len(expected))
    assert len(set(ends)) > 1


def test_an_iterator_of_an_iterator() -> None:
    def build() -> perdure.World:
        loader = DataLoader(numbers(), batch_size=4, shuffle=True)
        return perdure.World(loader=loader, numbered=enumerate(loader))

    seed_all(1)
    ours = build()
    next(ours.numbered)
    state = transported(capture(ours))
    expected = str(list(ours.numbered))
    theirs = build()
    restore(state, theirs)
    assert str(list(theirs.numbered)) == expected


@pytest.mark.parametrize(
    "make",
    [
        RandomSampler,
        SubsetRandomSampler,
        SequentialSampler,
        lambda n: BatchSampler(RandomSampler(n), 3, False),
    ],
    ids=["random", "subset", "sequential", "batches"],
)
def test_a_samplers_own_iterator(make: Any) -> None:
    for steps in (0, 1, 4, 99):
        seed_all(1)
        sampler = make(range(10))
        it = iter(sampler)
        for _ in range(steps):
            next(it, None)
        state = transported(capture({"it": it, "sampler": sampler}))
        expected = str(list(it)), str(torch.rand(()))
        for live in (None, iter(make(range(10)))):
            world = {"it": live, "sampler": make(range(10))}
            restore(state, world)
            assert (str(list(world["it"])), str(torch.rand(()))) == expected


# -- what is refused, and the remedies -------------------------------------------------------------------------


def test_a_sampler_that_yields_is_refused_and_the_remedy_works() -> None:
    batches = iter(DataLoader(numbers(), batch_size=4, sampler=Yielding()))
    next(batches)
    with pytest.raises(errors.CaptureError, match=r"return iter\(torch.randperm\(n\).tolist\(\)\)"):
        capture({"batches": batches})
    # The remedy is the case "a user's sampler" above.


def test_a_stream_from_a_generator_is_refused_and_the_remedy_works() -> None:
    batches = iter(DataLoader(Generated(), batch_size=4))
    next(batches)
    with pytest.raises(errors.CaptureError, match=r"class Batches: .*self.at"):
        capture({"batches": batches})
    # The remedy is the case "a stream" above.


def test_workers_are_refused() -> None:
    batches = iter(DataLoader(numbers(), batch_size=4, num_workers=1))
    try:
        with pytest.raises(errors.CaptureError, match=r"Use num_workers=0, or hold torchdata's"):
            capture({"batches": batches})
    finally:
        batches._shutdown_workers()  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 1])
def test_torchdatas_loader_in_the_world(workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def build() -> perdure.World:
        return perdure.World(
            loader=stateful.StatefulDataLoader(numbers(), 4, shuffle=True, num_workers=workers)
        )

    seed_all(1)
    ours = build()
    batches = iter(ours.loader)
    next(batches)
    with pytest.raises(errors.CaptureError, match="hold the StatefulDataLoader itself"):
        capture({"batches": batches})
    state = transported(capture(ours))
    expected = [str(batch) for batch in batches]
    seed_all(2)
    theirs = build()
    assert restore(state, theirs).exact
    assert [str(batch) for batch in theirs.loader] == expected


def test_no_file_decides_what_a_generator_is_made_of() -> None:
    state = capture({"it": iter(RandomSampler(range(5)))})
    parts = state.root.fields["it"].payload.items
    for forged in (["new", "Popen", 1], ["batches", [1], "4", True], ["random", None, 5], ["eval", "1"], []):
        parts[:] = forged
        with pytest.raises(errors.RestoreError):
            restore(state, {"it": None})
