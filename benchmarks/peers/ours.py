"""Perdure itself."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import perdure
from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload

#: What the benchmark itself keeps is no part of the training that is measured.
BESIDE = ["script state*"]


class Perdure(Peer):
    """`run.checkpoint(world, step, wait=False)`, then `run.flush()`.

    Loading is `Run(directory)` and `run.resume(world)`: it opens and checks the run, walks the fresh world, and writes
    and verifies everything in it, networks and generators included.
    """

    name = "Perdure"
    whole = False
    background = True
    compresses = True
    _compression = "auto"

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.world = perdure.World(**workload.parts)
        self.run: perdure.Run | None = perdure.Run(
            directory / "run", compression=self._compression, skip=BESIDE
        )
        # As the script does it, before anything is trained.
        self.run.find_checkpoint(perdure.World(**workload.fresh()))
        self._resumed: perdure.Run | None = None

    def tick(self) -> None:
        """As `run.steps` and the callbacks of the integrations do: no checkpoint is due."""
        if self.run is not None:
            self.run.maybe_checkpoint(self.world, self.saves, every=sys.maxsize)

    def next(self) -> None:
        self.saves += 1

    def forget(self) -> None:
        """That is what retention does, by itself: wait for it, as it must not go on in somebody else's time."""
        if self.run is not None:
            self.run._checkpointer.wait_until_idle()

    def save(self) -> None:
        assert self.run is not None
        self.run.checkpoint(self.world, self.saves, wait=False)

    def wait(self) -> None:
        assert self.run is not None
        self.run.flush()

    def end_run(self) -> None:
        """Leave the run as a process that ends."""
        if self.run is not None:
            self.run.close()
        self.run = None

    def prepare_load(self) -> Load:
        self.end_run()
        if self._resumed is not None:
            self._resumed.close()
        parts = self.workload.fresh()

        def load() -> Any:
            # It tells the person at the terminal that it goes on.
            with redirect_stderr(StringIO()):
                self._resumed = run = perdure.Run(self.directory / "run", skip=BESIDE)
                run.resume(perdure.World(**parts))
            if "buffer" in parts:
                return flat(parts["buffer"].obs)
            return flat(parts["model"].replay_buffer.observations)

        return load

    def close(self) -> None:
        self.end_run()
        if self._resumed is not None:
            self._resumed.close()
        super().close()


class Uncompressed(Perdure):
    """The same without compression: what is written is then to be compared with what changed."""

    name = "Perdure, uncompressed"
    compresses = False
    _compression = "none"
