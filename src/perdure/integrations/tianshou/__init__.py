"""Tianshou 2: takes checkpoints at the safe points of its trainers. What holds state is found by the walk.

The safe points are before each training step and between epochs. The loop over an epoch keeps one number in a local
variable: how many steps of the epoch are done. It is saved with the checkpoint, and the first training step after a
resume hands it back to the loop.

- `_run`: `run`, for a trainer, a high-level experiment or a collection of experiments.
- `_training`: one training of a trainer, from its checkpoint to its end.
- `_experiment`: a high-level experiment: what it writes, and where.
- `_collection`: several experiments, each with its run.
- `_rules`: what of Tianshou's classes is not state.
"""

from perdure._lazy import publish
from perdure.integrations.tianshou import _rules
from perdure.integrations.tianshou._run import run

__all__ = ["run"]

del _rules
publish(globals())
