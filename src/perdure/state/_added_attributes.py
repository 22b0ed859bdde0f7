"""The attributes that a script adds to objects of a library's classes, of which the library's own are left out: to a
thread, a logger, an open file, a progress bar. Knows no walks and no files but by their names.

What the library sets itself belongs to the process. Which names those are is read from its code.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from perdure.state._attributes import attributes_of
from perdure.state._class_names import module_of
from perdure.state._registry import Adapter, Skip, slots
from perdure.state._user_code import is_users_file


def added(obj: Any) -> dict[str, Any]:
    """The attributes of an object that no class of a library knows."""
    cls: Any = type(obj)
    known = _names_in_libraries(cls)
    return {
        name: each
        for name, each in attributes_of(obj).items()
        if name not in known and not name.startswith("__")
    }


def assign(obj: Any, name: str, value: Any) -> None:
    """Set such an attribute.

    :raises ValueError: if it is the library's, or stands for code of the class.
    """
    cls: Any = type(obj)
    found = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
    if name in slots(cls):
        slots(cls)[name].__set__(obj, value)
    elif name in _names_in_libraries(cls) or name.startswith("__") or any(map(callable, found)):
        raise ValueError(f"{name!r:.80} is no attribute that a {cls.__qualname__} may get")
    else:
        object.__getattribute__(obj, "__dict__")[name] = value


def adapter_for(cls: type, rule: Skip) -> Adapter | None:
    """How objects of a class are captured that are left out but for what the script adds; None if it adds nothing."""
    if not any(map(_is_of_script, cls.__mro__)):
        return None
    return Adapter(added, assign, without_fields=rule.reason)


def _is_of_script(cls: type) -> bool:
    module = sys.modules.get(module_of(cls))
    if module_of(cls) == "__main__":
        return True
    file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
    return isinstance(file, str) and is_users_file(file)


@functools.lru_cache(maxsize=256)
def _names_in_libraries(cls: type) -> frozenset[str]:
    """The names in the code of the classes of libraries that a class derives from."""
    found: set[str] = set()
    for base in cls.__mro__:
        if base is not object and not _is_of_script(base):
            found |= slots(base).keys() | vars(base).keys()
            for value in vars(base).values():
                for code in _codes(value):
                    found.update(code.co_names)
    return frozenset(found)


def _codes(value: Any) -> Iterator[CodeType]:
    """The code of a method, a property, or what else a class's body has."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    functions = (value.fget, value.fset) if isinstance(value, property) else (value,)
    todo = [each.__code__ for each in functions if isinstance(each, FunctionType)]
    while todo:
        code = todo.pop()
        yield code
        todo += [each for each in code.co_consts if isinstance(each, CodeType)]


def bar_fields(bar: Any) -> Mapping[str, Any]:
    """How far a progress bar is, and what the script has added to it."""
    return {**{name: vars(bar).get(name) for name in ("n", "total")}, **added(bar)}
