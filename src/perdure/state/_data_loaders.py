"""Generators that can be read: those of torch's samplers, from which a DataLoader without workers takes its indices.
All others are refused, except those that have ended. Knows no walks and no files.

The samplers' generators stop only between two indices, so their variables tell all: which indices were drawn and not
yet used, and what is still to be drawn from which random generator. A generator cannot be set to a position. So a
resumed sampler first gives what was drawn, and then goes on with torch's own code.
"""

from __future__ import annotations

import gc
import inspect
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    dataloader,
    default_collate,
    default_convert,
)
from torch.utils.data._utils import fetch

from perdure.state._iterators import Parts, advanced, inner, register_iterator
from perdure.state._references import allow
from perdure.state._registry import Handler, rebuildable, refuse, register_handler
from perdure.state._values import Unsupported

GENERATOR = (
    "where it is paused cannot be read. Write it as a class that keeps its position in attributes: "
    "class Batches: def __init__(self): self.at = 0; def __iter__(self): return self; "
    "def __next__(self): self.at += 1; return ... A sampler can return an iterator over all its indices: "
    "return iter(torch.randperm(n).tolist())"
)
#: torch's samplers by the code of their generators.
_SAMPLERS: dict[types.CodeType, type] = {}
for sampler in (RandomSampler, BatchSampler, SubsetRandomSampler, WeightedRandomSampler):
    _SAMPLERS[sampler.__iter__.__code__] = sampler
_BY_NAME = {sampler.__name__: sampler for sampler in _SAMPLERS.values()}
_INFINITE: Any = getattr(dataloader, "_InfiniteConstantSampler", None)
_CHUNK = 32
_DRAWN: tuple[Any, ...] = (type(iter([])), type(iter(())))
_RANGE = type(iter(range(1)))


class ResumedSampler:
    """Goes on where a `RandomSampler` was: first with what it has drawn, then with what it is still to draw.

    :param drawn: the indices that were drawn and not yet used.
    :param left: how many more there are to draw, from how many, with replacement or not, and from which generator;
        None if nothing more is drawn.
    """

    def __init__(self, drawn: Iterator[int], left: tuple[int, int, bool, torch.Generator] | None) -> None:
        self.drawn = drawn
        self.left = left

    def __iter__(self) -> ResumedSampler:
        return self

    def __next__(self) -> int:
        for index in self.drawn:
            return index
        if self.left is None:
            raise StopIteration
        count, high, replacement, generator = self.left
        sampler = RandomSampler(range(high), replacement, 1, generator)
        sampler._num_samples = (
            count  # none may be left: torch draws once more then, and so shifts its generator
        )
        self.drawn, self.left = iter(sampler), None
        return next(self.drawn)


def _variable(live: types.GeneratorType[Any, Any, Any], name: str) -> Any:
    variables = inspect.getgeneratorlocals(live)
    if name not in variables:
        raise Unsupported(
            f"this version of torch ({torch.__version__}) does not show where its samplers are. Keep the indices of an "
            "epoch in the world, as a list, with a position"
        )
    return variables[name]


def _stacked(live: types.GeneratorType[Any, Any, Any], kinds: tuple[type, ...]) -> Any:
    """The only iterator of some kinds that a loop in a generator goes over; None if there is none."""
    named = {id(value) for value in inspect.getgeneratorlocals(live).values()}
    found = [each for each in gc.get_referents(live) if type(each) in kinds and id(each) not in named]
    return found[0] if len({id(each) for each in found}) == 1 else None


def _capture_generator(live: types.GeneratorType[Any, Any, Any]) -> Parts:
    state = inspect.getgeneratorstate(live)
    if state == inspect.GEN_CLOSED:
        return ("ended",)
    kind = _SAMPLERS.get(live.gi_code)
    if _INFINITE is not None and live.gi_code is _INFINITE.__iter__.__code__:
        return ("infinite",)
    if kind is None or state == inspect.GEN_RUNNING:
        raise Unsupported(GENERATOR)
    sampler = _variable(live, "self")
    if state == inspect.GEN_CREATED:
        if kind is BatchSampler and iter_is_itself(sampler.sampler):
            return "batches", inner(sampler.sampler), sampler.batch_size, sampler.drop_last
        return "new", kind.__name__, sampler
    if kind is BatchSampler:
        return "batches", _inner_of_batches(live), sampler.batch_size, sampler.drop_last
    if kind is SubsetRandomSampler:
        return _rest_of_subset(live, sampler)
    drawn = live.gi_yieldfrom
    if type(drawn) is not _DRAWN[0]:
        raise Unsupported(GENERATOR)
    if kind is WeightedRandomSampler:
        return "drawn", drawn
    return _rest_of_random(live, sampler, drawn)


