"""The builders of iterators: of lists and ranges, `zip`, `enumerate`, and those of `itertools`, see `_builders`.

Making one takes nothing out of what it goes over, and calls no function. Knows no files.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from perdure.persistence.reading._building import ITEM_COST, Builder, Context, expect, items, whole
from perdure.persistence.reading._pickle_steps import MalformedError

_OVER = (list, tuple, str, bytes, bytearray, range, np.ndarray)
#: Iterators in each other: taking an element recurses in C as deep as that.
_DEEPEST = 20
_COST = 400
_WITH_FUNCTION = (
    map,
    filter,
    itertools.starmap,
    itertools.filterfalse,
    itertools.takewhile,
    itertools.dropwhile,
)
_SAMPLES: tuple[Any, ...] = (
    [],
    (),
    "",
    "é",
    b"",
    bytearray(),
    range(0),
    range(1 << 70),
    np.zeros(1),
    deque(),
)
_PLAIN: tuple[Any, ...] = (
    *(type(iter(each)) for each in _SAMPLES),
    type(iter(int, 0)),
    *(itertools.count, itertools.repeat),
)
_NESTING: tuple[Any, ...] = (
    *(
        enumerate,
        reversed,
        type(reversed([])),
        zip,
        itertools.cycle,
        itertools.chain,
        itertools.islice,
        itertools.accumulate,
    ),
    *(
        itertools.product,
        itertools.permutations,
        itertools.combinations,
        itertools.combinations_with_replacement,
    ),
    *(itertools.compress, itertools.zip_longest),
    *_WITH_FUNCTION,
)


def _sources(context: Context, *sources: Any) -> tuple[Any, ...]:
    """Iterators that another one goes over."""
    for source in sources:
        expect(source, (*_PLAIN, *_NESTING))
    return sources


def _made(context: Context, made: Any, *sources: Any) -> Any:
    """The new iterator, if it lies not too deep."""
    context.charge(_COST)
    depth = 1 + max((context.depths.get(id(each), (0,))[0] for each in sources), default=0)
    if depth > _DEEPEST:
        raise MalformedError(f"has more than {_DEEPEST} iterators in each other")
    context.depths[id(made)] = depth, made
    return made


def _over(context: Context, state: Any, content: Any, *sentinel: Any) -> Any:
    if sentinel:  # `iter(function, value)`
        if not callable(content):
            raise MalformedError("has an iterator that calls what is no function")
        return _made(context, iter(content, *sentinel), content, *sentinel)
    made = iter(expect(content, _OVER))
    if state is not None:
        made.__setstate__(whole(state))
    return _made(context, made)


def _reversed(context: Context, state: Any, content: Any) -> Any:
    made: Any = reversed(expect(content, (list, tuple, str, bytes, bytearray, range)))
    if state is not None:
        made.__setstate__(expect(state, int))
    return _made(context, made)


def _deque_iterator(context: Context, content: Any, at: Any = 0) -> Any:
    elements = expect(content, deque)
    cls: Any = type(iter(deque()))
    with context.clock.running():  # Python goes there step by step
        return _made(context, cls(elements, whole(at, len(elements))))


def _enumerate(context: Context, source: Any, number: Any) -> Any:
    (over,) = _sources(context, source)
    return _made(context, enumerate(over, expect(number, int)), source)


def _zip(context: Context, state: Any, *sources: Any) -> Any:
    strict = state is not None and expect(state, bool)
    return _made(context, zip(*_sources(context, *sources), strict=strict), *sources)


def _cycle(context: Context, state: Any, source: Any) -> Any:
    made: Any = itertools.cycle(*_sources(context, source))
    if state is not None:
        saved, first = expect(state, tuple)
        made.__setstate__((items(context, saved, (list,)), whole(int(expect(first, (bool, int))), 1)))
    return _made(context, made, source)


def _chain(context: Context, state: Any) -> Any:
    made: Any = itertools.chain()
    sources = () if state is None else _sources(context, *expect(state, tuple))
    if sources:
        made.__setstate__(sources)
    return _made(context, made, *sources)


def _slice(context: Context, state: Any, source: Any, *bounds: Any) -> Any:
    for number in bounds:
        if number is not None:
            whole(number)
    made: Any = itertools.islice(*_sources(context, source), *bounds)
    if state is not None:
        made.__setstate__(whole(state))
    return _made(context, made, source)


def _repeat(context: Context, value: Any, *times: Any) -> Any:
    return _made(context, itertools.repeat(value, *(expect(each, int) for each in times)), value)


def _count(context: Context, start: Any = 0, step: Any = 1) -> Any:
    return itertools.count(expect(start, (int, float)), expect(step, (int, float)))


def _accumulate(context: Context, state: Any, source: Any, function: Any = None) -> Any:
    if function is not None and not callable(function):
        raise MalformedError("has an iterator that calls what is no function")
    make: Any = itertools.accumulate
    made = make(*_sources(context, source), function)
    if state is not None:
        made.__setstate__(state)
    return _made(context, made, source, function, state)


def _with_function(cls: Any, context: Context, state: Any, function: Any, *sources: Any) -> Any:
    if function is not None and not callable(function):
        raise MalformedError("has an iterator that calls what is no function")
    made = cls(function, *_sources(context, *sources))
    if state is not None:
        made.__setstate__(expect(state, (bool, int)))
    return _made(context, made, function, *sources)


def _product(context: Context, state: Any, *pools: Any) -> Any:
    for pool in pools:
        items(context, pool, (tuple,))
    return _positioned(context, itertools.product(*pools), state)


def _picked(cls: Any, context: Context, state: Any, pool: Any, number: Any) -> Any:
    items(context, pool, (tuple,))
    context.charge(ITEM_COST * 2 * whole(number, 1 << 31))
    return _positioned(context, cls(pool, number), state)


def _positioned(context: Context, made: Any, state: Any) -> Any:
    """An iterator of `itertools` at a position; Python keeps the numbers within what there is."""
    if state is not None:
        for part in expect(state, tuple):
            for number in part if type(part) is tuple else (part,):
                whole(number, 1 << 31)
        made.__setstate__(state)
    return _made(context, made)


def _compress(context: Context, source: Any, selectors: Any) -> Any:
    return _made(context, itertools.compress(*_sources(context, source, selectors)), source, selectors)


def _longest(context: Context, fill: Any, *sources: Any) -> Any:
    return _made(context, itertools.zip_longest(*_sources(context, *sources), fillvalue=fill), fill, *sources)


def _named(
    cls: Any, make: Callable[..., Any], state: bool = True, needs_trust: bool = False
) -> dict[str, Builder]:
    how: Literal["optional", "none"] = "optional" if state else "none"
    return {f"{cls.__module__}.{cls.__qualname__}": Builder(make, how, needs_trust)}


ITERATOR_BUILDERS: dict[str, Builder] = {
    "builtins.iter": Builder(_over, "optional"),
    "_collections._deque_iterator": Builder(_deque_iterator),
    **_named(reversed, _reversed),
    **_named(enumerate, _enumerate, state=False),
    **_named(zip, _zip),
    **_named(itertools.cycle, _cycle),
    **_named(itertools.chain, _chain),
    **_named(itertools.islice, _slice),
    **_named(itertools.repeat, _repeat, state=False),
    **_named(itertools.count, _count, state=False),
    **_named(itertools.accumulate, _accumulate),
    **{
        name: each
        for cls in _WITH_FUNCTION
        for name, each in _named(cls, functools.partial(_with_function, cls), needs_trust=True).items()
    },
    **_named(itertools.product, _product),
    **{
        name: each
        for cls in (itertools.permutations, itertools.combinations, itertools.combinations_with_replacement)
        for name, each in _named(cls, functools.partial(_picked, cls)).items()
    },
    **_named(itertools.compress, _compress, state=False),
    **_named(itertools.zip_longest, _longest),
}
