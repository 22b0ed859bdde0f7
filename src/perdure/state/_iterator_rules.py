"""How iterators over sequences, dicts, sets and deques are captured and made again, and the views of dicts. Knows no
walks and no files."""

from __future__ import annotations

import collections
import gc
import itertools
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perdure.state._iterators import (
    REMEDY,
    Missing,
    Parts,
    advance,
    advanced,
    reduced,
    register_iterator,
    same,
)
from perdure.state._registry import refuse
from perdure.state._values import Unsupported

_CHANGED = -1
_BEYOND = sys.maxsize
_REVERSED: Any = type(reversed([]))
#: How far an iterator over the elements of an array may be: it is advanced step by step.
_FARTHEST = 10_000_000


# -- over sequences: the sequence and an index ----------------------------------------------------------------

_BY_VALUE = (str, bytes, range)


def _sequence(cls: type, opened: Callable[[Any], Any], empty: Any) -> None:
    def capture(live: Any) -> Parts:
        (source,), index = reduced(live)
        if index is None and not isinstance(source, range):
            return ()  # it is exhausted
        if cls in _BUILTINS_OF_ANY and not _opens_quietly(source):
            raise Unsupported(
                f"it goes over a {type(source).__qualname__}, whose own code would run. {REMEDY}"
                f"({cls.__qualname__}, 'reason')"
            )
        return source, index or 0

    def make(parts: Parts) -> Any:
        if cls in _BUILTINS_OF_ANY and parts and not _opens_quietly(parts[0]):
            raise TypeError(f"expected an array or a tuple, found a {type(parts[0]).__qualname__}")
        return opened(parts[0] if parts else empty)

    def reuse(live: Any, own: Parts, parts: Parts) -> bool:
        if not parts:
            return not own or cls not in _BUILTINS_OF_ANY or _opens_quietly(own[0])
        if not own:
            return False
        by_value = isinstance(own[0], _BY_VALUE) and type(own[0]) is type(parts[0])
        return own[0] is parts[0] or (by_value and own[0] == parts[0])

    def place(live: Any, parts: Parts) -> None:
        if parts:
            live.__setstate__(parts[1])
            return
        if cls not in _BUILTINS_OF_ANY:
            live.__setstate__(-1 if cls is _REVERSED else _BEYOND)  # at its end, without going there
        collections.deque(live, maxlen=0)

    register_iterator(cls, capture, make=make, reuse=reuse, place=place)


def _opens_quietly(source: Any) -> bool:
    """Whether to make an iterator over a sequence runs no code of the script."""
    cls = type(source)
    plain = cls in (tuple, str, bytes, bytearray, np.ndarray, array)
    # Python makes one over an object of a class without these by itself.
    own = ("__iter__", "__reversed__", "__len__")
    return plain or not any(name in vars(base) for base in cls.__mro__ for name in own)


#: Whose sequence may be of any class.
_BUILTINS_OF_ANY = frozenset({type(iter(np.zeros(1))), reversed})

_sequence(type(iter([])), list.__iter__, [])
_sequence(type(iter(())), tuple.__iter__, ())
_sequence(type(iter("a")), str.__iter__, "")
_sequence(type(iter("\N{EURO SIGN}")), str.__iter__, "\N{EURO SIGN}")
_sequence(type(iter(b"")), bytes.__iter__, b"")
_sequence(type(iter(bytearray())), bytearray.__iter__, bytearray())
_sequence(type(iter(range(1))), range.__iter__, range(0))
_sequence(type(iter(range(1 << 70))), range.__iter__, range(1 << 70, 1 << 70))
_sequence(type(iter(array("b"))), array.__iter__, array("b"))
_sequence(type(iter(np.zeros(1))), iter, np.zeros(0))
_sequence(type(reversed([])), list.__reversed__, [])
_sequence(reversed, reversed, ())


# -- over dicts, sets and deques: how far they are ------------------------------------------------------------


def _container(live: Any, kinds: type | tuple[type, ...]) -> Any:
    return next((each for each in gc.get_referents(live) if isinstance(each, kinds)), None)


