"""Measuring on a machine that others use too: everything is interleaved, and compared in pairs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    :param run: what is timed.
    :param prepare: what has to be done before each time, and is not timed.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] | None = None


def timed(action: Callable[[], object]) -> float:
    """The seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def rotated(items: Sequence[T], number: int) -> list[T]:
    """The order of a round: what runs first finds other caches than what runs last, so it is not always the same."""
    shift = number % len(items)
    return [*items[shift:], *items[:shift]]


def interleaved(cases: Mapping[str, Case], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each case in each round.

    In each round every case runs once, and a slow minute of the machine so meets all of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-warmup, rounds):
        for name in rotated(list(cases), number):
            case = cases[name]
            if case.prepare is not None:
                case.prepare()
            # The garbage of one case is not to be collected on the time of the next.
            gc.collect()
            took = timed(case.run)
            if number >= 0:
                seconds[name].append(took)
    return seconds


_SCRATCH = 64 << 20
_scratch: list[np.ndarray] = []


def settle() -> None:
    """Off the clock, before what is timed: collect the garbage, and leave nothing of the last case in the caches of the
    processor. What a training changed between two checkpoints is not there either."""
    gc.collect()
    if not _scratch:
        _scratch.append(np.ones(_SCRATCH, np.uint8))
    _scratch[0].sum(dtype=np.int64)


def paired_ratios(values: Sequence[float], bases: Sequence[float]) -> list[float]:
    """In each round, how many times its base a value is."""
    return [value / base for value, base in zip(values, bases, strict=True)]


def median_ratio(values: Sequence[float], bases: Sequence[float]) -> float:
    """The median of the paired ratios."""
    return statistics.median(paired_ratios(values, bases))


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The quartiles: half of the values lie between them."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
