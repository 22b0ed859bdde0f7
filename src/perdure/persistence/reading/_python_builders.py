"""The builders of Python's own values: containers, numbers, times, texts, functions with arguments. Knows no files."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import functools
import ipaddress
import logging
import operator
import os
import pathlib
import re
import time
import types
import zoneinfo
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from perdure.persistence.reading._allowlist import method_of, not_run
from perdure.persistence.reading._building import ITEM_COST, Builder, Context, Make, expect, items, whole
from perdure.persistence.reading._classes import NotMadeError, attribute_fault, dotted
from perdure.persistence.reading._hashing import insert
from perdure.persistence.reading._hint_builders import HINT_BUILDERS, hint
from perdure.persistence.reading._iterator_builders import ITERATOR_BUILDERS
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.state import blank

# -- containers ----------------------------------------------------------------------------------------------


def _set(cls: Any, context: Context, content: Any = ()) -> Any:
    is_frozen = issubclass(cls, frozenset)
    found: set[Any] = set() if is_frozen else blank(cls)
    insert(context.clock, functools.partial(set.add, found), [(item,) for item in items(context, content)])
    return frozenset.__new__(cls, found) if is_frozen else found


def _dict(cls: Any, context: Context, content: Any = ()) -> Any:
    made: Any = blank(cls)
    base = OrderedDict if issubclass(cls, OrderedDict) else dict
    pairs = items(context, content, (dict, list, tuple))
    entries = [_pair(pair) for pair in (pairs.items() if type(pairs) is dict else pairs)]
    insert(context.clock, functools.partial(base.__setitem__, made), entries)
    return made


def _pair(pair: Any) -> tuple[Any, Any]:
    key, value = expect(pair, (list, tuple))
    return key, value


_FACTORIES = (None, int, float, list, dict, set, str, bool, tuple, OrderedDict, collections.deque)


def _defaultdict(cls: Any, context: Context, factory: Any = None, content: Any = ()) -> Any:
    is_plain = any(factory is each for each in _FACTORIES)
    if not is_plain and not callable(factory):
        raise MalformedError("has a defaultdict that makes its values by something that is no function")
    made = _dict(cls, context, content)
    may_run = is_plain or not context.runs_methods or type(factory) in _FUNCTIONS
    made.default_factory = factory if may_run else not_run
    return made


_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


def _deque(cls: Any, context: Context, content: Any = (), length: Any = None) -> Any:
    elements = items(context, content)
    made = collections.deque.__new__(cls)
    collections.deque.__init__(made, elements, None if length is None else whole(length))
    return made


def _list(context: Context, content: Any = ()) -> list[Any]:
    return list(items(context, content))


def _tuple(context: Context, content: Any = ()) -> tuple[Any, ...]:
    return tuple(items(context, content))


def _bytes(context: Context, text: Any = "", encoding: Any = "latin1") -> bytes:
    if expect(encoding, str) not in ("latin1", "latin-1"):
        raise MalformedError("has bytes in an encoding that no pickler uses")
    context.charge(len(expect(text, str)))
    return str.encode(text, "latin1")


def _bytearray(context: Context, content: Any = b"", encoding: Any = "latin1") -> bytearray:
    if type(content) is str:
        return bytearray(_bytes(context, content, encoding))
    context.charge(len(expect(content, bytes)))
    return bytearray(content)


def _class_of(context: Context, value: Any) -> type:
    """So pickles write the classes of None, `...` and NotImplemented."""
    if value is not None and value is not ... and value is not NotImplemented:
        raise MalformedError("makes a class, or asks for one")
    return type(value)


def _method(context: Context, owner: Any, name: Any) -> Callable[..., Any]:
    """So pickles write bound methods."""
    method = method_of(type(owner), expect(name, str), owner)
    if method is None:
        raise MalformedError(f"takes {name!r:.40} of a {type(owner).__name__}, which is no method")
    return not_run if context.runs_methods else method


def _item(context: Context, owner: Any, index: Any) -> Any:
    """The only item of a list: so :mod:`_pickling` writes an object in the place of another one. Or a type hint."""
    if type(owner) is list and len(owner) == 1 and expect(index, int) == 0:
        return owner[0]
    return hint(context, owner, index)


def _partial(context: Context, state: Any, function: Any) -> functools.partial[Any]:
    target, arguments, keywords, attributes = expect(state, tuple)
    if target is not function or not callable(function):
        raise MalformedError("has a functools.partial of something else than a function")
    named: dict[str, Any] = {} if keywords is None else expect(keywords, dict)
    inner = len(function.args) + len(function.keywords) if type(function) is functools.partial else 0
    context.charge(ITEM_COST * (inner + len(expect(arguments, tuple)) + len(named)))
    made = functools.partial(function, *arguments, **named)
    for name, value in {} if attributes is None else expect(attributes, dict).items():
        if attribute_fault(functools.partial, expect(name, str)) is not None:
            raise MalformedError(f"gives a functools.partial the attribute {name!r:.40}")
        made.__dict__[name] = value
    return made


def _getter(cls: Any, context: Context, *what: Any) -> Any:
    """`operator.itemgetter` and its like, which take attributes and call methods: only where they are trusted."""
    names = what if cls is operator.attrgetter else what[:1] if cls is operator.methodcaller else ()
    for name in names:
        expect(name, str)
    return not_run if context.runs_methods else cls(*what)


# -- numbers, times, places, texts ---------------------------------------------------------------------------


def _numbers(cls: Any, context: Context, *numbers: Any) -> Any:
    for number in numbers:
        expect(number, (int, float, type(None)))
    return cls(*numbers)


_LONGEST_NUMBER = 4_000


def _number_text(text: Any) -> str:
    if len(expect(text, str)) > _LONGEST_NUMBER:
        raise MalformedError("has a number of thousands of digits")
    return text  # type: ignore[no-any-return]


def _decimal(context: Context, text: Any) -> decimal.Decimal:
    context.charge(ITEM_COST + len(_number_text(text)))
    return decimal.Decimal(text)


def _decimal_context(context: Context, *settings: Any) -> decimal.Context:
    *plain, flags, traps = settings
    for each in plain:
        expect(each, (int, str))
    for each in (*expect(flags, list), *expect(traps, list)):
        if not any(each is signal for signal in SIGNALS):
            raise MalformedError("has a context of decimal numbers with a signal that is none")
    make: Any = decimal.Context
    return make(*plain, flags, traps)  # type: ignore[no-any-return]


#: What a context of decimal numbers may tell of.
SIGNALS = (
    decimal.Clamped, decimal.DivisionByZero, decimal.FloatOperation, decimal.Inexact, decimal.InvalidOperation,
    decimal.Overflow, decimal.Rounded, decimal.Subnormal, decimal.Underflow,
)  # fmt: skip


def _fraction(context: Context, above: Any, below: Any) -> Fraction:
    for number in (above, below):
        if expect(number, int).bit_length() > _LONGEST_NUMBER:
            raise MalformedError("has a fraction of thousands of digits")
    return Fraction(above, below)


def _path(cls: Any, context: Context, *parts: Any) -> Any:
    for part in parts:
        context.charge(ITEM_COST + 2 * len(expect(part, str)))
    return cls(*parts)


def _slice(context: Context, *parts: Any) -> slice:
    return slice(*parts)


def _time(cls: Any, context: Context, content: Any, zone: Any = None) -> Any:
    """A moment, a day or a time of day, which pickles write as bytes."""
    if zone is None:
        return cls(expect(content, bytes))
    if issubclass(type(zone), datetime.tzinfo) and type(zone) not in ZONES:
        raise NotMadeError(
            dotted(type(zone)),
            "it is the zone of a moment, and moments ask their zones while they are made. Use zoneinfo.ZoneInfo or "
            "datetime.timezone, or save the policy's state dictionary",
        )
    return cls(expect(content, bytes), expect(zone, ZONES))


#: Zones that are asked in C.
ZONES = (datetime.timezone, zoneinfo.ZoneInfo)
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,3}", re.ASCII)


def _named_zone(context: Context, name: Any, kept: Any = True) -> zoneinfo.ZoneInfo:
    """A zone of this machine's own table of zones; a zone may be in no other place."""
    context.charge(_ZONE_COST)
    there = [os.path.join(path, name) for path in zoneinfo.TZPATH if _ZONE_NAME.fullmatch(expect(name, str))]
    if not any(map(os.path.isfile, there)):
        raise NotMadeError(
            "zoneinfo.ZoneInfo",
            f"this machine has no zone {name!r:.40} in {os.pathsep.join(zoneinfo.TZPATH)}. Install the operating "
            "system's table of zones (tzdata), or keep the zone's name in the policy",
        )
    with context.clock.running():
        return zoneinfo.ZoneInfo(name) if expect(kept, (bool, int)) else zoneinfo.ZoneInfo.no_cache(name)


