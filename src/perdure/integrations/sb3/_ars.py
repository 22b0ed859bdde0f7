"""Augmented Random Search of sb3-contrib: its safe point is before the candidates of an update are drawn.

It tells its callbacks that a rollout begins when the candidates are in local variables already.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

#: What to call at the safe point, by model.
_AT_UPDATE: weakref.WeakKeyDictionary[Any, Callable[[], None]] = weakref.WeakKeyDictionary()


def call_before_updates(model: Any, safe_point: Callable[[], None]) -> bool:
    """Call a function before each update of a model, if that is one of ARS; returns whether it is."""
    module = sys.modules.get("sb3_contrib.ars.ars")
    if module is None or not isinstance(model, module.ARS):
        return False
    method = module.ARS._do_one_update
    if not hasattr(method, "calls_before"):
        method = module.ARS._do_one_update = _calling_before(method)
    if type(model)._do_one_update is not method:
        return False  # a subclass does it in its own way
    _AT_UPDATE[model] = safe_point
    return True


def stop_calling(model: Any) -> None:
    """Call nothing before the updates of a model any more; None if it is gone."""
    if model is not None:
        _AT_UPDATE.pop(model, None)


def _calling_before(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        if (safe_point := _AT_UPDATE.get(self)) is not None:
            safe_point()
        method(self, *args, **kwargs)

    update.calls_before = True  # type: ignore[attr-defined]
    return update
