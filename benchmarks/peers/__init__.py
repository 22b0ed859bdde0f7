"""Who is measured: Perdure, its peers, and the limits of the machine. One small class each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.peers.base import Peer

#: In the order of the table.
_PEERS = (
    "ours:Perdure",
    "ours:Uncompressed",
    "tianshou:Hdf5",
    "tianshou:Pickle",
    "tianshou:HighLevel",
    "sb3:Sb3",
    "torch_files:TorchSave",
    "torch_files:Dcp",
    "torch_files:DcpAsync",
    "torchrl:Dumps",
    "torchrl:Checkpoint",
    "orbax:Orbax",
    "orbax:OrbaxAsync",
)
_LIMITS = ("limits:Memcpy", "limits:RawWrite", "limits:ReadFresh")
OURS = "Perdure"


@dataclass(frozen=True)
class Missing:
    """A peer that cannot be measured here, and why."""

    name: str
    reason: str


def peers() -> tuple[list[type[Peer]], list[Missing]]:
    """All that are installed, ours first, and those that are not."""
    found: list[type[Peer]] = []
    missing: list[Missing] = []
    for entry in (*_PEERS, *_LIMITS):
        try:
            found.append(named(entry))
        except ImportError as error:
            missing.append(Missing(entry.replace(":", "."), f"not installed: {error}"))
    return found, missing


def named(entry: str) -> type[Peer]:
    """The class behind an entry, as in "sb3:Sb3".

    :raises ImportError: if its library is not installed.
    """
    module, _, name = entry.partition(":")
    found: type[Peer] = getattr(importlib.import_module(f"benchmarks.peers.{module}"), name)
    return found


def entry(peer: type[Peer]) -> str:
    """What `named` knows the class by."""
    return f"{peer.__module__.rpartition('.')[2]}:{peer.__name__}"
