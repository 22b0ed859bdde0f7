"""Simulators behind a number: what a walk sees of them is an int that means nothing in another process.

Environments that use such a library are refused rather than restored without their simulation, unless they tell their
state themselves (see `hooks`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from perdure.environments.handlers import _get_set_state
from perdure.state import Adapter, is_environment, module_of

#: Modules whose simulations are told apart by numbers.
_LIBRARIES = ("pybullet",)

REMEDY = (
    "its simulation lies in {library}, behind a number. Wrap the environment in perdure.environments.EpisodeReplay, "
    "which plays the episode again, or give its class get_state() and set_state(state)"
)


class Simulation:
    """Stands for a simulation that the walk cannot see."""

    __slots__ = ()


def find(cls: type) -> Adapter | None:
    """How an environment that uses such a library is walked: with its simulation as one more field, a refused one."""
    if not is_environment(cls) or _get_set_state.pair(cls) is not None:
        return None
    for base in cls.__mro__:
        module = sys.modules.get(module_of(base))
        names = vars(module) if module is not None and is_environment(base) else {}
        if any(value is library for value in names.values() for library in _used()):
            return Adapter(_fields, _get_set_state.set_attribute)
    return None


def _used() -> list[Any]:
    return [sys.modules[name] for name in _LIBRARIES if name in sys.modules]


def _fields(env: Any) -> Mapping[str, Any]:
    from perdure.state import attributes_of

    return {**attributes_of(env), "simulation": Simulation()}
