"""The code of functions that were made while a training ran, found again in what the script defines.

A lambda in a method is made each time the method runs, but its code is a constant of that method's code: the script
has it before anything runs. Here it is only looked for, by its print, and never run.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from perdure.state._references import MISSING, look_up, print_of_code

_MOST_STEPS = 10_000


class Definition(NamedTuple):
    """The code of a function, the names of the module that it is in, and the function itself if the module has it."""

    code: types.CodeType
    names: dict[str, Any]
    function: Any


def find_definition(name: str, print_: str) -> Definition | None:
    """The definition that was recorded under a name with a print, inside a function or a class of a module.

    :param name: `module:outer.<locals>.inner`.
    """
    module, _, qualname = name.partition(":")
    outer = qualname.partition(".<locals>")[0]
    # A lambda in the body of a class or a module is no constant of a function.
    around = outer if outer != qualname else qualname.rpartition(".")[0]
    found = look_up(f"{module}:{around}") if around else MISSING
    if found is MISSING:
        found = look_up(module)
    last = qualname.rpartition(".")[2]
    names = _own_names(look_up(module))
    for function in _functions(found, set()):
        if function.__globals__ is not names:
            continue  # what the module has imported is not its own
        for code in _codes(function.__code__):
            if code.co_name == last and print_of_code(code) == print_:
                own = function if code is function.__code__ and not function.__closure__ else None
                return Definition(code, function.__globals__, own)
    return None


def _functions(found: Any, seen: set[int]) -> Iterator[types.FunctionType]:
    """The functions that a definition consists of: what was decorated, and what a class or a module has by name, or in
    a dict or list there."""
    if found is MISSING or id(found) in seen or len(seen) > _MOST_STEPS:
        return
    seen.add(id(found))
    cls = type(found)
    if cls is types.FunctionType:
        yield found
        yield from _functions(vars(found).get("__wrapped__", MISSING), seen)
    elif cls in (staticmethod, classmethod):
        yield from _functions(found.__func__, seen)
    elif cls is property:
        for each in (found.fget, found.fset):
            yield from _functions(each, seen)
    elif issubclass(cls, type | types.ModuleType):
        for each in list(_own_names(found).values()):
            content = (
                list(each.values()) if type(each) is dict else each if type(each) in (list, tuple) else [each]
            )
            for inner in content[:1_000]:
                if type(inner) is types.FunctionType or type(inner) in (staticmethod, classmethod):
                    yield from _functions(inner, seen)


def _own_names(found: Any) -> Any:
    if not issubclass(type(found), type | types.ModuleType):
        return None
    return vars(type if isinstance(found, type) else types.ModuleType)["__dict__"].__get__(found)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    pending = [code]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
