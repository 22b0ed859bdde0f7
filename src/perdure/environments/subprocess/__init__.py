"""Environments in worker processes: Gymnasium's AsyncVectorEnv, SB3's SubprocVecEnv, Tianshou's workers, Ray.

`_trainer_side` asks all workers at once, through the pipes that the library itself uses; `_worker_side` is the wrapper
`Resumable`, which answers from inside the worker.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach
from perdure.environments.subprocess import _trainer_side

if TYPE_CHECKING:
    from perdure.environments.subprocess._worker_side import Resumable

__all__ = ["Resumable"]

__getattr__, __dir__ = attach(__name__, {"Resumable": "_worker_side"})
del _trainer_side
