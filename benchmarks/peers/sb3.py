"""What Stable-Baselines3 offers."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload


class Sb3(Peer):
    """`model.save` and `model.save_replay_buffer`. Loading is `set_parameters` and `load_replay_buffer`."""

    name = "SB3 save + save_replay_buffer"

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.model = workload.sb3()

    def save(self) -> None:
        self.model.save(self.at / "model.zip")
        self.model.save_replay_buffer(self.at / "buffer.pkl")

    def prepare_load(self) -> Load:
        fresh = copy.copy(self.model)
        # Networks and optimizers of its own; the buffer is replaced by what is loaded.
        fresh.policy = copy.deepcopy(self.model.policy)
        fresh._create_aliases()

        def load() -> Any:
            fresh.set_parameters(self.at / "model.zip")
            fresh.load_replay_buffer(self.at / "buffer.pkl")
            return flat(fresh.replay_buffer.observations)

        return load