def _break(live: Iterator[Any], container: Any, kind: Any) -> Any:
    """Let an iterator find that its container has changed, as it was when it was captured."""
    mark = Missing()
    is_set = issubclass(kind, set)
    kind.add(container, mark) if is_set else kind.__setitem__(container, mark, None)
    try:
        # One over an OrderedDict ends with the error, and notices the change without being asked.
        if kind is not collections.OrderedDict:
            next(live)
    except RuntimeError:
        pass
    finally:
        kind.remove(container, mark) if is_set else kind.__delitem__(container, mark)
    return live


_OPENED: dict[str, Callable[[Any], Iterator[Any]]] = {
    "keys": dict.__iter__,
    "values": lambda container: iter(dict.values(container)),
    "items": lambda container: iter(dict.items(container)),
    "reversed keys": dict.__reversed__,
    "reversed values": lambda container: reversed(dict.values(container)),
    "reversed items": lambda container: reversed(dict.items(container)),
}


def _rest(live: Any) -> list[Any] | None:
    """What an iterator has not yielded yet; None if its container has changed so that it will raise an error."""
    try:
        return list(reduced(live)[0][0])
    except RuntimeError as error:
        if "keys changed" in str(error):
            raise Unsupported(
                f"{_EXCHANGED}, or perdure.skip({type(live).__qualname__}, 'reason')"
            ) from error
        return None


_EXCHANGED = "keys of its dict were exchanged since it was made. Go over a copy: list(the_dict)"


def _is_rest(rest: list[Any], opened: Iterator[Any], at: int, pairs: bool) -> bool:
    found = list(itertools.islice(opened, at, None))
    return same(
        itertools.chain.from_iterable(found) if pairs else found,
        itertools.chain.from_iterable(rest) if pairs else rest,
    )


def _reuse_container(live: Any, own: Parts, parts: Parts) -> bool:
    if not parts:
        collections.deque(live, maxlen=0)
        return True
    # `own` is what the container tells after it was filled.
    if not own or own[0] is not parts[0] or not 0 <= own[1] <= parts[1] or own[2:] != parts[2:]:
        return False
    advance(live, parts[1] - own[1])
    return True


def _over_dict(kind: str) -> None:
    opened = _OPENED[kind]
    cls: type = type(opened({}))

    def capture(live: Any) -> Parts:
        container = _container(live, dict)
        if container is None:
            return ()
        rest = _rest(live)
        if rest is None:
            return container, _CHANGED
        at = len(container) - len(rest)
        if not _is_rest(rest, opened(container), at, kind.endswith("items")):
            raise Unsupported(f"{_EXCHANGED}, or perdure.skip({cls.__qualname__}, 'reason')")
        return container, at

    def make(parts: Parts) -> Any:
        live = opened(parts[0] if parts else {})
        if parts and parts[1] == _CHANGED:
            return _break(live, parts[0], dict)
        advance(live, parts[1] if parts else 1)
        return live

    register_iterator(cls, capture, make=make, reuse=_reuse_container, filled=True)


for each in _OPENED:
    _over_dict(each)

_ORDERED: dict[str, Callable[[Any], Iterator[Any]]] = {
    "keys": collections.OrderedDict.__iter__,
    "values": lambda container: iter(collections.OrderedDict.values(container)),
    "items": lambda container: iter(collections.OrderedDict.items(container)),
    "reversed keys": collections.OrderedDict.__reversed__,
    "reversed values": lambda container: reversed(collections.OrderedDict.values(container)),
    "reversed items": lambda container: reversed(collections.OrderedDict.items(container)),
}


def _capture_ordered(live: Any) -> Parts:
    container = _container(live, collections.OrderedDict)
    if container is None:
        return ()
    rest = _rest(live)
    if rest is None:
        return container, _CHANGED, "keys"
    at = len(container) - len(rest)
    for kind, opened in _ORDERED.items():
        pairs = kind.endswith("items")
        if pairs and not all(type(each) is tuple and len(each) == 2 for each in rest):
            continue
        if _is_rest(rest, opened(container), at, pairs):
            return container, at, kind
    raise Unsupported(_EXCHANGED)


