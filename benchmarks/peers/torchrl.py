"""What TorchRL offers: its replay buffer's `dumps`, and `torchrl.checkpoint`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer

from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload

logging.getLogger("torchrl").setLevel(logging.WARNING)


class Dumps(Peer):
    """`torch.save` of all state dicts, and `rb.dumps` of a buffer that is kept in memory."""

    name = "TorchRL rb.dumps"

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.buffer = self._empty()
        content = TensorDict(workload.buffer_tensors(), batch_size=[workload.capacity])
        # One row makes the storage; then it is given the memory that is there.
        self.buffer.extend(content[:1])
        self.buffer._storage._storage = content
        self.buffer._storage._len = workload.capacity

    def _empty(self) -> Any:
        return ReplayBuffer(storage=LazyTensorStorage(self.workload.capacity), batch_size=32)

    def save(self) -> None:
        torch.save(self.workload.state_dicts(), self.at / "state.pt")
        self.buffer.dumps(self.at / "buffer")

    def prepare_load(self) -> Load:
        buffer = self._empty()

        def load() -> Any:
            torch.load(self.at / "state.pt")
            buffer.loads(self.at / "buffer")
            return self._observations(buffer)

        return load

    def _observations(self, buffer: Any) -> Any:
        return flat(buffer._storage._storage[next(iter(self.workload.arrays))])


class Checkpoint(Dumps):
    """`torchrl.checkpoint.Checkpoint` with networks, optimizers and the buffer as its components."""

    name = "torchrl.checkpoint"

    def __init__(self, workload: Workload, directory: Path) -> None:
        from torchrl.checkpoint import Checkpoint as Coordinator

        super().__init__(workload, directory)
        self._make = Coordinator
        self._checkpoint = self._of(self.buffer, workload.modules, workload.optimizers)

    def _of(self, buffer: Any, *parts: dict[str, Any]) -> Any:
        named = {name.replace(" ", "_"): part for group in parts for name, part in group.items()}
        return self._make(buffer=buffer, **named)

    def save(self) -> None:
        self._checkpoint.save(self.at / "checkpoint")

    def prepare_load(self) -> Load:
        import copy

        buffer = self._empty()
        parts = [copy.deepcopy(self.workload.modules), copy.deepcopy(self.workload.optimizers)]
        checkpoint = self._of(buffer, *parts)

        def load() -> Any:
            checkpoint.load(self.at / "checkpoint")
            return self._observations(buffer)

        return load
