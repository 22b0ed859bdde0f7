"""How much slower a training is that takes a checkpoint every ten seconds."""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

from benchmarks.report import Figure, Result, Table, milliseconds
from benchmarks.timing import paired_ratios, spread
from benchmarks.worlds import trained_sac
from perdure.integrations.sb3 import PersistenceCallback

_INTERVAL = 10.0
_MOST = 0.01
_FIRST = 3
_CALIBRATION_STEPS = 20


@dataclass
class Segment:
    """A number of environment steps.

    :param checkpointed: whether a checkpoint is taken at its beginning.
    :param inside: seconds in it that the training thread spent in Perdure.
    """

    checkpointed: bool
    inside: float = 0.0
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)


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
            last = self.segments[-1]
            last.seconds = time.perf_counter() - last.started
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
    """Train SB3 SAC on Pendulum, in `pairs` of segments of `seconds` with one checkpoint and without.

    :param capacity: of the replay buffer, which is full. The default is that of SAC.
    """
    model = trained_sac(capacity)
    with TemporaryDirectory(
        prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
    ) as directory:
        callback = Alternating(directory, seconds, pairs)
        model.learn(1 << 60, callback=callback)
    found = callback.pairs()
    stalls = [with_.inside for with_, _ in found]
    ticks = [without.inside for _, without in found]
    ratios = paired_ratios([with_.seconds for with_, _ in found], [without.seconds for _, without in found])
    # Of the interval, not of the segment: a noisy machine makes that longer.
    share = statistics.mean(stalls) / seconds
    low, high = spread(ratios)
    middle = statistics.median(ratios)
    figure = Figure(
        f"with a checkpoint every {_INTERVAL:g} s, training is at most 1 % slower",
        f"{share:.2%} by the stalls; end to end {middle - 1:+.2%} ({low - 1:+.2%} to {high - 1:+.2%})",
        share <= _MOST,
    )
    return Result(
        "training",
        [
            Table(
                f"Training with a checkpoint every {seconds:g} s: SB3 SAC on Pendulum, full buffer of "
                f"{capacity:,} transitions ({pairs} pairs of segments of {callback.steps:,} steps)",
                ["what", "value", "spread"],
                [
                    [
                        "stall of a checkpoint, mean",
                        milliseconds(statistics.mean(stalls)),
                        f"{milliseconds(min(stalls))} - {milliseconds(max(stalls))}",
                    ],
                    [
                        "stall / interval",
                        f"{share:.2%}",
                        f"{min(stalls) / seconds:.2%} - {max(stalls) / seconds:.2%}",
                    ],
                    [
                        "asking whether one is due / interval",
                        f"{statistics.mean(ticks) / seconds:.3%}",
                        f"{callback.steps:,} times",
                    ],
                    [
                        "time with / time without, by pairs",
                        f"{middle:.4f}",
                        f"quartiles {low:.4f} - {high:.4f}",
                    ],
                ],
                note=f"Not counted: the first checkpoint of the run, which writes everything "
                f"({milliseconds(callback.first[0])}).",
            )
        ],
        # The promise is about this interval; a shorter one only shows that the benchmark runs.
        [figure] if seconds == _INTERVAL else [],
        {
            "interval": seconds,
            "steps_each": callback.steps,
            "first": callback.first,
            "pairs": [
                {"stall": with_.inside, "with": with_.seconds, "without": without.seconds}
                for with_, without in found
            ],
        },
    )
