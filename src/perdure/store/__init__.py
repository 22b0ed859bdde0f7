"""State to durable bytes and back: checkpoints that survive a kill, a power cut and a flipped bit.

Knows bytes and files, and nothing of live objects or of reinforcement learning.
"""

from perdure.store.backend import Backend, Entry
from perdure.store.checking import Problem
from perdure.store.local import LocalBackend
from perdure.store.manifest import CheckpointInfo, RunInfo
from perdure.store.retention import Retention
from perdure.store.store import Checkpoint, Store

__all__ = [
    "Backend",
    "Checkpoint",
    "CheckpointInfo",
    "Entry",
    "LocalBackend",
    "Problem",
    "Retention",
    "RunInfo",
    "Store",
]
