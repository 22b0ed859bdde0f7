"""Environments that bring their own way of telling and setting their state: `get_state()` and `set_state(state)`.

Such a pair is used beside the walk, not in its place: the walk knows every attribute to the last bit, the pair reaches
what no walk can see (a simulator in native code, a handle behind a number). So the pair comes first, and what it leaves
otherwise than the walk has it is put right.
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import CaptureError, NotCapturedWarning
from perdure.state import Adapter, is_environment, slots

#: Names that mean telling and setting a state. Each is taken for such a pair only with the right signatures.
PAIRS = (
    ("get_state", "set_state"),
    ("clone_state", "restore_state"),
    ("get_env_state", "set_env_state"),
    ("state_dict", "load_state_dict"),
)

#: Environments whose pair is being used right now, by id.
_busy: set[int] = set()


def find(cls: type) -> Adapter | None:
    """How objects of a class are walked if it is an environment with such a pair; None for everything else."""
    names = pair(cls)
    if names is None:
        return None
    field = f"{names[0]}()"
    return Adapter(
        functools.partial(_fields, names[0], field),
        functools.partial(_assign, names, field),
        frozenset({field}),
        covers=field,
    )


def pair(cls: type) -> tuple[str, str] | None:
    """The names of the two methods, if a class is an environment and has them: one that needs no argument, one that
    needs exactly one."""
    if not is_environment(cls):
        return None
    for get, set_ in PAIRS:
        if _required(cls, get) == 0 and _required(cls, set_) == 1:
            return get, set_
    return None


def _required(cls: type, name: str) -> int | None:
    """How many arguments a method needs beside `self`; None if it is none, or needs some by name."""
    method = inspect.getattr_static(cls, name, None)
    if not isinstance(method, types.FunctionType):
        return None
    needed = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty]
    if any(each.kind is each.KEYWORD_ONLY for each in needed):
        return None
    places = [each for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return len(places) - 1


def _fields(get: str, field: str, env: Any) -> Mapping[str, Any]:
    from perdure.state import attributes_of

    # Last, so that all attributes are there when it is set.
    return {**attributes_of(env), field: True if id(env) in _busy else _state(env, get)}


def _state(env: Any, get: str) -> Any:
    """What the environment tells, or None if it does not, or tells what no checkpoint can hold."""
    from perdure.state import capture

    with _alone(env):
        try:
            found = getattr(env, get)()
            capture({"state": found})
        except Exception:
            # Not implemented after all, or another thing by that name: then there is only the walk.
            return None
    return found


@contextmanager
def _alone(env: Any) -> Iterator[None]:
    _busy.add(id(env))
    try:
        yield
    finally:
        _busy.discard(id(env))


def _assign(names: tuple[str, str], field: str, env: Any, name: str, value: Any) -> None:
    if name != field:
        set_attribute(env, name, value)
    elif value is not None and value is not True:
        with _alone(env):
            _bring_back(env, getattr(env, names[1]), value, names)


def set_attribute(env: Any, name: str, value: Any) -> None:
    """Set an attribute where it is kept, without asking the class."""
    own = slots(type(env))
    if name in own:
        own[name].__set__(env, value)
    else:
        object.__getattribute__(env, "__dict__")[name] = value


def _bring_back(env: Any, put: Callable[[Any], Any], value: Any, names: tuple[str, str]) -> None:
    from perdure.state import attributes_of, capture, diff, restore

    walked = capture({"env": env})
    _detach(walked)
    objects = attributes_of(env)
    put(value)
    for name, present in attributes_of(env).items():
        # What it made anew stays only where it reaches what the walk cannot.
        if name in objects and present is not objects[name] and not _is_opaque(objects[name]):
            set_attribute(env, name, objects[name])
    if not diff(walked, capture({"env": env}), ignore=()):
        return
    restore(walked, {"env": env}, strict=False)
    if left := diff(walked, capture({"env": env}), ignore=()):
        paths = ", ".join(each.path for each in left[:5])
        warnings.warn(
            f"{type(env).__qualname__}.{names[1]} changes what it was not asked for ({paths}), and it cannot be put "
            "back: this run may not go on exactly. Say how to take it: "
            f"perdure.register({type(env).__qualname__}, capture=..., restore=...)",
            NotCapturedWarning,
            stacklevel=2,
        )


def _is_opaque(value: Any) -> bool:
    from perdure.state import capture

    try:
        capture({"value": value})
    except CaptureError:
        return True
    return False


def _detach(state: tree.State) -> None:
    """Give the arrays of a state memory of their own: what they were taken from is about to change."""
    seen: set[int] = set()
    waiting: list[Any] = [state.root]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, tree.Node) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, tree.Array):
            if isinstance(node.data, np.ndarray):
                node.data = node.data.copy(order="K")
            elif isinstance(node.data, torch.Tensor):
                node.data = node.data.detach().clone()
        waiting.extend(child for _, child, *_ in tree.edges(node))
