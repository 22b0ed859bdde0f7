"""Environments: what a user puts around one so that it goes on in mid-episode. Imports no library by itself."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.environments.box2d import fresh_world
    from perdure.environments.replay import EpisodeReplay

__all__ = ["EpisodeReplay", "fresh_world"]

_HOME = {
    "EpisodeReplay": "replay",
    "fresh_world": "box2d",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
