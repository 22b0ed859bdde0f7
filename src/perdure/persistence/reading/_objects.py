"""How objects of the allowed classes get their attributes for a policy file.

No constructor runs, no `__setstate__` of an object, no property and no `__setattr__`. A class that needs its own
`__setstate__` is one that `perdure.register` knows. Knows no files and no pickles.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from perdure.persistence.reading import _class_rules  # fills the tables
from perdure.persistence.reading._allowlist import not_run
from perdure.persistence.reading._classes import (
    ATTRIBUTE_COST,
    ENCODE,
    RULES,
    STATES,
    Charge,
    NotMadeError,
    Rule,
    attribute_fault,
    attributes_of,
    by_class,
    dotted,
    has_own_setstate,
    is_spec,
    registered,
    sets_fields,
)
from perdure.state import slots

del _class_rules


def set_state(obj: Any, state: Any, charge: Charge, *, made_by_call: bool = False) -> None:
    """Give an object the state that a pickle has for it: its attributes, or what the user registered.

    :param made_by_call: whether a builder made it: then what it holds beyond its attributes is there already.
    :raises NotMadeError: if it may not have one of them.
    :raises TypeError: if it is no state.
    """
    cls: Any = type(obj)
    handler = registered(cls) if not made_by_call or has_own_setstate(cls) else None
    if handler is not None:
        handler.restore(obj, state)
        return
    put = _state_of(cls)
    if put is not None:
        put(obj, state, charge)
        return
    own = slots(cls)
    for name, value in _attributes(cls, state, charge):
        if type(name) is not str:
            raise TypeError(f"an attribute's name is a {type(name).__name__}")
        if (fault := attribute_fault(cls, name)) is not None:
            raise NotMadeError(dotted(cls), fault)
        if name in own:
            own[name].__set__(obj, value)
        elif (place := _in_c(cls, name)) is not None:
            place.__set__(obj, value)
        elif name == ENCODE and is_spec(cls):
            attributes_of(obj)[ENCODE] = _own_encode(obj, value)
        else:
            attributes_of(obj)[sys.intern(name)] = value
    for rule in _rules_of(cls):
        rule(obj, charge)


@by_class
def _in_c(cls: type, name: str) -> Any:
    """Where an exception of Python's own keeps an attribute, such as the name of an ImportError."""
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return found if issubclass(cls, BaseException) and type(found) is types.MemberDescriptorType else None


@by_class
def _rules_of(cls: type) -> list[Rule]:
    bases = (dotted(base) for base in reversed(cls.__mro__) if "__setstate__" in vars(base))
    return [RULES[name] for name in bases if name in RULES]


@by_class
def _state_of(cls: type) -> Callable[[Any, Any, Charge], None] | None:
    return next((STATES[dotted(base)] for base in cls.__mro__ if dotted(base) in STATES), None)


def _attributes(cls: type, state: Any, charge: Charge) -> Iterator[tuple[Any, Any]]:
    """The attributes in a state: a dictionary, or a pair of them, the second one for slots; or a dataclass's fields."""
    if type(state) is list and any(sets_fields(base) for base in cls.__mro__):
        names = [field.name for field in dataclasses.fields(cls)]
        yield from zip(names, state, strict=True)
        return
    halves = state if type(state) is tuple and len(state) == 2 else (state,)
    for half in halves:
        if half is None:
            continue
        if type(half) not in (dict, OrderedDict):
            raise TypeError(f"a state of attributes is a {type(half).__name__}")
        charge(ATTRIBUTE_COST * len(half))
        yield from half.items()


def _own_encode(spec: Any, value: Any) -> Any:
    """The method of the spec itself; anything else that a file puts there is refused."""
    if value is not_run:
        return value
    name = value.__name__ if type(value) is types.MethodType else ""
    own = next((vars(base)[name] for base in type(spec).__mro__ if name in vars(base)), None)
    bound = type(value) is types.MethodType and value.__self__ is spec and value.__func__ is own
    if name not in ("_encode_eager", "_encode_memo") or not bound:
        raise NotMadeError(
            dotted(type(spec)),
            f"the file sets its attribute {ENCODE!r} to something else than a method of it",
        )
    return value
