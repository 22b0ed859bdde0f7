"""Training calls of libraries inside a script: they go through Perdure's integrations by themselves.

A library is changed when the script imports it, and only in the process that runs the script.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from perdure.script._session import Session


def _stable_baselines3(module: ModuleType, session: Session) -> None:
    """Give each call of `learn` a callback, unless the script has given it one, or it is a part of another training."""
    original = module.BaseAlgorithm._setup_learn

    @wraps(original)
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


def _tianshou(*names: str) -> Callable[[ModuleType, Session], None]:
    """Let `perdure.integrations.tianshou.run` do what the method `run` of some classes does."""

    def change(module: ModuleType, session: Session) -> None:
        for name in names:
            _through_ours(getattr(module, name), session)

    return change


def _through_ours(cls: Any, session: Session) -> None:
    original = cls.run

    @wraps(original)
    def run(subject: Any, *given: Any, **options: Any) -> Any:
        from perdure.integrations import tianshou

        if session.is_inside:
            return original(subject, *given, **options)
        bound = inspect.signature(original).bind(subject, *given, **options).arguments
        named = {name: value for name, value in bound.items() if name not in ("self", _COLLISION)}
        directory = session.next_directory(f"{_described(subject)}.run()")
        with session.inside():
            return tianshou.run(
                subject, directory, every=session.every, seconds=session.seconds, **named, **session.options
            )

    cls.run = run


#: Of an experiment: another process has made the directory already, which is no collision.
_COLLISION = "raise_error_on_dirname_collision"


def _described(subject: Any) -> str:
    algorithm = getattr(subject, "algorithm", None)
    return type(subject).__name__ + ("" if algorithm is None else f" of {type(algorithm).__name__}")


def _wandb(module: ModuleType, session: Session) -> None:
    """Give each run that the set-up of the script begins the id that it had in the first process."""
    original = module.generate_id
    os.environ.setdefault("WANDB_RESUME", "allow")

    @wraps(original)
    def generate_id(*given: Any, **options: Any) -> Any:
        return session.asked("W&B", original)(*given, **options)

    vars(module)["generate_id"] = generate_id


#: What is done to a module once it is imported.
HOOKS: Mapping[str, Callable[[ModuleType, Session], None]] = {
    "stable_baselines3.common.base_class": _stable_baselines3,
    "tianshou.trainer": _tianshou("Trainer"),
    "tianshou.highlevel.experiment": _tianshou("Experiment", "ExperimentCollection"),
    "wandb.sdk.lib.runid": _wandb,
}
#: Packages whose training calls are handled so.
LIBRARIES: Mapping[str, str] = {
    "stable_baselines3": "Stable-Baselines3",
    "sb3_contrib": "Stable-Baselines3",
    "rl_zoo3": "Stable-Baselines3",
    "tianshou": "Tianshou",
}
