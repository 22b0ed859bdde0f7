"""Objects that only show a run: progress bars, loggers and writers of logs."""

from __future__ import annotations

import functools

_PACKAGES = (
    "aim", "clearml", "comet_ml", "dvclive", "logging", "loguru", "matplotlib", "mlflow", "neptune", "rich", "swanlab",
    "tensorboard", "tensorboardX", "torch.utils.tensorboard", "tqdm", "wandb",
)  # fmt: skip


@functools.lru_cache(maxsize=4096)
def is_output(cls: type) -> bool:
    """Whether objects of a class only show a run."""
    module = f"{cls.__module__}."
    return any(module.startswith(f"{package}.") for package in _PACKAGES)