_ZONE_COST = 60_000


def _structure(cls: Any, context: Context, numbers: Any, more: Any = None) -> Any:
    """A moment as the `time` module has it, and its like: numbers with names."""
    for number in (*items(context, numbers, (tuple,)), *expect({} if more is None else more, dict).values()):
        expect(number, (int, float, str, type(None)))
    return cls(numbers, {} if more is None else more)


def _logger(context: Context, name: Any = None) -> logging.Logger:
    """The process's own logger of that name. Its class is not asked to make another one."""
    if name is not None and len(expect(name, str)) > _LONGEST_NAME:
        raise MalformedError("has a logger whose name is far too long")
    if name not in logging.root.manager.loggerDict and logging.getLoggerClass() is not logging.Logger:
        raise NotMadeError(
            dotted(logging.getLoggerClass()),
            f"it makes the loggers of this process, which has none called {name!r:.40} yet. Get it before the policy "
            "is loaded: logging.getLogger(...)",
        )
    context.charge(_LOGGER_COST)
    with context.clock.running():
        return logging.getLogger(name)


_LONGEST_NAME = 200
_LOGGER_COST = 2_000


def _zone(context: Context, offset: Any, name: Any = None) -> datetime.timezone:
    expect(offset, datetime.timedelta)
    return datetime.timezone(offset) if name is None else datetime.timezone(offset, expect(name, str))