def iter_is_itself(value: Any) -> bool:
    """Whether something that a sampler takes indices from is an iterator already."""
    return isinstance(value, ResumedSampler | types.GeneratorType) or hasattr(type(value), "__next__")


def _inner_of_batches(live: types.GeneratorType[Any, Any, Any]) -> Any:
    variables = inspect.getgeneratorlocals(live)
    if "sampler_iter" in variables:
        return inner(variables["sampler_iter"])
    # Older versions of torch do not give it a name.
    named = {id(value) for value in variables.values()}
    found = [
        each for each in gc.get_referents(live) if id(each) not in named and hasattr(type(each), "__next__")
    ]
    if len(found) != 1:
        raise Unsupported(GENERATOR)
    return inner(found[0])


def _rest_of_subset(live: types.GeneratorType[Any, Any, Any], sampler: Any) -> Parts:
    positions, indices = _stacked(live, _DRAWN), sampler.indices
    if positions is None or type(indices) not in (list, tuple, range, np.ndarray, torch.Tensor):
        raise Unsupported(GENERATOR)
    _, (drawn,), *at = positions.__reduce__()
    return "rest", tuple(indices[position] for position in list(drawn)[at[0] if at else len(drawn) :])


def _rest_of_random(live: types.GeneratorType[Any, Any, Any], sampler: Any, drawn: Any) -> Parts:
    high, generator = _variable(live, "n"), _variable(live, "generator")
    rounds = _stacked(live, (_RANGE,))
    if rounds is None:
        return "random", drawn, None
    size = _CHUNK if sampler.replacement else high
    count = rounds.__length_hint__() * size + sampler.num_samples % size
    return "random", drawn, (count, high, bool(sampler.replacement), generator)


def _make_generator(parts: Parts) -> Any:
    match parts:
        case ("ended",):
            return advanced((number for number in range(0)), 1)
        case ("infinite",):
            return iter(_INFINITE())
        case ("new", name, sampler) if isinstance(sampler, _BY_NAME[name]):
            kind: Any = _BY_NAME[name]
            return kind.__iter__(sampler)
        case ("batches", indices, int(size), bool(drop_last)):
            return BatchSampler.__iter__(BatchSampler(inner(indices), size, drop_last))
        case ("rest", tuple(indices)):
            return iter(list(indices))
        case ("drawn", indices):
            return inner(indices)
        case ("random", indices, left) if left is None or isinstance(left, tuple):
            return ResumedSampler(inner(indices), left)
    raise ValueError("expected the state of a sampler of torch's")


def _reuse_generator(live: Any, own: Parts, parts: Parts) -> bool:
    same_start = own[0] == parts[0] == "new" and own[2] is parts[2]
    return own == parts == ("ended",) or own == parts == ("infinite",) if len(own) == 1 else same_start


# What an iterator over a loader consists of, where the script has made none yet.
for made in (
    dataloader._SingleProcessDataLoaderIter,
    fetch._MapDatasetFetcher,
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    ConcatDataset,
    Subset,
    TensorDataset,
):
    rebuildable(made)
# They make a batch of examples. A loader's iterator that was made while training has one of them.
allow(default_collate, default_convert)
register_iterator(types.GeneratorType, _capture_generator, make=_make_generator, reuse=_reuse_generator)
register_iterator(
    ResumedSampler,
    lambda live: (inner(live.drawn), live.left),
    make=lambda parts: ResumedSampler(inner(parts[0]), parts[1]),
    reuse=lambda live, own, parts: False,
)
for paused in (types.CoroutineType, types.AsyncGeneratorType):
    refuse(paused, GENERATOR)
refuse(
    "torch.utils.data.dataloader._MultiProcessingDataLoaderIter",
    "its worker processes have read ahead, which cannot be captured. Use num_workers=0, or hold torchdata's "
    "StatefulDataLoader in the world and make its iterator after the run was resumed",
)
for name in ("_StatefulSingleProcessDataLoaderIter", "_StatefulMultiProcessingDataLoaderIter"):
    refuse(
        f"torchdata.stateful_dataloader.stateful_dataloader.{name}",
        "hold the StatefulDataLoader itself in the world, and make its iterator after the run was resumed, with "
        "iter(loader): it goes on where it was",
    )


def _restore_loader(loader: Any, saved: Any) -> None:
    loader.load_state_dict(saved)


register_handler(
    "torchdata.stateful_dataloader.stateful_dataloader.StatefulDataLoader",
    Handler(lambda loader: loader.state_dict(), _restore_loader),
)
