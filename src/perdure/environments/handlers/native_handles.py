"""Refuses environments whose simulation lies behind a number that means nothing in another process.

All that Python sees of such a simulation is an int. An environment that uses such a library is refused rather than
restored without its simulation, unless it has its own `get_state` and `set_state` (see `get_set_state`). Imports none
of the libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from perdure.environments.handlers import get_set_state
from perdure.state import Adapter, attributes_of, finders, is_environment, module_of, refuse

#: Libraries that refer to a simulation by a number.
_LIBRARIES = ("pybullet",)

_REMEDY = (
    "its simulation lies in pybullet, behind a number. Wrap the environment in perdure.environments.EpisodeReplay, "
    "which replays its episode, or give its class get_state() and set_state(state)"
)


class Simulation:
    """Stands for a simulation that the walk cannot see."""

    __slots__ = ()


def find(cls: type) -> Adapter | None:
    """How an environment that uses such a library is walked: with its simulation as another field, which is refused."""
    if not is_environment(cls) or get_set_state.pair(cls) is not None:
        return None
    libraries = [sys.modules[name] for name in _LIBRARIES if name in sys.modules]
    for base in cls.__mro__:
        module = sys.modules.get(module_of(base))
        if module is not None and is_environment(base) and _uses(module, libraries):
            return Adapter(_fields, get_set_state.set_attribute)
    return None


def _uses(module: ModuleType, libraries: list[ModuleType]) -> bool:
    return any(value is library for value in vars(module).values() for library in libraries)


def _fields(env: Any) -> Mapping[str, Any]:
    return {**attributes_of(env), "simulation": Simulation()}


refuse(Simulation, _REMEDY)
for _name in ("pybullet_utils.bullet_client.BulletClient", "pybullet_envs.bullet.bullet_client.BulletClient"):
    refuse(_name, _REMEDY)
finders.append(find)
