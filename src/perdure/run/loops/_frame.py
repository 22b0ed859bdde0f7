"""The variables of a running function, or of a module: read, and written back.

A variable that a nested function shares is written into the cell that both share. Python has had a public way to write
the variables of a function since 3.13 (PEP 667); before that it is what debuggers use.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from perdure.errors import PerdureError

_WRITES_THROUGH = sys.version_info >= (3, 13)
_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def own_names(frame: FrameType) -> frozenset[str]:
    """The variables that a function has itself or shares with the functions around it; none of a module."""
    code = frame.f_code
    if frame.f_locals is frame.f_globals:
        return frozenset()
    return frozenset((*code.co_varnames, *code.co_cellvars, *code.co_freevars))


def read_variables(frame: FrameType) -> Mapping[str, Any]:
    """What a frame sees by name: its own variables, and those of its module that they do not hide."""
    local = frame.f_locals
    if local is frame.f_globals:
        return local
    own = own_names(frame)
    return {**{name: value for name, value in frame.f_globals.items() if name not in own}, **local}


def why_not_writable(frame: FrameType) -> str | None:
    """Why the variables of a frame cannot be written; None if they can."""
    if frame.f_locals is not frame.f_globals and frame.f_code.co_flags & _SUSPENDED:
        return f"{frame.f_code.co_qualname}() is a generator or a coroutine"
    if frame.f_locals is not frame.f_globals and not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return f"{frame.f_code.co_qualname} is the body of a class, or code given to exec()"
    return None


def write_variables(frame: FrameType, values: Mapping[str, Any]) -> None:
    """Bind variables of a frame, each where its code looks for it: in the function, a shared cell or the module.

    Every variable is read back.

    :raises PerdureError: if a variable did not take its value.
    """
    own = own_names(frame)
    inside = {name: value for name, value in values.items() if name in own}
    frame.f_globals.update({name: value for name, value in values.items() if name not in own})
    if inside:
        local = frame.f_locals
        for name, value in inside.items():
            local[name] = value
        if not _WRITES_THROUGH:
            ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
    # Asking for the variables again reads them from where the code keeps them.
    now = read_variables(frame)
    lost = [name for name, value in values.items() if name not in now or now[name] is not value]
    if lost:
        raise PerdureError(
            f"the variables {', '.join(lost)} of {frame.f_code.co_qualname} could not be set. Keep them in a "
            "perdure.World and loop over Run.steps instead"
        )
