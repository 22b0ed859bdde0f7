"""What Orbax offers; JAX trainings use it. It gets the same arrays, as NumPy's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import orbax.checkpoint as ocp
import torch

from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload


class Orbax(Peer):
    """`Checkpointer` with its default settings: it compresses with zstd."""

    name = "Orbax"
    compresses = True
    _checkpointer: Any = ocp.Checkpointer

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.checkpointer = type(self)._checkpointer(ocp.PyTreeCheckpointHandler())

    def _content(self) -> dict[str, Any]:
        return {"state": _arrays(self.workload.state_dicts()), "buffer": dict(self.workload.arrays)}

    def save(self) -> None:
        self.checkpointer.save(self.at / "checkpoint", args=ocp.args.PyTreeSave(self._content()))

    def wait(self) -> None:
        if self.background:
            self.checkpointer.wait_until_finished()
        super().wait()

    def prepare_load(self) -> Load:
        kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), self._content())

        def load() -> Any:
            args = ocp.args.PyTreeRestore(restore_args=kinds)
            content = self.checkpointer.restore(self.at / "checkpoint", args=args)
            return flat(content["buffer"][next(iter(self.workload.arrays))])

        return load

    def close(self) -> None:
        self.checkpointer.close()
        super().close()


class OrbaxAsync(Orbax):
    """`AsyncCheckpointer`: it copies, and compresses and writes in the background."""

    name = "Orbax async"
    background = True
    _checkpointer = ocp.AsyncCheckpointer


def _arrays(value: Any) -> Any:
    """A state dict as a tree of arrays: what a JAX training's would be."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, dict):
        return {str(key): _arrays(child) for key, child in value.items() if not isinstance(child, str | None)}
    if isinstance(value, list | tuple):
        return {str(index): _arrays(child) for index, child in enumerate(value)}
    return np.asarray(value)