def _address(cls: Any, context: Context, address: Any) -> Any:
    if type(address) is not int and len(expect(address, str)) > _LONGEST_ADDRESS:
        raise MalformedError("has an address of the internet that is none")
    return cls(address)


_LONGEST_ADDRESS = 100
_LONGEST_PATTERN = 2_000


def _pattern(context: Context, text: Any, flags: Any) -> re.Pattern[Any]:
    if len(expect(text, (str, bytes))) > _LONGEST_PATTERN:
        raise MalformedError(f"has a regular expression of more than {_LONGEST_PATTERN:,} letters")
    context.charge(ITEM_COST * len(text))
    try:
        with context.clock.running():
            # DEBUG prints, TEMPLATE is no longer known.
            return re.compile(text, whole(flags) & ~(re.DEBUG | 1))
    except re.error as error:
        raise MalformedError(
            f"has a regular expression {text!r:.40} that is none ({error!s:.100})"
        ) from error


_LETTERS = "bBhHiIlLqQfd"


def _array(context: Context, letter: Any, numbers: Any) -> array.array[Any]:
    for number in items(context, numbers, (list,)):
        expect(number, (int, float))
    return array.array(_array_letter(letter), numbers)


def _raw_array(context: Context, cls: Any, letter: Any, code: Any, content: Any) -> array.array[Any]:
    if cls is not array.array:
        raise MalformedError("has an array of a class of its own")
    context.charge(2 * len(expect(content, bytes)))
    rebuild: Any = array._array_reconstructor  # type: ignore[attr-defined]
    return rebuild(array.array, _array_letter(letter), whole(code, 21), content)  # type: ignore[no-any-return]


def _array_letter(letter: Any) -> Any:
    if len(expect(letter, str)) != 1 or letter not in _LETTERS:
        raise MalformedError(f"has an array of {letter!r:.40}, which is no type of numbers")
    return letter


# -- errors --------------------------------------------------------------------------------------------------


def makes_error(cls: type) -> bool:
    """Whether an exception of a class is made of its arguments and attributes alone. One that says itself how it is
    pickled (`__reduce__`) may have attributes that only its constructor knows."""
    base = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    says = next(each for each in cls.__mro__ if "__reduce__" in vars(each))
    plain = base in _PLAIN_ERRORS or cls is base
    return plain and cls.__new__ is base.__new__ and says.__module__ == "builtins"


_PLAIN_ERRORS = (
    Exception, ArithmeticError, AssertionError, BufferError, EOFError, FloatingPointError, IndexError, KeyError,
    LookupError, MemoryError, NotImplementedError, OverflowError, RecursionError, ReferenceError, RuntimeError,
    TypeError, ValueError, ZeroDivisionError, Warning, UserWarning, DeprecationWarning, RuntimeWarning, FutureWarning,
)  # fmt: skip


