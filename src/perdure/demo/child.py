"""A process that trains, and prints how it is getting on: a line of words at a time.

    step 4000 83.25        the step that was just done, and the mean return
    saved 4000 12.5        a checkpoint of this step was written, in so many milliseconds

For the tests of the demo, PERDURE_DEMO_SABOTAGE=rng makes a resumed process draw other random numbers than it
should.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np
import torch

import perdure
from perdure.demo.training import train
from perdure.store import CheckpointInfo


class _Timed(perdure.Run):
    """A run that prints how long its checkpoints take."""

    def checkpoint(self, world: Any, step: int, **details: Any) -> CheckpointInfo | None:
        begin = time.perf_counter()
        info = super().checkpoint(world, step, **details)
        _say("saved", step, round((time.perf_counter() - begin) * 1000, 2))
        return info

    def resume(self, world: Any, **details: Any) -> CheckpointInfo | None:
        info = super().resume(world, **details)
        if info is not None and os.environ.get("PERDURE_DEMO_SABOTAGE") == "rng":
            np.random.seed(0)
        return info


def _say(*words: object) -> None:
    print(*words, flush=True)


def main() -> None:
    """Train as the command line says: DIRECTORY TOTAL EVERY SEED."""
    directory, *numbers = sys.argv[1:]
    total, every, seed = map(int, numbers)
    # So that two of them share two processors fairly, and rounding does not depend on how many there are.
    torch.set_num_threads(1)
    with _Timed(directory) as run:
        train(run, total, every, seed, lambda step, mean: _say("step", step, mean))


if __name__ == "__main__":
    main()
