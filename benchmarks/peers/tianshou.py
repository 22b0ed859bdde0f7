"""What Tianshou offers: a replay buffer as HDF5 or as a pickle, and the policy persistence of its high-level API."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py  # noqa: F401  (without it Tianshou has no save_hdf5)
import torch
from tianshou.data import ReplayBuffer
from tianshou.highlevel.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent
from tianshou.highlevel.world import World

from benchmarks.peers.base import Load, Peer, flat
from benchmarks.worlds import Workload


class _Tianshou(Peer):
    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.algorithm, self.buffer = workload.tianshou()

    def _fresh(self) -> Any:
        import copy

        return copy.deepcopy(self.algorithm)


class Hdf5(_Tianshou):
    """`torch.save` of the algorithm's state dict, optimizers included, and `buffer.save_hdf5`."""

    name = "Tianshou save_hdf5"

    def save(self) -> None:
        torch.save(self.algorithm.state_dict(), self.at / "algorithm.pt")
        self.buffer.save_hdf5(str(self.at / "buffer.hdf5"))

    def prepare_load(self) -> Load:
        algorithm = self._fresh()

        def load() -> Any:
            algorithm.load_state_dict(torch.load(self.at / "algorithm.pt"))
            return flat(ReplayBuffer.load_hdf5(str(self.at / "buffer.hdf5")).obs)

        return load


class Pickle(_Tianshou):
    """The same with `pickle.dump` of the buffer."""

    name = "Tianshou pickle"

    def save(self) -> None:
        torch.save(self.algorithm.state_dict(), self.at / "algorithm.pt")
        with open(self.at / "buffer.pkl", "wb") as file:
            pickle.dump(self.buffer, file)

    def prepare_load(self) -> Load:
        algorithm = self._fresh()

        def load() -> Any:
            algorithm.load_state_dict(torch.load(self.at / "algorithm.pt"))
            with open(self.at / "buffer.pkl", "rb") as file:
                return flat(pickle.load(file).obs)

        return load


class _BufferPersistence(Persistence):
    """What a user of the high-level API writes to have the replay buffer beside the policy."""

    def __init__(self, buffer: ReplayBuffer) -> None:
        self.buffer = buffer

    def persist(self, event: PersistEvent, world: World) -> None:
        self.buffer.save_hdf5(world.persist_path("buffer.hdf5"))

    def restore(self, event: RestoreEvent, world: World) -> None:
        self.buffer = ReplayBuffer.load_hdf5(world.restore_path("buffer.hdf5"))


class HighLevel(_Tianshou):
    """The checkpoint function of the high-level API: the whole algorithm, and the buffer by a handler of its own."""

    name = "Tianshou high-level"

    def __init__(self, workload: Workload, directory: Path) -> None:
        super().__init__(workload, directory)
        self.world: Any = World(
            envs=None,  # type: ignore[arg-type]
            algorithm=self.algorithm,
            logger=None,  # type: ignore[arg-type]
            persist_directory=str(self.at),
            restore_directory=str(self.at),
        )
        self.persistence = PolicyPersistence(_BufferPersistence(self.buffer))

    def save(self) -> None:
        self.world.persist_directory = str(self.at)
        save = self.persistence.get_save_checkpoint_fn(self.world)
        assert save is not None
        self._file = save(self.saves, 0, 0)

    def prepare_load(self) -> Load:
        algorithm = self._fresh()

        def load() -> Any:
            self.world.restore_directory = str(self.at)
            # What the high-level API restores by itself is the file of the best policy; this is that of the checkpoint.
            algorithm.load_state_dict(torch.load(self._file, weights_only=False).state_dict())
            handler = _BufferPersistence(ReplayBuffer(1))
            handler.restore(RestoreEvent.RESTORE_POLICY, self.world)
            return flat(handler.buffer.obs)

        return load
