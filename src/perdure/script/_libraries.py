"""Training calls of libraries inside a script: they go through Perdure's integrations by themselves.

A library is changed when the script imports it, and only in the process that runs the script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from perdure.script._session import Session


def _stable_baselines3(module: ModuleType, session: Session) -> None:
    """Give each call of `learn` a callback, unless the script has given it one, or it is a part of another training."""
    original = module.BaseAlgorithm._setup_learn

    def set_up(model: Any, total_timesteps: int, callback: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(model, total_timesteps, _with_ours(model, callback, session), *args, **kwargs)

    module.BaseAlgorithm._setup_learn = set_up


def _with_ours(model: Any, callback: Any, session: Session) -> Any:
    from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback

    from perdure.integrations.sb3 import PersistenceCallback

    given = [] if callback is None else list(callback) if isinstance(callback, list) else [callback]
    todo = list(given)
    while todo:
        each = todo.pop()
        if isinstance(each, PersistenceCallback):
            return callback
        if isinstance(each, CallbackList):
            todo += each.callbacks
    if session.is_inside:
        return callback
    directory = session.directory_of(model, f"{type(model).__name__}.learn()")
    ours = PersistenceCallback(directory, every=session.every, seconds=session.seconds, **session.options)
    return CallbackList(
        [ours, *(each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in given)]
    )


#: What is done to a module once it is imported.
HOOKS: Mapping[str, Callable[[ModuleType, Session], None]] = {
    "stable_baselines3.common.base_class": _stable_baselines3,
}
#: Packages whose training calls are handled so.
LIBRARIES: Mapping[str, str] = {
    "stable_baselines3": "Stable-Baselines3",
    "sb3_contrib": "Stable-Baselines3",
    "rl_zoo3": "Stable-Baselines3",
}
