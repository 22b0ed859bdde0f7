"""What holds something outside of objects: how its carriers are read, written and called. Knows no checkpoints."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable, Mapping
from typing import Any

from perdure.tree import PLAIN_TYPES

MISSING: Any = object()
DEFAULTS = ("__defaults__", "__kwdefaults__")
CLOSURE = "<closure>."
CACHE = "<cache>"
#: Classes keep them for themselves.
_INTERNAL = frozenset({"_abc_impl", "_is_protocol", "_is_runtime_protocol"})


def is_hidden(name: Any) -> bool:
    """Whether a name is one of Python's own, such as `__doc__`."""
    return type(name) is not str or (name.startswith("__") and name.endswith("__")) or name in _INTERNAL


class Variables:
    """The variables of a module."""

    def __init__(self, name: str, names: dict[str, Any]) -> None:
        self.name = name
        self.names = names
        self.prefix = f"{name}:"

    def values(self) -> list[Any]:
        """What it holds, in the order of `keys`; fast."""
        return list(self.names.values())

    def keys(self) -> list[Any]:
        """The keys of all that it holds."""
        return list(self.names)

    def get(self, key: str) -> Any:
        """What it holds under a key, or MISSING."""
        return self.names.get(key, MISSING)

    def set(self, key: str, value: Any) -> None:
        """Let it hold something else."""
        self.names[key] = value

    def describe(self, key: str) -> str:
        """A carrier for people."""
        return f"the variable {key} of the module {self.name}"


class Attributes:
    """The attributes of a class."""

    def __init__(self, prefix: str, cls: type) -> None:
        self.cls = cls
        self.prefix = f"{prefix}."
        self.names: Mapping[str, Any] = vars(type)["__dict__"].__get__(cls)

    def values(self) -> list[Any]:
        return list(self.names.values())

    def keys(self) -> list[Any]:
        return list(self.names)

    def get(self, key: str) -> Any:
        return self.names.get(key, MISSING)

    def set(self, key: str, value: Any) -> None:
        # Of the class itself: a metaclass might run code.
        type.__setattr__(self.cls, key, value)

    def describe(self, key: str) -> str:
        return f"the attribute {key} of the class {_shown(self.prefix[:-1])}"


class Function:
    """A function: its default arguments, its own attributes, and the variables that it closes over."""

    def __init__(self, prefix: str, function: types.FunctionType) -> None:
        self.function = function
        self.prefix = f"{prefix}."
        names = function.__code__.co_freevars
        self.cells = dict(zip((CLOSURE + name for name in names), function.__closure__ or (), strict=True))

    def values(self) -> list[Any]:
        function = self.function
        found: list[Any] = [function.__defaults__, function.__kwdefaults__]
        if self.cells:
            found += map(_content, self.cells.values())
        if names := function.__dict__:
            found += names.values()
        return found

    def keys(self) -> list[Any]:
        return [*DEFAULTS, *self.cells, *self.function.__dict__]

    def get(self, key: str) -> Any:
        if key in DEFAULTS:
            return getattr(self.function, key)
        if key in self.cells:
            return _content(self.cells[key])
        return self.function.__dict__.get(key, MISSING)

    def set(self, key: str, value: Any) -> None:
        if key in DEFAULTS:
            setattr(self.function, key, value)
        elif key in self.cells:
            self.cells[key].cell_contents = value
        else:
            self.function.__dict__[key] = value

    def describe(self, key: str) -> str:
        whose = _shown(self.prefix[:-1])
        if key in DEFAULTS:
            return f"a default argument of the function {whose}"
        if key in self.cells:
            return f"the variable {key.removeprefix(CLOSURE)} that the function {whose} closes over"
        return f"the attribute {key} of the function {whose}"