def exception(cls: Any, context: Context, *arguments: Any) -> Any:
    """An exception with its arguments; no constructor runs but those of Python's own classes."""
    context.charge(_ERROR_COST + ITEM_COST * len(arguments))
    if cls.__module__ != "builtins" or cls in _PLAIN_ERRORS:
        create: Any = BaseException.__new__
        return create(cls, *arguments)
    for argument in arguments:
        is_list = type(argument) in (list, tuple)
        for part in argument[:_MOST_IN_A_GROUP] if is_list else (argument,):
            if type(part) not in _IN_ERRORS and not issubclass(type(part), BaseException):
                raise MalformedError(f"has a {cls.__name__} of a {type(part).__name__}")
        if is_list and len(argument) > _MOST_IN_A_GROUP:
            raise MalformedError(f"has a {cls.__name__} of far too much")
    return cls(*arguments)


_ERROR_COST = 200
_MOST_IN_A_GROUP = 1_000
_IN_ERRORS = (str, bytes, int, float, bool, type(None))


# -- the table -----------------------------------------------------------------------------------------------

#: Classes of containers, which may be derived from.
CONTAINERS: dict[type, Make] = {
    OrderedDict: _dict,
    collections.Counter: _dict,
    collections.defaultdict: _defaultdict,
    dict: _dict,
    collections.deque: _deque,
    set: _set,
    frozenset: _set,
}


def is_container(cls: type, base: type) -> bool:
    """Whether objects of a class of containers are pickled as those of its base are: with their content as arguments,
    and their attributes as the state. Some bases leave out the attributes, which a constructor then sets again."""
    same = all(getattr(cls, name) is getattr(base, name) for name in ("__reduce__", "__reduce_ex__"))
    keeps = base not in (collections.Counter, collections.defaultdict)
    return same and (keeps or cls.__init__ is base.__init__)  # type: ignore[misc]


def _container(cls: type) -> Builder:
    return Builder(functools.partial(CONTAINERS[cls], cls), "attributes")


_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()))
_ADDRESSES = (
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
)  # fmt: skip

PYTHON_BUILDERS: dict[str, Builder] = {
    **HINT_BUILDERS,
    **ITERATOR_BUILDERS,
    **{f"{cls.__module__}.{cls.__qualname__}": _container(cls) for cls in CONTAINERS},
    "builtins.list": Builder(_list),
    "builtins.tuple": Builder(_tuple),
    "builtins.bytes": Builder(_bytes),
    "builtins.bytearray": Builder(_bytearray),
    "builtins.complex": Builder(functools.partial(_numbers, complex)),
    "builtins.slice": Builder(_slice),
    "builtins.range": Builder(functools.partial(_numbers, range)),
    "builtins.type": Builder(_class_of),
    "builtins.getattr": Builder(_method),
    "_codecs.encode": Builder(_bytes),
    "_operator.getitem": Builder(_item),
    "functools.partial": Builder(_partial, "needed"),
    **{
        f"operator.{cls.__name__}": Builder(functools.partial(_getter, cls), needs_trust=True)
        for cls in (operator.itemgetter, operator.attrgetter, operator.methodcaller)
    },
    "types.SimpleNamespace": Builder(lambda context: types.SimpleNamespace(), "attributes"),
    "array.array": Builder(_array),
    "array._array_reconstructor": Builder(_raw_array),
    **{
        f"datetime.{cls.__name__}": Builder(functools.partial(_time, cls))
        for cls in (datetime.date, datetime.time, datetime.datetime)
    },
    "datetime.timedelta": Builder(functools.partial(_numbers, datetime.timedelta)),
    "datetime.timezone": Builder(_zone),
    "zoneinfo.ZoneInfo._unpickle": Builder(_named_zone),
    **{
        f"{cls.__module__}.{cls.__name__}": Builder(functools.partial(_structure, cls))
        for cls in (time.struct_time, os.terminal_size)
    },
    "logging.getLogger": Builder(_logger),
    "decimal.Decimal": Builder(_decimal),
    "decimal.Context": Builder(_decimal_context),
    "fractions.Fraction": Builder(_fraction),
    "re._compile": Builder(_pattern),
    **{f"pathlib.{cls.__name__}": Builder(functools.partial(_path, cls)) for cls in _PATHS},
    **{f"ipaddress.{cls.__name__}": Builder(functools.partial(_address, cls)) for cls in _ADDRESSES},
}
