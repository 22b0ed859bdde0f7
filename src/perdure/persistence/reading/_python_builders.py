"""The builders of Python's own values: containers, numbers, times, texts, functions with arguments. Knows no files."""

from __future__ import annotations

import abc
import array
import collections
import datetime
import decimal
import functools
import ipaddress
import itertools
import operator
import pathlib
import re
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from perdure.persistence.reading._allowlist import method_of, not_run
from perdure.persistence.reading._building import ITEM_COST, Builder, Context, Make, expect, items, whole
from perdure.persistence.reading._hashing import insert
from perdure.persistence.reading._objects import NotMadeError, attribute_fault
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
    return _hint(owner, index)


def _hint(owner: Any, index: Any) -> Any:
    """`Optional[int]` and its like, of classes only: what they consist of is looked up as a key."""
    arguments = index if type(index) is tuple else (index,)
    is_hint = type(owner).__module__ == "typing"
    if type(owner) in (type, abc.ABCMeta):
        maker = next((base for base in owner.__mro__ if "__class_getitem__" in vars(base)), None)
        is_hint = maker is not None and maker.__module__ in ("typing", "builtins")
    if not is_hint or any(type(each) is not type and each is not None for each in arguments):
        raise NotMadeError(
            "operator.getitem",
            "it takes an item out of something, which loading does not do, except for type hints of classes. Keep no "
            "other type hints in the policy",
        )
    return owner[index]


def _generic(context: Context, owner: Any, arguments: Any) -> Any:
    return _hint(expect(owner, type), arguments)


def _either(context: Context, function: Any, classes: Any) -> Any:
    """`int | None`, which is written as a reduction."""
    if function is not operator.or_ or any(
        type(each) is not type for each in items(context, classes, (tuple,))
    ):
        raise NotMadeError(
            "functools.reduce", "it is called with something else than the classes of a type hint"
        )
    return functools.reduce(operator.or_, classes)


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


def _iterator(context: Context, state: Any, content: Any) -> Any:
    made = iter(expect(content, (list, tuple)))
    if state is not None:
        made.__setstate__(whole(state))
    return made


def _count(context: Context, start: Any = 0, step: Any = 1) -> Any:
    return itertools.count(expect(start, (int, float)), expect(step, (int, float)))


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
    return cls(expect(content, bytes), expect(zone, datetime.timezone))


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
    began = time.thread_time()
    try:
        # DEBUG prints, TEMPLATE is no longer known.
        return re.compile(text, whole(flags) & ~(re.DEBUG | 1))
    except re.error as error:
        raise MalformedError(
            f"has a regular expression {text!r:.40} that is none ({error!s:.100})"
        ) from error
    finally:
        context.clock.left -= time.thread_time() - began
        if context.clock.left < 0:
            raise MalformedError("has regular expressions that take far too long for a file of its size")


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


def error_base(cls: type) -> type | None:
    """The built-in class that makes an exception of a class, if it keeps nothing but its arguments."""
    base = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    return base if base in _PLAIN_ERRORS and cls.__new__ is base.__new__ else None


_PLAIN_ERRORS = (
    Exception, ArithmeticError, AssertionError, BufferError, EOFError, FloatingPointError, IndexError, KeyError,
    LookupError, MemoryError, NotImplementedError, OverflowError, RecursionError, ReferenceError, RuntimeError,
    TypeError, ValueError, ZeroDivisionError, Warning, UserWarning, DeprecationWarning, RuntimeWarning, FutureWarning,
)  # fmt: skip


def exception(cls: Any, context: Context, *arguments: Any) -> Any:
    """An exception with its arguments; no constructor runs."""
    context.charge(ITEM_COST * len(arguments))
    create: Any = BaseException.__new__
    return create(cls, *arguments)


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


def _container(cls: type) -> Builder:
    return Builder(functools.partial(CONTAINERS[cls], cls), "attributes")


_PATHS = (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()))
_ADDRESSES = (
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
)  # fmt: skip

PYTHON_BUILDERS: dict[str, Builder] = {
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
    "types.GenericAlias": Builder(_generic),
    **dict.fromkeys(("functools.reduce", "_functools.reduce"), Builder(_either)),
    "functools.partial": Builder(_partial, "needed"),
    **{
        f"operator.{cls.__name__}": Builder(functools.partial(_getter, cls), needs_trust=True)
        for cls in (operator.itemgetter, operator.attrgetter, operator.methodcaller)
    },
    "builtins.iter": Builder(_iterator, "optional"),
    "itertools.count": Builder(_count),
    "types.SimpleNamespace": Builder(lambda context: types.SimpleNamespace(), "attributes"),
    "array.array": Builder(_array),
    "array._array_reconstructor": Builder(_raw_array),
    **{
        f"datetime.{cls.__name__}": Builder(functools.partial(_time, cls))
        for cls in (datetime.date, datetime.time, datetime.datetime)
    },
    "datetime.timedelta": Builder(functools.partial(_numbers, datetime.timedelta)),
    "datetime.timezone": Builder(_zone),
    "decimal.Decimal": Builder(_decimal),
    "decimal.Context": Builder(_decimal_context),
    "fractions.Fraction": Builder(_fraction),
    "re._compile": Builder(_pattern),
    **{f"pathlib.{cls.__name__}": Builder(functools.partial(_path, cls)) for cls in _PATHS},
    **{f"ipaddress.{cls.__name__}": Builder(functools.partial(_address, cls)) for cls in _ADDRESSES},
}
