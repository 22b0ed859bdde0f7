"""What torch offers: `torch.save`, and its distributed checkpoints in a single process."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload


class TorchSave(Peer):
    """`torch.save` of all state dicts and of the buffer as tensors; the fsync comes after it."""

    name = "torch.save"

    def save(self) -> None:
        content = {"state": self.workload.state_dicts(), "buffer": self.workload.buffer_tensors()}
        torch.save(content, self.at / "everything.pt")

    def prepare_load(self) -> Load:
        first = next(iter(self.workload.arrays))
        return lambda: flat(torch.load(self.at / "everything.pt")["buffer"][first])


class Dcp(Peer):
    """`torch.distributed.checkpoint.save`, which syncs its files itself. Loading is into fresh tensors."""

    name = "DCP save"

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled.*")

    def _content(self) -> dict[str, Any]:
        return {"state": self.workload.state_dicts(), "buffer": self.workload.buffer_tensors()}

    def save(self) -> None:
        dcp.save(self._content(), storage_writer=dcp.FileSystemWriter(self.at), no_dist=True)

    def prepare_load(self) -> Load:
        content = _like(self._content())

        def load() -> Any:
            content["buffer"] = {name: torch.empty_like(tensor) for name, tensor in content["buffer"].items()}
            dcp.load(content, storage_reader=dcp.FileSystemReader(self.at), no_dist=True)
            return flat(next(iter(content["buffer"].values())))

        return load


def _like(value: Any) -> Any:
    """A state of the same structure; of tensors only the shape, until they are loaded into."""
    if isinstance(value, torch.Tensor):
        return torch.empty_like(value)
    if isinstance(value, dict):
        return {key: _like(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_like(child) for child in value]
    return value


class DcpAsync(Dcp):
    """`async_save`, at its best without a GPU: the memory it stages into is kept from one save to the next."""

    name = "DCP async_save"
    background = True

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=False,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=False,
            )
        )
        self._saving: Any = None

    def save(self) -> None:
        self._saving = dcp.async_save(
            self._content(),
            storage_writer=dcp.FileSystemWriter(self.at),
            async_stager=self._stager,
            no_dist=True,
        )

    def wait(self) -> None:
        getattr(self._saving, "upload_completion", self._saving).result()
        super().wait()

    def close(self) -> None:
        self._stager.close()
        super().close()
