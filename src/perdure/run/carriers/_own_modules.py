"""Which modules are the script's own: nobody installed them, and they are not Python's or Perdure's."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

from perdure.run._user_frames import is_users
from perdure.state import is_users_file

_NAMES: Any = vars(ModuleType)["__dict__"]
_MOST = 2_000


def variables_of(module: ModuleType) -> dict[str, Any]:
    """The variables of a module, read without its hooks."""
    found: dict[str, Any] = _NAMES.__get__(module)
    return found


def own_modules(
    frames: Sequence[FrameType], classes: Iterable[type], added: Sequence[str]
) -> dict[str, ModuleType]:
    """The script's own modules, by the names under which they are imported.

    All that are imported, where a script of the user's was started. Otherwise (a test, a notebook, a worker of another
    program) those of the code that is running, and what these lead to.

    :param frames: of the user's code that is running.
    :param classes: of the objects of the world.
    :param added: names of modules and packages that count as the script's own too.
    """
    if _is_users_script(sys.modules.get("__main__")):
        names = list(sys.modules)
    else:
        begins = [frame.f_globals.get("__name__") for frame in frames]
        local = [each for frame in frames for each in list(frame.f_locals.values())]
        names = _reached([*begins, *map(_module_of, local)], classes, added)
    found: dict[str, ModuleType] = {}
    seen: set[int] = set()
    # Processes that were spawned have their script under two names: `__main__` comes first.
    for name in sorted(names):
        module = sys.modules.get(name)
        if module is None or id(module) in seen or len(found) >= _MOST:
            continue
        seen.add(id(module))
        if is_own(name, module, added):
            found[name] = module
    return found


def is_own(name: str, module: Any, added: Sequence[str] = ()) -> bool:
    """Whether a module is the script's own.

    :param name: under which it is imported.
    """
    if not issubclass(type(module), ModuleType):
        return False
    if any(name == each or name.startswith(f"{each}.") for each in added):
        return True
    file = variables_of(module).get("__file__")
    if type(file) is str:
        return _is_users_file(file)
    # An interactive session has no file; neither has a namespace package, which has no variables of its own.
    return name == "__main__"


def _is_users_script(main: Any) -> bool:
    """Whether a user started this process: with a script, or in an interactive session."""
    if not issubclass(type(main), ModuleType):
        return False
    names = variables_of(main)
    if type(file := names.get("__file__")) is str:
        return _is_users_file(file)
    return hasattr(sys, "ps1") or "get_ipython" in names


def is_file_of_main(name: str) -> bool:
    """Whether the script that was started would have this name if it were imported."""
    main: Any = sys.modules.get("__main__")
    file = variables_of(main).get("__file__") if issubclass(type(main), ModuleType) else None
    return type(file) is str and Path(file).stem == name.rpartition(".")[2]


_is_users_file = functools.lru_cache(maxsize=8192)(is_users_file)


def users_frames(frame: FrameType | None) -> list[FrameType]:
    """The frames of the user's code, from one on outwards."""
    found = []
    while frame is not None:
        if is_users(frame):
            found.append(frame)
        frame = frame.f_back
    return found


def _reached(names: Iterable[Any], classes: Iterable[type], added: Sequence[str]) -> list[str]:
    """The modules that modules lead to by their variables; of those that are the script's own, further ones."""
    todo = [*names, *(cls.__module__ for cls in classes), *(name for name in sys.modules if name in added)]
    found: dict[str, None] = {}
    while todo and len(found) < _MOST:
        name = todo.pop()
        if type(name) is not str or name in found:
            continue
        module = sys.modules.get(name)
        if module is None or not is_own(name, module, added):
            continue
        found[name] = None
        todo += map(_module_of, list(variables_of(module).values()))
    return list(found)


def _module_of(value: Any) -> Any:
    """The name of a module, or of that which defines a class or a function; None for everything else."""
    if issubclass(type(value), ModuleType):
        return variables_of(value).get("__name__")
    return value.__module__ if issubclass(type(value), type | FunctionType) else None
