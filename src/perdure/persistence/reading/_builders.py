"""The functions that a policy file may call, and what is done in their place.

A pickle makes what is no plain object by calling a function: a tensor, an array, a generator, a set. Those in the table
here are understood, each by a few lines of our own that check the arguments; the functions themselves are not called.
So are a few kinds of classes that are allowed: containers, exceptions, enumerations, and what the user registered.
No other function is. Knows no files.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import types
from collections.abc import Callable
from enum import EnumType, Flag
from typing import Any

import numpy as np
import torch

from perdure.persistence.reading._building import Builder, Context, expect
from perdure.persistence.reading._classes import NotMadeError, create_line, creator, dotted, why_not_filled
from perdure.persistence.reading._hashing import MOST_PARTS
from perdure.persistence.reading._numpy_builders import NUMPY_BUILDERS
from perdure.persistence.reading._pickle_steps import NEW_WITH_NAMES, MalformedError
from perdure.persistence.reading._python_builders import (
    CONTAINERS,
    PYTHON_BUILDERS,
    exception,
    is_container,
    makes_error,
)
from perdure.persistence.reading._torch_builders import TORCH_BUILDERS


def _with_names(context: Context, cls: Any, arguments: Any, named: Any) -> Any:
    """An object of a class whose `__new__` takes named arguments: what the user registered makes it."""
    create = creator(cls) if isinstance(cls, type) else None
    if create is None:
        name = getattr(cls, "__qualname__", "?")
        raise NotMadeError(
            dotted(cls) if isinstance(cls, type) else "copyreg.__newobj_ex__",
            "it is made with named arguments for __new__, which loading does not run. If it may get what a file says, "
            f"register it: perdure.register({name}, capture=lambda obj: obj.__getnewargs_ex__(), "
            f"create=lambda both: {name}.__new__({name}, *both[0], **both[1]))",
        )
    return _created(cls, create, context, expect(arguments, tuple), expect(named, dict))


BUILDERS: dict[str, Builder] = {
    **PYTHON_BUILDERS,
    **TORCH_BUILDERS,
    **NUMPY_BUILDERS,
    NEW_WITH_NAMES.dotted: Builder(_with_names, "attributes"),
}


def of_class(cls: type) -> Builder | None:
    """What is done where a file calls an allowed class; None where nothing is."""
    if isinstance(cls, EnumType):
        return Builder(functools.partial(_member, cls))
    create = creator(cls)
    if create is not None:
        return Builder(functools.partial(_created, cls, create), "attributes")
    base = next((base for base in CONTAINERS if issubclass(cls, base)), None)
    if base is not None and is_container(cls, base):
        return Builder(functools.partial(CONTAINERS[base], cls), "attributes")
    if issubclass(cls, BaseException) and makes_error(cls):
        return Builder(functools.partial(exception, cls), "attributes")
    return None


def why_not_called(found: Any) -> str | None:
    """Why nothing is done where a file calls what is not in the table, with the remedy; None if something is."""
    if not isinstance(found, type):
        return (
            "it is called, and loading calls nothing that a file names. Keep what it makes as plain values, or save "
            "the policy's state dictionary"
        )
    if of_class(found) is None:
        return (
            "it is called, and loading calls no constructor. If it may be called with what a file says, register it: "
            f"{create_line(found)}"
        )
    return None if isinstance(found, EnumType) or creator(found) is not None else why_not_filled(found)


def _created(cls: type, create: Callable[[Any], Any], context: Context, *arguments: Any) -> Any:
    """What the user registered makes it; it gets the arguments."""
    made = create(arguments)
    if type(made) is not cls:
        raise NotMadeError(dotted(cls), f"what is registered for it made a {type(made).__name__}")
    return made


def _member(cls: Any, context: Context, value: Any) -> Any:
    """The member of an enumeration that has this value; its class is not asked."""
    if not _is_plain(value):
        raise NotMadeError(
            dotted(cls), "its member has a value that is no plain one. Keep the member's name in the policy"
        )
    with context.clock.running():
        for member in vars(cls)["_member_map_"].values():
            inner = member._value_
            if type(inner) is type(value) and (inner is value or (_is_plain(inner) and inner == value)):
                return member
    if issubclass(cls, Flag) and type(value) is int:
        return _combined(cls, value)
    raise MalformedError(
        f"has a member {value!r:.80} of {cls.__qualname__}, which that enumeration has not (any more)"
    )


def _combined(cls: Any, value: int) -> Any:
    """Several flags at once, as Python's own `Flag` makes them of their number."""
    owner = next(base for base in cls.__mro__ if "_missing_" in vars(base))
    if owner is not Flag:
        raise NotMadeError(dotted(cls), "it finds its combined members by code of its own (_missing_)")
    found = cls._value2member_map_.get(value)
    if found is not None:
        return found
    if value.bit_length() > _MOST_FLAGS:
        raise MalformedError(f"has more flags than a {cls.__qualname__} has")
    return vars(Flag)["_missing_"].__func__(cls, value)


_MOST_FLAGS = 1_000
_PLAIN: tuple[Any, ...] = (
    *(str, int, float, bool, bytes, complex, type(None), type(...), range),
    *(datetime.date, datetime.timedelta, decimal.Decimal, fractions.Fraction, torch.dtype, torch.device),
    *(
        cls
        for cls in vars(np).values()
        if isinstance(cls, type) and issubclass(cls, np.generic) and cls is not np.void
    ),
)
#: Compared by what they are themselves.
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)


def _is_plain(value: Any) -> bool:
    """Whether a value consists of plain ones, so that no class is asked whether it equals another."""
    stack, count = [value], 0
    while stack and count < MOST_PARTS:
        each = stack.pop()
        count += 1
        if type(each) is tuple:
            stack.extend(each[:MOST_PARTS])
        elif type(each) not in _PLAIN and type(each) not in _NAMED:
            return False
    return not stack
