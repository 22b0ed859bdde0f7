"""Finds state that belongs to no object of an environment: in closures, class attributes and module globals.

A capture sees none of it. It is looked at before and after the environment has run; what changed may be why a restored
environment behaves differently. It knows nothing of checkpoints.
"""

from __future__ import annotations

import functools
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

from perdure.state import attributes_of, dotted_name, fingerprint, module_of

_MOST_OBJECTS = 20_000
_MOST_SECONDS = 2.0
#: Packages that keep no environment's state in such places, or too much of other things.
_IGNORED = frozenset(sys.stdlib_module_names) | {
    *("perdure", "gymnasium", "stable_baselines3", "tianshou", "mujoco", "ale_py", "pygame"),
    *("numpy", "torch", "scipy", "matplotlib", "PIL", "cv2"),
}

#: Fingerprints of places where state may hide, by their descriptions.
Places = dict[str, int]


def places(env: Any) -> Places:
    """The places that can be found now; the search stops after two seconds."""
    search = _Search(env)
    found: Places = {}
    for name, value in search.values():
        if time.monotonic() > search.deadline:
            break
        seen = fingerprint(value, without=search.objects)
        if seen is not None:
            found[name] = seen
    return found


def changed(before: Places, after: Places) -> list[str]:
    """The places that changed. New ones are not among them: they may have been created just now."""
    return [name for name, seen in after.items() if name in before and before[name] != seen]


class _Search:
    """All objects that can be reached from an environment, and the functions they call."""

    def __init__(self, env: Any) -> None:
        self.deadline = time.monotonic() + _MOST_SECONDS
        self.objects: dict[int, Any] = {}
        self.functions: dict[int, types.FunctionType] = {}
        self.classes: dict[type, None] = {}
        todo = [env]
        while todo and len(self.objects) < _MOST_OBJECTS and time.monotonic() < self.deadline:
            value = todo.pop()
            if isinstance(value, types.FunctionType):
                self._function(value)
                continue
            if id(value) in self.objects or isinstance(
                value, type | types.ModuleType | str | bytes | int | float
            ):
                continue
            self.objects[id(value)] = value
            todo.extend(self._inside(value))

    def _inside(self, value: Any) -> Iterator[Any]:
        match value:
            case types.MethodType():
                yield value.__func__
                yield value.__self__
                return
            case functools.partial():
                yield value.func
                yield from (*value.args, *value.keywords.values())
                return
            case dict():
                yield from dict.values(value)
            case list() | tuple() | set() | frozenset():
                yield from value
        for base in type(value).__mro__:
            if _is_searched(module_of(base)) and base not in self.classes:
                self.classes[base] = None
                for member in vars(base).values():
                    self._function(getattr(member, "fget", None) or getattr(member, "__func__", member))
        yield from attributes_of(value).values()

    def _function(self, value: Any) -> None:
        value = getattr(value, "__wrapped__", value)
        if isinstance(value, types.FunctionType) and _is_searched(value.__module__ or ""):
            self.functions[id(value)] = value

    def values(self) -> Iterator[tuple[str, Any]]:
        """The places where state may hide, and the value at each."""
        modules: dict[str, None] = {}
        for function in self.functions.values():
            modules[function.__module__] = None
            where = f"{function.__module__}.{function.__qualname__}"
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                try:
                    content = cell.cell_contents
                except ValueError:
                    continue
                if _is_data(name, content):
                    yield f"the variable {name!r} that the function {where} closes over", content
            for name, content in vars(function).items():
                if _is_data(name, content):
                    yield f"the attribute {name!r} of the function {where}", content
            for content in function.__defaults__ or ():
                if isinstance(content, list | dict | set):
                    yield f"a default argument of the function {where}", content
        for cls in self.classes:
            modules[cls.__module__] = None
            for name, content in vars(cls).items():
                if _is_data(name, content) and not hasattr(type(content), "__get__"):
                    yield f"the class attribute {dotted_name(cls)}.{name}", content
        for name in modules:
            for variable, content in list(vars(sys.modules[name]).items()) if name in sys.modules else ():
                if _is_data(variable, content):
                    yield f"the module global {name}.{variable}", content


def _is_searched(module: str) -> bool:
    return module.partition(".")[0] not in _IGNORED


def _is_data(name: str, value: Any) -> bool:
    if name.startswith("__") or name in ("_abc_impl", "self"):
        return False
    return not isinstance(value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType)
