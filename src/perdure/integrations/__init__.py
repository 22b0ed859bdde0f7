"""One small module for each library. Each is imported when it is first used, and needs its library only then."""

from __future__ import annotations

import importlib
from types import ModuleType

_LIBRARIES = {"sb3": "stable_baselines3", "tianshou": "tianshou", "torchrl": "torchrl"}

__all__ = ["sb3", "tianshou", "torchrl"]


def __getattr__(name: str) -> ModuleType:
    if name not in _LIBRARIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != _LIBRARIES[name]:
            raise
        raise ModuleNotFoundError(
            f"perdure.integrations.{name} needs {_LIBRARIES[name]}, which is not installed: "
            f"pip install 'perdure[{name}]'",
            name=error.name,
        ) from error