class Cache:
    """What `functools.lru_cache` keeps for a function: what it returned for which arguments."""

    def __init__(self, prefix: str, cached: Any) -> None:
        self.cached = cached
        self.prefix = f"{prefix}."
        self._last: tuple[Any, Any] = (None, None)

    def values(self) -> list[Any]:
        info = self.cached.cache_info()
        if self._last[0] != info:
            self._last = (info, self._content())
        return [self._last[1]]

    def keys(self) -> list[Any]:
        return [CACHE]

    def get(self, key: str) -> Any:
        return self.values()[0] if key == CACHE else MISSING

    def set(self, key: str, value: Any) -> None:
        fill_cache(self.cached, value)
        self._last = (None, None)

    def describe(self, key: str) -> str:
        return f"what functools.lru_cache keeps for the function {_shown(self.prefix[:-1])}"

    def _content(self) -> Any:
        found = read_cache(self.cached)
        return UNREADABLE if found is None else found


Holder = Variables | Attributes | Function | Cache


class _Unreadable:
    """Stands for the content of a cache that cannot be read."""


UNREADABLE = _Unreadable()


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def _shown(path: str) -> str:
    module, _, rest = path.partition(":")
    return rest if module in ("__main__", "__mp_main__") else f"{module}.{rest}"


# -- caches ---------------------------------------------------------------------------------------------------------


def read_cache(cached: Any) -> dict[Any, Any] | None:
    """The results that a cache keeps, by positional and keyword arguments; the least recently used first.

    None if they cannot be read, or if an argument is no plain value: such a result could not be found again.
    """
    # CPython lists what a cache refers to: the entries, the dict of the entries, the function, the mark between
    # arguments and keyword arguments, two classes, and the attributes of the cache.
    _, *entries, content, _, mark, link, _, _ = gc.get_referents(cached)
    if type(content) is not dict or len(content) != cached.cache_info().currsize:
        return None
    pairs: Iterable[tuple[Any, Any]] = content.items()
    if any(type(each) is link for each in content.values()):
        if len(entries) != 3 * len(content):
            return None
        pairs = zip(entries[0::3], entries[1::3], strict=True)
    typed = cached.cache_parameters()["typed"]
    found = {}
    for key, result in pairs:
        arguments = _arguments(key, mark, typed)
        if arguments is None:
            return None
        found[arguments] = result
    return found


def _arguments(key: Any, mark: Any, typed: bool) -> tuple[Any, ...] | None:
    """The positional and the keyword arguments of a call, by the key of its result."""
    parts = key if type(key) is tuple else (key,)
    position = next((at for at, part in enumerate(parts) if part is mark), len(parts))
    positional, rest = parts[:position], parts[position + 1 :]
    if typed and position == len(parts):
        positional = parts[: len(parts) // 2]  # the types of the arguments follow
    elif typed:
        rest = rest[: 2 * (len(rest) - len(positional)) // 3]
    keywords = tuple(zip(rest[0::2], rest[1::2], strict=True))
    if not is_plain(positional) or not all(is_plain(value) for _, value in keywords):
        return None
    # One and True are equal, and may have two results.
    types_ = tuple(type(value).__name__ for value in (*positional, *(each for _, each in keywords)))
    return positional, keywords, types_ if typed else ()


def is_plain(value: Any) -> bool:
    """Whether an argument is a plain value, or a tuple of such."""
    if type(value) is tuple:
        return all(map(is_plain, value))
    return type(value) in PLAIN_TYPES or type(value) in (bytes, complex)


def fill_cache(cached: Any, content: Mapping[Any, Any]) -> None:
    """Let a cache keep these results. What the function does is not run: it is called with other code meanwhile."""
    function = cached.__wrapped__
    own = function.__code__
    cached.cache_clear()
    try:
        for (positional, keywords, _), result in content.items():
            function.__code__ = _returning(result, own)
            cached(*positional, **dict(keywords))
    finally:
        function.__code__ = own


_SIGN = "stands for the result"


def _give(*args: Any, **kwargs: Any) -> Any:
    return "stands for the result"


def _returning(result: Any, own: types.CodeType) -> types.CodeType:
    """Code for a function whose own code is `own`: it takes any arguments and returns `result`."""
    constants = tuple(result if each == _SIGN else each for each in _give.__code__.co_consts)
    return _give.__code__.replace(co_consts=constants, co_freevars=own.co_freevars)
