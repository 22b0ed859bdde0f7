"""Which classes objects are made of for a policy file, and which attributes they may have.

What keeps an object from being made blank, and which attributes would take the place of a method, is said by
`perdure.state` for checkpoints and policy files alike. Knows no files and no pickles.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from perdure.state import Handler, blank, hindrance, is_native, known, slots, unassignable

Charge: TypeAlias = Callable[[int], None]
"""Asked for so many bytes of memory before they are taken."""

Rule: TypeAlias = Callable[[Any, Charge], None]
"""What a class adds to the attributes in a file."""

ATTRIBUTE_COST = 100
TABLE_COST = 250
#: What a class adds to the attributes in a file, by its dotted name; `_class_rules` fills the table.
RULES: dict[str, Rule] = {}
#: Classes whose state is none of attributes.
STATES: dict[str, Callable[[Any, Any, Charge], None]] = {}


class NotMadeError(Exception):
    """An allowed class that no file may make an object of, or may not give this attribute; `name` is the class."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def dotted(cls: type) -> str:
    """The full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


_Function = TypeVar("_Function", bound=Callable[..., Any])


def by_class(function: _Function) -> _Function:
    """Keep what a function says of a class. By the class's identity: a metaclass may hash in Python."""
    known_ones: dict[tuple[int, Any], tuple[type, Any]] = {}

    @functools.wraps(function)
    def once(cls: type, *more: Any) -> Any:
        found = known_ones.get((id(cls), more))
        if found is None:
            if len(known_ones) >= _MOST_KEPT:
                known_ones.clear()
            found = known_ones[id(cls), more] = cls, function(cls, *more)
        return found[1]

    return once  # type: ignore[return-value]


_MOST_KEPT = 10_000


def attributes_of(obj: Any) -> dict[str, Any]:
    """The dictionary of an object's attributes itself."""
    found: dict[str, Any] = object.__getattribute__(obj, "__dict__")
    return found


_NEVER = (type, enum.Enum, types.ModuleType, types.FunctionType, torch.Tensor, np.ndarray, np.generic)
_IMMUTABLE = (tuple, int, float, str, bytes, complex, frozenset)


def why_not_made(cls: type) -> str | None:
    """Why no object of an allowed class is made, with the remedy; None if one is."""
    name = cls.__qualname__
    if registered(cls) is not None:
        return None
    if _is_more_than_attributes(cls):
        return (
            f"its objects hold more than attributes. Register how they are made: perdure.register({name}, capture=..., "
            "restore=..., create=...)"
        )
    return why_not_filled(cls)


def why_not_filled(cls: type) -> str | None:
    """Why no object of a class gets what a file says, with the remedy; None if it does."""
    if registered(cls) is not None:
        return None
    match hindrance(cls):
        case "finalizer":
            return (
                "it has a finalizer (__del__), which would act on what the file says. If that is harmless, register "
                f"it: {register_line(cls)}"
            )
        case "abstract":
            return "it is an abstract class. Use the versions of the libraries that wrote the file"
    if has_own_setstate(cls):
        return (
            f"it has a __setstate__ of its own, which loading does not run. Register it: {register_line(cls)}"
        )
    return None


def registered(cls: type) -> Handler | None:
    """What was registered for a class that could not be made without; None for one that is made by its attributes."""
    if _is_made_by_attributes(cls):
        return None
    about = known(cls)
    if about.structural and not issubclass(cls, torch.nn.Module):
        return None  # an environment: what is known of it is how to restore one that is there
    return handler_of(cls)


def handler_of(cls: type) -> Handler | None:
    """What was registered for a class. What a class offers itself (`__perdure_restore__`) is code of the class, and
    made for the state in a checkpoint: it has no part in this. Nor has what is known of locks, queues and buffers in
    memory: no policy file has them."""
    entry = known(cls).entry
    return entry if type(entry) is Handler and entry.makes is None else None


@by_class
def _is_made_by_attributes(cls: type) -> bool:
    return not (hindrance(cls) == "finalizer" or _is_more_than_attributes(cls) or has_own_setstate(cls))


@by_class
def _is_more_than_attributes(cls: type) -> bool:
    return issubclass(cls, _NEVER) or (is_native(cls) and not issubclass(cls, _IMMUTABLE))


