"""Environments: whether and how each of them goes on exactly in mid-episode.

`check` finds out about one, in fresh processes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.environments.checking import CheckReport, assert_exact, check

__all__ = ["CheckReport", "assert_exact", "check"]

_HOME = {name: "checking" for name in __all__}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
