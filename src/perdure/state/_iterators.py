"""Iterators: what they go over and where they are, and how they are made again. Knows no walks and no files.

Python shows what its iterators are made of when it copies them. Each is recorded as a tuple of such parts, so what it
goes over is shared with whatever else holds it. On restoring, the script's own iterator is set to the recorded position
where Python allows that, and otherwise one is made anew. No code of the script runs to advance one.
"""

from __future__ import annotations

import collections
import functools
import itertools
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from perdure.state._class_names import class_name
from perdure.state._registry import Handler, register_handler
from perdure.state._values import Unsupported
from perdure.tree import Omitted

Parts = tuple[Any, ...]

REMEDY = (
    "Keep what it goes over and a counter in the world instead, and make the iterator anew from them, or leave it "
    "out: perdure.skip"
)


@dataclass(frozen=True, kw_only=True)
class IteratorHandler(Handler):
    """How iterators of one class are captured and made again.

    :param make: makes an iterator of its parts. What the parts contain may not be filled yet.
    :param reuse: whether a live iterator, with parts of its own, can become the one that has the saved parts. Then it
        does, or `place` makes it do so.
    :param place: once everything is filled, sets an iterator to its position.
    :param filled: whether the containers among the parts must be filled before `make`.
    :param function: the number of a part that is a function, or None; then the last part is its name.
    """

    make: Callable[[Parts], Any]
    reuse: Callable[[Any, Parts, Parts], bool]
    place: Callable[[Any, Parts], None] | None = None
    filled: bool = False
    function: int | None = None

    def rebuild(self, live: Any, parts: Parts) -> Any:
        """The live iterator (or None), if it can become the saved one, or else a new one."""
        if live is not None:
            try:
                if self.reuse(live, self.capture(live), parts):
                    return live
            except (Unsupported, RuntimeError):
                pass  # it was changed beyond use
        return self.make(parts)

    def left_out_function(self, payload: Any) -> str | None:
        """The name of a saved iterator's function, if the function itself was left out; else None."""
        items = getattr(payload, "items", None)
        if self.function is None or not items or not isinstance(items[self.function], Omitted):
            return None
        return items[-1] if isinstance(items[-1], str) else None


#: The classes of iterators by their recorded names.
CLASSES: dict[str, type] = {}


def register_iterator(cls: type, capture: Callable[[Any], Parts], **how: Any) -> None:
    def parts(live: Any) -> Parts:
        if type(live) is not cls:
            raise Unsupported(
                f"a subclass of {cls.__qualname__}. {REMEDY}({type(live).__qualname__}, 'reason')"
            )
        return capture(live)

    def restore(live: Any, saved: Any) -> None:
        raise TypeError("an iterator is not restored by its handler")

    CLASSES[class_name(cls)] = cls
    form = None if how.get("function") is None else lambda live: str((parts(live) or ("",))[-1])
    register_handler(cls, IteratorHandler(parts, restore, how["make"], form, **how))


def reduced(live: Any) -> tuple[Parts, Any]:
    """What Python copies an iterator from: its arguments, and its further state or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            reduced = live.__reduce__()
        except TypeError as error:
            raise Unsupported(unreadable(type(live))) from error
    if len(reduced) < 2 or isinstance(reduced[0], types.FunctionType) or "__newobj__" in str(reduced[0]):
        raise Unsupported(unreadable(type(live)))
    return reduced[1], reduced[2] if len(reduced) > 2 else None


def unreadable(cls: type) -> str:
    return f"this version of Python does not tell where it is. {REMEDY}({cls.__qualname__}, 'reason')"


def advance(live: Iterator[Any], count: int) -> None:
    collections.deque(itertools.islice(live, count), maxlen=0)


def same(ours: Iterable[Any], theirs: Iterable[Any]) -> bool:
    return all(a is b for a, b in itertools.zip_longest(ours, theirs, fillvalue=Missing))


class Missing:
    """Stands for what is not there."""


def advanced(live: Iterator[Any], count: int) -> Iterator[Any]:
    advance(live, count)
    return live


# -- iterators over iterators ---------------------------------------------------------------------------------


def _itself(self: Any) -> Any:
    return self


def inner(live: Any) -> Any:
    """An iterator that another one goes over.

    :raises Unsupported: if to give it to another one again would run code of the script.
    """
    cls: Any = type(live)
    if class_name(cls) not in CLASSES and cls is not types.GeneratorType:
        code = getattr(getattr(cls, "__iter__", None), "__code__", None)
        if getattr(code, "co_code", None) != _itself.__code__.co_code:
            raise Unsupported(
                f"it goes over a {cls.__qualname__}, whose __iter__ does more than `return self`. Hold that in the "
                f"world, and advance it yourself"
            )
    return live


def inners(lives: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(inner(live) for live in lives)


def same_parts(live: Any, own: Parts, parts: Parts) -> bool:
    return len(own) == len(parts) and all(a is b or equal(a, b) for a, b in zip(own, parts, strict=True))


def equal(a: Any, b: Any) -> bool:
    if type(a) is tuple and type(b) is tuple:
        return len(a) == len(b) and all(map(equal, a, b))
    return a is b or (type(a) is type(b) and type(a) in (int, str, bool, float, type(None)) and a == b)


def behind(function: Any) -> tuple[Any, ...]:
    """What a function acts on, where it belongs to an object."""
    if isinstance(function, functools.partial):
        return (*behind(function.func), function.args, function.keywords)
    owner = getattr(function, "__self__", None)
    return () if owner is None or isinstance(owner, types.ModuleType | type) else (owner,)


def function_name(function: Any) -> str:
    if isinstance(function, functools.partial):
        return f"partial of {function_name(function.func)}"
    if function is None:
        return ""
    return f"{getattr(function, '__module__', None)}:{getattr(function, '__qualname__', type(function).__qualname__)}"