@by_class
def has_own_setstate(cls: type) -> bool:
    """Whether a class sets its state itself, in a way that is not known here."""
    return any("__setstate__" in vars(base) and not _has_rule(base) for base in cls.__mro__)


def _has_rule(base: type) -> bool:
    return dotted(base) in RULES or dotted(base) in STATES or sets_fields(base)


def sets_fields(cls: type) -> bool:
    """Whether a class sets its state as Python makes a frozen dataclass with slots do it: a list of its fields."""
    return cls.__dict__.get("__setstate__") is _SETS_FIELDS


_SETS_FIELDS: Any = vars(dataclasses)["_dataclass_setstate"]


def register_line(cls: type) -> str:
    """The line that a user needs for a class that sets its own state, or that acts when it is made or is a key."""
    name = cls.__qualname__
    if hasattr(cls, "__setstate__"):
        restore = f"{name}.__setstate__"
    elif slots(cls):
        restore = (
            "lambda obj, state: [setattr(obj, *each) for part in state if part for each in part.items()]"
        )
    else:
        restore = "lambda obj, state: vars(obj).update(state)"
    return f"perdure.register({name}, capture={name}.__getstate__, restore={restore})"


def create_line(cls: type, arguments: str = "__reduce__()[1]") -> str:
    """The line that a user needs for a class whose objects are made with arguments."""
    name = cls.__qualname__
    make = (
        f"{name}(*arguments)" if arguments.startswith("__reduce__") else f"{name}.__new__({name}, *arguments)"
    )
    return f"perdure.register({name}, capture=lambda obj: obj.{arguments}, create=lambda arguments: {make})"


def creator(cls: type) -> Callable[[Any], Any] | None:
    """What the user registered to make objects of a class from arguments."""
    handler = handler_of(cls)
    create = None if handler is None else handler.create
    ours = str(getattr(create, "__module__", "")).startswith("perdure.")
    return None if ours or known(cls).structural else create


def make(cls: type, arguments: tuple[Any, ...]) -> Any:
    """An object of a class without attributes; of an immutable one, with its value.

    :raises NotMadeError: if only the class itself could make it.
    """
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        fields: Any = cls._fields
        if len(fields) == len(arguments):
            return tuple.__new__(cls, arguments)
    for base in _IMMUTABLE:
        if issubclass(cls, base) and len(arguments) == 1 and type(arguments[0]) is base:
            create: Any = base.__new__
            return create(cls, arguments[0])
    makes_itself: Any = cls.__new__
    if arguments and makes_itself is not object.__new__:
        create = creator(cls)
        if create is None:
            raise NotMadeError(
                dotted(cls),
                "it is made with arguments for __new__, which loading does not run. If it may get what a file says, "
                f"register it: {create_line(cls, '__getnewargs__()')}",
            )
        made = create(arguments)
        if type(made) is not cls:
            raise NotMadeError(dotted(cls), f"what is registered for it made a {type(made).__name__}")
        return made
    return blank(cls)


@by_class
def attribute_fault(cls: type, name: str) -> str | None:
    """Why a file may not give an object of a class this attribute, or None if it may."""
    if name in slots(cls) or name in _HARMLESS or (name == ENCODE and is_spec(cls)):
        return None
    if unassignable(cls, name, ()) is not None:
        return (
            f"the file sets its attribute {name!r}, which is a method of the class or a special attribute. If the "
            "policy is yours, give the attribute another name, or save its state dictionary "
            "(PolicyPersistence.Mode.POLICY_STATE_DICT)"
        )
    return None


#: Special attributes that objects have of their own, and that Python does not act upon.
_HARMLESS = (
    "__name__",
    "__qualname__",
    "__doc__",
    "__module__",
    "__orig_class__",
    "__notes__",
    "__networkx_cache__",
)


#: The constructors of TorchRL's specs set this to one of two methods that they have.
ENCODE = "encode"


@by_class
def is_spec(cls: type) -> bool:
    """Whether a class is one of TorchRL's specs."""
    return any(dotted(base) == "torchrl.data.tensor_specs.TensorSpec" for base in cls.__mro__)
