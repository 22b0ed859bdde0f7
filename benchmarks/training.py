"""How much slower a training is that takes a checkpoint every five seconds."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.report import Figure, Result, Table, milliseconds
from benchmarks.timing import paired_ratios, spread
from benchmarks.worlds import sac, trained
from perdure.integrations.sb3 import PersistenceCallback

_INTERVAL = 5.0
_MOST = 0.01
_FIRST = 3
_CALIBRATION_STEPS = 20


@dataclass
class Segment:
    """A number of environment steps.

    :param checkpointed: whether a checkpoint is taken at its beginning.
    :param inside: seconds in it that the training thread spent in Perdure.
    :param seconds: that it took.
    :param processor: seconds that the training thread computed; other programs do not count there.
    """

    checkpointed: bool
    inside: float = 0.0
    seconds: float = 0.0
    processor: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    started_processor: float = field(default_factory=time.thread_time)

    def end(self) -> None:
        """Read the clocks."""
        self.seconds = time.perf_counter() - self.started
        self.processor = time.thread_time() - self.started_processor


class Alternating(PersistenceCallback):
    """Takes a checkpoint in every other segment of a training, and measures the segments.

    All segments have the same number of steps. The two of a pair change places from pair to pair, because a
    training gets slower or faster on its way.

    :param seconds_each: how long a segment is to last; how many steps that are is measured first.
    :param pairs: how many to measure.
    """

    def __init__(self, directory: str, seconds_each: float, pairs: int) -> None:
        super().__init__(directory, every=1, seconds=math.inf)
        self.seconds_each = seconds_each
        self.plan = [
            kind for pair in range(pairs) for kind in ([True, False] if pair % 2 == 0 else [False, True])
        ]
        self.segments: list[Segment] = []
        #: The first checkpoints: they write all of the buffer, and warm up. They are not counted.
        self.first: list[float] = []
        self.steps = 0
        self._left = 0
        self._calibration: tuple[float, int] | None = None

    def _on_rollout_start(self) -> None:
        if self.num_timesteps <= self.model.learning_starts:
            return
        if len(self.first) < _FIRST:
            self.first.append(self._inside(checkpoint=True))
        elif not self.steps:
            self._calibrate()
        elif self._left == 0:
            self._next_segment()
        else:
            self.segments[-1].inside += self._inside(checkpoint=False)
            self._left -= 1

    def _inside(self, *, checkpoint: bool) -> float:
        """The seconds that the integration takes at this place of the loop, with a checkpoint or without."""
        self.every = 1 if checkpoint else None
        start = time.perf_counter()
        super()._on_rollout_start()
        return time.perf_counter() - start

    def _calibrate(self) -> None:
        now = time.perf_counter()
        if self._calibration is None:
            self._calibration = now, self.num_timesteps
            return
        took, steps = now - self._calibration[0], self.num_timesteps - self._calibration[1]
        if steps >= _CALIBRATION_STEPS and took >= 0.3 * self.seconds_each:
            self.steps = max(2, round(steps / took * self.seconds_each))

    def _next_segment(self) -> None:
        if self.segments:
            self.segments[-1].end()
        if len(self.segments) < len(self.plan):
            segment = Segment(self.plan[len(self.segments)])
            self.segments.append(segment)
            segment.inside += self._inside(checkpoint=segment.checkpointed)
            self._left = self.steps - 1

    def _on_step(self) -> bool:
        return not (self.segments and self.segments[-1].seconds)

    def pairs(self) -> list[tuple[Segment, Segment]]:
        """Each segment with a checkpoint, and the one without beside it."""
        found = []
        for one, other in zip(self.segments[::2], self.segments[1::2], strict=True):
            found.append((one, other) if one.checkpointed else (other, one))
        return found


def run(*, pairs: int, seconds: float = _INTERVAL, capacity: int = 1_000_000) -> Result:
    """Train SB3 SAC, in `pairs` of segments of `seconds` with one checkpoint and without.

    :param capacity: of the replay buffer, which is full. The default is that of SAC.
    """
    model = trained(sac(capacity))
    with TemporaryDirectory(
        prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
    ) as directory:
        callback = Alternating(directory, seconds, pairs)
        model.learn(1 << 60, callback=callback)
    found = callback.pairs()
    stalls = [with_.inside for with_, _ in found]
    ticks = [without.inside for _, without in found]
    wall = paired_ratios([with_.seconds for with_, _ in found], [without.seconds for _, without in found])
    processor = paired_ratios(
        [with_.processor for with_, _ in found], [without.processor for _, without in found]
    )
    # Of the interval, not of the segment: a noisy machine makes that longer.
    share = statistics.mean(stalls) / seconds
    low, high = certain(wall)
    slower = statistics.median(wall) - 1
    rows = [
        ["stall of a checkpoint, mean", milliseconds(statistics.mean(stalls)), _range(stalls)],
        ["stall / interval", f"{share:.2%}", f"{min(stalls) / seconds:.2%} - {max(stalls) / seconds:.2%}"],
        [
            "asking whether one is due / interval",
            f"{statistics.mean(ticks) / seconds:.3%}",
            f"{callback.steps:,} times",
        ],
        ["time with / without, median of pairs", f"{slower:+.2%}", _quartiles(wall)],
        [
            "the thread's processor time, likewise",
            f"{statistics.median(processor) - 1:+.2%}",
            _quartiles(processor),
        ],
    ]
    figure = Figure(
        "whole training",
        f"checkpoint every {_INTERVAL:g} s",
        "at most 1 % slower",
        f"{slower:+.2%} (90 % sure: {low - 1:+.2%} to {high - 1:+.2%}); by the stalls alone {share:.2%}",
        slower <= _MOST,
    )
    return Result(
        "training",
        [
            Table(
                f"Training with a checkpoint every {seconds:g} s: SB3 SAC, full buffer of "
                f"{capacity:,} transitions ({pairs} pairs of segments of {callback.steps:,} steps)",
                ["what", "value", "spread"],
                rows,
                note=f"Not counted: the first checkpoint of the run, which writes everything "
                f"({milliseconds(callback.first[0])}). Spread of the ratios: quartiles.",
            )
        ],
        # The promise is about this interval; a shorter one only shows that the benchmark runs.
        [figure] if seconds == _INTERVAL else [],
        {
            "interval": seconds,
            "steps_each": callback.steps,
            "first": callback.first,
            "pairs": [
                {
                    "stall": with_.inside,
                    "with": with_.seconds,
                    "without": without.seconds,
                    "processor_with": with_.processor,
                    "processor_without": without.processor,
                }
                for with_, without in found
            ],
        },
    )


def certain(ratios: Sequence[float], draws: int = 2_000) -> tuple[float, float]:
    """Between which values the median lies with a certainty of 90 %, by drawing the pairs again and again."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(np.asarray(ratios), (draws, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.05, 0.95])
    return float(low), float(high)


def _quartiles(ratios: Sequence[float]) -> str:
    low, high = spread(ratios)
    return f"{low - 1:+.2%} to {high - 1:+.2%}"


def _range(seconds: Sequence[float]) -> str:
    return f"{milliseconds(min(seconds))} - {milliseconds(max(seconds))}"
