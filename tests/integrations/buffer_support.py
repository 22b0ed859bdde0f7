"""What the tests of replay buffers share: checkpoints taken at random moments of random writing, compared bit for bit
with what the buffer was at those moments."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import torch

import perdure
from perdure.snapshot import _stager
from perdure.state import capture, diff
from perdure.store import Store

sys.path.insert(0, str(Path(__file__).parent.parent / "state"))
from state_support import transported


def frozen(buffer):
    """A copy of a buffer's state, as it is now."""
    return transported(capture({"buffer": buffer}))


def committed(directory):
    with Store.open(directory) as store:
        checkpoint = store.latest()
    assert checkpoint is not None
    return checkpoint


def unlike(a, b):
    """The paths below `buffer` at which two states differ."""
    return [str(each) for each in diff(a, b, ignore=()) if each.path.startswith("buffer")]


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Scenario:
    """A buffer that is written, emptied, sampled and checkpointed at random.

    :param make: builds the buffer, as a script does; `feed(buffer)` builds what writes random rows into it.
    :param ticks: whether the run is told between writes that training goes on.
    """

    def __init__(self, make, feed, directory, *, seed, ticks):
        self.make, self.feed, self.directory, self.ticks = make, feed, directory, ticks
        self.draw = random.Random(seed)
        self.step = 0
        self.compared = 0
        seed_all(seed)

    def go(self, rounds, resumes=2):
        for process in range(resumes):
            buffer = self.make()
            world = perdure.World(buffer=buffer)
            with perdure.Run(self.directory, keep=2) as run:
                found = run.resume(world)
                assert (found is None) == (process == 0)
                if found is not None:
                    assert unlike(self.expected, frozen(buffer)) == []
                feed = self.feed(buffer)
                for _ in range(rounds):
                    self.round(run, world, buffer, feed)
        return self.compared

    def round(self, run, world, buffer, feed):
        for _ in range(self.draw.choice([0, 1, 1, 2, 3])):
            self.act(buffer, feed)
            self.step += 1
            if self.ticks and self.draw.random() < 0.7:
                run.maybe_checkpoint(world, self.step, every=10**9, seconds=10**9)
        self.expected = frozen(buffer)
        self.step += 1
        run.checkpoint(world, self.step, wait=False)
        # The training goes on at full speed while that is written.
        for _ in range(3):
            self.act(buffer, feed)
        after = frozen(buffer)
        run.flush()
        assert unlike(self.expected, committed(self.directory).state) == []
        assert unlike(after, frozen(buffer)) == []
        self.compared += 1

    def act(self, buffer, feed):
        what = self.draw.random()
        if what < 0.08:
            feed.reset()
        elif what < 0.3:
            feed.sample()
        else:
            # Mostly a few rows, now and then more than the buffer holds.
            feed.write(self.draw.choice([1, 1, 2, 3, 5, 8, 13, feed.rows, feed.rows + 3, 2 * feed.rows + 1]))


# It plays several processes of a script, so it is none of them.
perdure.state.skip(Scenario, "the test")


def small(monkeypatch, check):
    """Have arrays of tests count as large ones; `check`: all rows are compared, whatever the cursors say."""
    monkeypatch.setattr(_stager, "SMALL", 64)
    monkeypatch.setattr(_stager, "LARGE", 128)
    if check:
        monkeypatch.setenv(_stager.CHECK_ROWS, "1")
    else:
        monkeypatch.delenv(_stager.CHECK_ROWS, raising=False)
