"""What the machine can do at best with the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.peers.base import Load, Peer
from benchmarks.worlds import Workload


class Memcpy(Peer):
    """Copies what changed, array by array, into memory that is there: what staging costs at least."""

    name = "limit: memcpy of the changed bytes"
    whole = False
    loads = False

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def next(self) -> None:
        super().next()
        kept = {id(target): target for target, _ in self._pairs}.values()
        free: dict[tuple[tuple[int, ...], np.dtype], list[np.ndarray]] = {}
        for target in kept:
            free.setdefault((target.shape, target.dtype), []).append(target)
        self._pairs = []
        for source in self.workload.changed():
            at_hand = free.get((source.shape, source.dtype))
            # Zeros would not be in memory yet.
            target = at_hand.pop() if at_hand else np.full(source.shape, 1, source.dtype)
            self._pairs.append((target, source))

    def save(self) -> None:
        for target, source in self._pairs:
            np.copyto(target, source)

    def wait(self) -> None:
        """It does not write."""


class RawWrite(Peer):
    """One large write of as many bytes as changed, and an fsync."""

    name = "limit: one write + fsync of them"
    whole = False
    loads = False

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self._bytes = np.random.default_rng(3).integers(0, 256, workload.changed_bytes(), np.uint8)

    def save(self) -> None:
        descriptor = os.open(self.at / "raw", os.O_WRONLY | os.O_CREAT)
        try:
            _write(descriptor, memoryview(self._bytes))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def wait(self) -> None:
        """It has waited."""


class ReadFresh(Peer):
    """`preadv` of the whole buffer into arrays that are made for it."""

    name = "limit: preadv into fresh arrays"

    def save(self) -> None:
        descriptor = os.open(self.at / "raw", os.O_WRONLY | os.O_CREAT)
        try:
            for array in self.workload.arrays.values():
                _write(descriptor, memoryview(array.reshape(-1).view(np.uint8)))
        finally:
            os.close(descriptor)

    def prepare_load(self) -> Load:
        shapes = [(array.shape, array.dtype) for array in self.workload.arrays.values()]

        def load() -> np.ndarray:
            descriptor = os.open(self.at / "raw", os.O_RDONLY)
            try:
                made, offset = [], 0
                for shape, dtype in shapes:
                    array = np.empty(shape, dtype)
                    buffer, done = memoryview(array.reshape(-1).view(np.uint8)), 0
                    while done < len(buffer):
                        done += os.preadv(descriptor, [buffer[done:]], offset + done)
                    offset += len(buffer)
                    made.append(array)
            finally:
                os.close(descriptor)
            return made[0].reshape(len(made[0]), -1)

        return load


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
