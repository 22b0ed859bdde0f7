"""Where an environment may keep state that belongs to no object: closures, class attributes, module globals.

A capture sees none of that. Here it is looked at from outside, before and after the environment has run: what changed
is a suspect when a restored environment goes another way.
"""

from __future__ import annotations

import functools
import sys
import time
import types
from collections.abc import Iterator, Mapping
from typing import Any

import xxhash

from perdure import tree
from perdure.state import Walker, attributes_of
from perdure.tree import State

_MOST_OBJECTS = 20_000
_MOST_SECONDS = 2.0
#: Packages that keep no environment's state in such places, or too much of other things.
_KNOWN = frozenset(
    {
        "builtins",
        "numpy",
        "torch",
        "gymnasium",
        "perdure",
        "collections",
        "abc",
        "typing",
        "pygame",
        "matplotlib",
    }
    | {"mujoco", "ale_py", "scipy", "PIL", "cv2", "stable_baselines3", "tianshou", "enum", "functools"}
) | frozenset(sys.stdlib_module_names)

#: A fingerprint of each such place, by its name.
Places = dict[str, int]


def places(env: Any) -> Places:
    """What is to be found now; stops looking after two seconds."""
    search = _Search(env)
    found: Places = {}
    for name, value in search.values():
        if time.monotonic() > search.deadline:
            break
        seen = _fingerprint(value, search.objects)
        if seen is not None:
            found[name] = seen
    return found


def changed(before: Places, after: Places) -> list[str]:
    """The places that changed. What was not there before says nothing: it may have been made just now."""
    return [name for name, seen in after.items() if name in before and before[name] != seen]


def _fingerprint(value: Any, inside: Mapping[int, Any]) -> int | None:
    """What a value holds beside the environment's own objects; None if it cannot be told."""
    walker = Walker()
    walker.memo.update({key: tree.Omitted("of the environment") for key in inside})
    try:
        root = walker.parts({"value": value})
        walker.finish()
        document, blobs = tree.encode(State(root))
        return hash((repr(document), *(xxhash.xxh3_64_intdigest(blob.buffer()) for blob in blobs)))
    except Exception:
        # Whatever it is, it is no plain state.
        return None


class _Search:
    """All objects that can be reached from an environment, and the code that they run."""

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
            if _of_interest(_module(base)) and base not in self.classes:
                self.classes[base] = None
                for member in vars(base).values():
                    self._function(getattr(member, "fget", None) or getattr(member, "__func__", member))
        yield from attributes_of(value).values()

    def _function(self, value: Any) -> None:
        value = getattr(value, "__wrapped__", value)
        if isinstance(value, types.FunctionType) and _of_interest(value.__module__ or ""):
            self.functions[id(value)] = value

    def values(self) -> Iterator[tuple[str, Any]]:
        """The places where state may hide, and what lies there."""
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
                    yield f"the class attribute {cls.__module__}.{cls.__qualname__}.{name}", content
        for name in modules:
            for variable, content in list(
                vars(sys.modules.get(name) or object()).items() if name in sys.modules else ()
            ):
                if _is_data(variable, content):
                    yield f"the module global {name}.{variable}", content


def _module(cls: type) -> str:
    # Some classes of native code have none.
    found = getattr(cls, "__module__", "builtins")
    return found if isinstance(found, str) else "builtins"


def _of_interest(module: str) -> bool:
    return module.partition(".")[0] not in _KNOWN


def _is_data(name: str, value: Any) -> bool:
    if name.startswith("__") or name in ("_abc_impl", "self"):
        return False
    return not isinstance(value, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType)
