"""What of Tianshou's classes is no state of a training."""

from __future__ import annotations

from tianshou.trainer import Trainer, TrainerParams

from perdure.state import leave_out, skip

leave_out(Trainer, ("_training_step",), "a method")
leave_out(
    TrainerParams, ("max_epochs",), "it belongs to the call: a longer training goes on from a shorter one"
)
# Which points a logger has logged, and at which epoch it had a policy saved, is state. What it writes with is not.
leave_out(
    "tianshou.utils.logger.wandb.WandbLogger", ("wandb_run", "writer"), "the process's own writer of logs"
)
skip("tianshou.utils.progress_bar.DummyTqdm", "a progress bar")
