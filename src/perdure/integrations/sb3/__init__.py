"""Stable-Baselines3: takes checkpoints at the safe point of its training loop. What holds state is found by the walk.

The safe point is the start of a rollout: only the model, its environments and the callbacks hold state then. That is
checked, not assumed. The new process restores a checkpoint at the same point, before its first rollout.

- `_callback`: `PersistenceCallback`, which joins the others.
- `_calls`: the calls of `learn` of one run: which are done, and where to go on.
- `_frames`: whether the functions that are running hold what no checkpoint holds.
- `_ars`: the safe point of Augmented Random Search.
- `_best`: the best policy, with what its observations are normalised by.
"""

from perdure._lazy import publish
from perdure.integrations.sb3._best import LoadedPolicy, load_best
from perdure.integrations.sb3._callback import PersistenceCallback

__all__ = ["LoadedPolicy", "PersistenceCallback", "load_best"]

publish(globals())
