"""Moments from which a training counts time: they go on as if it had never been interrupted.

Stable-Baselines3's Monitor writes how long after its start an episode ended, and a script prints steps per second since
`start_time`. A new process would begin at zero, and a moment of the old process would count the time in which nobody
trained. So a checkpoint holds how long ago each of them was, and on resuming each is moved to be as long ago again.
"""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from perdure.state import LiveWorld, parts_of

#: Attributes that hold a moment, by the class and the clock that it is of.
_ATTRIBUTES: Mapping[str, tuple[str, Callable[[], float]]] = {
    "gymnasium.wrappers.common.RecordEpisodeStatistics": ("episode_start_time", time.perf_counter),
    "gymnasium.wrappers.vector.common.RecordEpisodeStatistics": ("episode_start_times", time.perf_counter),
    "stable_baselines3.common.base_class.BaseAlgorithm": ("start_time", time.time_ns),
    "stable_baselines3.common.monitor.Monitor": ("t_start", time.time),
    "stable_baselines3.common.vec_env.vec_monitor.VecMonitor": ("t_start", time.time),
    "tianshou.trainer.Trainer": ("_start_time", time.time),
}
#: Variables and parts that hold a moment are called so, and lie between the start of the process and now.
_NAME = re.compile(r"_?(?:(?:\w+_)?(?:start|begin)_?time(?:_\w+)?|t(?:ime)?_?start|t_?0|tic)", re.IGNORECASE)
_CLOCKS: Mapping[str, Callable[[], float]] = {
    "time": time.time,
    "time_ns": time.time_ns,
    "perf_counter": time.perf_counter,
    "perf_counter_ns": time.perf_counter_ns,
}
_BEGAN = {name: clock() for name, clock in _CLOCKS.items()}
#: The name of a counter by which a script has a clock of its own: moments on that are as they were.
SCRIPT_CLOCK = "clock"
#: How long before Perdure was imported a script may have looked at the clock, in seconds.
_BEFORE = 60.0

#: An object, the name of its attribute, and the clock.
_Moment = tuple[weakref.ref[Any], str, Callable[[], float]]


class Clocks:
    """The moments of one run."""

    def __init__(self) -> None:
        self._moments: dict[str, _Moment] = {}
        self._by_class: dict[type, tuple[str, str, Callable[[], float]] | None] = {}

    def built(self, live: LiveWorld) -> None:
        """Remember the objects that hold moments, as the script has built them."""
        self._moments.clear()
        counted: dict[str, int] = {}
        for value, _ in live.met():
            found = self._attribute_of(type(value))
            if found is not None:
                cls, attribute, clock = found
                number = counted[cls] = counted.get(cls, -1) + 1
                self._moments[f"{cls}#{number}"] = weakref.ref(value), attribute, clock

    def _attribute_of(self, cls: type) -> tuple[str, str, Callable[[], float]] | None:
        if cls not in self._by_class:
            self._by_class[cls] = next(
                (
                    (name, *_ATTRIBUTES[name])
                    for base in cls.__mro__
                    if (name := f"{base.__module__}.{base.__qualname__}") in _ATTRIBUTES
                ),
                None,
            )
        return self._by_class[cls]

    def elapsed(self, world: Any, counters: Mapping[str, Any]) -> dict[str, Any]:
        """How long ago each moment was, for a checkpoint.

        :param counters: of the checkpoint.
        """
        found: dict[str, Any] = {}
        for name, (reference, attribute, clock) in self._moments.items():
            owner = reference()
            value: Any = None if owner is None else vars(owner).get(attribute)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim == 1:
                found[name] = [clock() - float(each) if each > 0 else None for each in value]
            elif isinstance(value, int | float) and value > 0:
                found[name] = clock() - value
        for name, kind, moment in () if SCRIPT_CLOCK in counters else _named_moments(world):
            found[f"{name} {kind}"] = _CLOCKS[kind]() - moment
        return found

    def go_on(self, world: Any, elapsed: Any) -> None:
        """Move each moment to be as long ago as it was at the checkpoint.

        :param elapsed: what `elapsed` gave for the checkpoint; whatever else a file says is left out.
        """
        if not isinstance(elapsed, Mapping):
            return
        for name, (reference, attribute, clock) in self._moments.items():
            owner, ago = reference(), elapsed.get(name)
            value: Any = None if owner is None else vars(owner).get(attribute)
            if isinstance(value, np.ndarray) and isinstance(ago, list) and len(ago) == len(value):
                for index, each in enumerate(ago):
                    if _is_ago(each):
                        value[index] = clock() - each
            elif isinstance(value, int | float) and ago is not None and _is_ago(ago):
                setattr(owner, attribute, clock() - ago)
        parts = parts_of(world)
        for key, ago in elapsed.items():
            name, _, kind = key.partition(" ")
            if kind in _CLOCKS and name in parts and _NAME.fullmatch(name) and _is_ago(ago):
                moment = type(parts[name])(_CLOCKS[kind]() - ago)
                if isinstance(world, dict):
                    world[name] = moment
                else:
                    setattr(world, name, moment)


def moments(world: Any) -> set[str]:
    """The names of the parts of a world that are moments of this process."""
    return {name for name, _, _ in _named_moments(world)}


def _is_ago(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1 << 62


def _named_moments(world: Any) -> Iterator[tuple[str, str, float]]:
    """The parts of a world that are moments of this process, and of which clock."""
    for name, value in parts_of(world).items():
        if type(value) not in (int, float) or not _NAME.fullmatch(name):
            continue
        for kind, clock in _CLOCKS.items():
            before = _BEFORE * (1e9 if kind.endswith("_ns") else 1)
            is_whole = kind.endswith("_ns") == (type(value) is int)
            if is_whole and value > 0 and _BEGAN[kind] - before <= value <= clock():
                yield name, kind, value
                break