def _make_ordered(parts: Parts) -> Any:
    live = _ORDERED[parts[2] if parts else "keys"](parts[0] if parts else collections.OrderedDict())
    if parts and parts[1] == _CHANGED:
        return _break(live, parts[0], collections.OrderedDict)
    advance(live, parts[1] if parts else 1)
    return live


register_iterator(
    type(iter(collections.OrderedDict())),
    _capture_ordered,
    make=_make_ordered,
    reuse=_reuse_container,
    filled=True,
)


def _capture_over_set(live: Any) -> Parts:
    container = _container(live, (set, frozenset))
    if container is None:
        return ()
    rest = _rest(live)
    if rest is None:
        return container, _CHANGED, ()
    return container, len(container) - len(rest), tuple(rest)


def _open_set(container: Any) -> Iterator[Any]:
    return set.__iter__(container) if isinstance(container, set) else frozenset.__iter__(container)


def _make_over_set(parts: Parts) -> Any:
    if not parts:
        return advanced(_open_set(set()), 1)
    container, at, rest = parts
    if at == _CHANGED:
        return _break(_open_set(container), container, set)
    # The order of a set depends on its history and on the process.
    if _is_rest(list(rest), _open_set(container), at, False):
        return advanced(_open_set(container), at)
    return iter(list(rest))


def _reuse_over_set(live: Any, own: Parts, parts: Parts) -> bool:
    if not parts:
        return _reuse_container(live, own, parts)
    container, at, rest = parts
    if not own or own[0] is not container or not 0 <= own[1] <= at:
        return False
    if not _is_rest(list(rest), iter(own[2]), at - own[1], False):
        return False
    advance(live, at - own[1])
    return True


register_iterator(
    type(iter(set())), _capture_over_set, make=_make_over_set, reuse=_reuse_over_set, filled=True
)


def _over_deque(opened: Callable[[Any], Iterator[Any]]) -> None:
    cls: Any = type(opened(collections.deque()))

    def make(parts: Parts) -> Any:
        source, index = parts
        if not isinstance(source, collections.deque):
            raise TypeError(f"expected a deque, found a {type(source).__qualname__}")
        return advanced(opened(source), index)

    # Filling a deque ends the iterators over it, so none is used again.
    register_iterator(cls, lambda live: reduced(live)[0], make=make, reuse=lambda *_: False, filled=True)


_over_deque(collections.deque.__iter__)
_over_deque(collections.deque.__reversed__)


# -- views ----------------------------------------------------------------------------------------------------


def _view(kind: Any, opened: Callable[[Any], Any]) -> None:
    def make(parts: Parts) -> Any:
        return opened(parts[0])

    register_iterator(
        type(opened(kind())),
        lambda live: (_container(live, kind),),
        make=make,
        reuse=lambda live, own, parts: own[0] is parts[0],
    )


for method in ("keys", "values", "items"):
    _view(dict, getattr(dict, method))
    _view(collections.OrderedDict, getattr(collections.OrderedDict, method))


def _capture_flat(live: Any) -> Parts:
    if live.index > _FARTHEST:
        raise Unsupported(f"it is farther than {_FARTHEST:,} elements. {REMEDY}(numpy.flatiter, 'reason')")
    return live.base, live.index


def _reuse_flat(live: Any, own: Parts, parts: Parts) -> bool:
    if own[0] is not parts[0] or not own[1] <= parts[1] <= _FARTHEST:
        return False
    advance(live, parts[1] - own[1])
    return True


def _make_flat(parts: Parts) -> Any:
    if type(parts[0]) is not np.ndarray or not 0 <= parts[1] <= _FARTHEST:
        raise TypeError(f"expected an array and a position, found a {type(parts[0]).__qualname__}")
    return advanced(parts[0].flat, parts[1])


register_iterator(np.flatiter, _capture_flat, make=_make_flat, reuse=_reuse_flat)


# -- refused --------------------------------------------------------------------------------------------------

for name in (
    "builtins.memory_iterator",
    "numpy.nditer",
    "itertools.batched",
    "builtins.generic_alias_iterator",
):
    refuse(name, f"Python does not tell where it is. {REMEDY}({name!r}, 'reason')")
