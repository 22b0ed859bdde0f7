"""How `map`, `zip`, `enumerate` and the iterators of `itertools` are captured and made again. Knows no walks and no
files.

Python 3.12 and 3.13 warn that most of `itertools` will not show its parts any longer, and 3.14 does not show them. What
cannot be read is refused then; `count` and `repeat` are read in another way.
"""

from __future__ import annotations

import ast
import collections
import gc
import itertools
import sys
from typing import Any

from perdure.state._iterators import (
    REMEDY,
    Parts,
    advance,
    advanced,
    behind,
    equal,
    function_name,
    inner,
    inners,
    reduced,
    register_iterator,
    same,
    same_parts,
    unreadable,
)
from perdure.state._values import Unsupported

#: How far a live iterator is advanced at most. Where it would be farther, one is made anew.
_FARTHEST = 1_000_000
#: Python sets aside memory for so many elements at once.
_MOST_PICKED = 1_000_000
_LIST_ITERATOR: Any = type(iter([]))
_TUPLE_ITERATOR: Any = type(iter(()))


def _with_function(cls: Any, flagged: bool = False) -> None:
    """Iterators that call a function: the function, what they go over, what it belongs to, and its name.

    :param flagged: whether they have a state.
    """

    def capture(live: Any) -> Parts:
        arguments, state = reduced(live)
        function, *lives = arguments
        flag = (bool(state),) if flagged else ()
        return (function, *flag, inners(lives), behind(function), function_name(function))

    def make(parts: Parts) -> Any:
        made = cls(parts[0], *inners(parts[-3]))
        if flagged:
            made.__setstate__(parts[1])
        return made

    def reuse(live: Any, own: Parts, parts: Parts) -> bool:
        if own[0] is not parts[0] or not same(own[-3], parts[-3]):
            return False
        if flagged:
            live.__setstate__(parts[1])
        return True

    register_iterator(cls, capture, make=make, reuse=reuse, function=0)


for cls in (map, filter, itertools.starmap, itertools.filterfalse):
    _with_function(cls)
for flagged in (itertools.takewhile, itertools.dropwhile):
    _with_function(flagged, flagged=True)


def _capture_calls(live: Any) -> Parts:
    arguments, _ = reduced(live)
    if len(arguments) != 2:
        return ()
    function, sentinel = arguments
    return function, sentinel, behind(function), function_name(function)


def _make_calls(parts: Parts) -> Any:
    if parts:
        return iter(parts[0], parts[1])
    return advanced(iter(int, 0), 1)


def _reuse_calls(live: Any, own: Parts, parts: Parts) -> bool:
    return (
        bool(own) and bool(parts) and own[0] is parts[0] and (own[1] is parts[1] or equal(own[1], parts[1]))
    )


register_iterator(type(iter(int, 1)), _capture_calls, make=_make_calls, reuse=_reuse_calls, function=0)


def _capture_zip(live: Any) -> Parts:
    lives, strict = reduced(live)
    return bool(strict), inners(lives)


register_iterator(
    zip,
    _capture_zip,
    make=lambda parts: zip(*inners(parts[1]), strict=bool(parts[0])),
    reuse=lambda live, own, parts: own[0] == parts[0] and same(own[1], parts[1]),
)


def _capture_enumerate(live: Any) -> Parts:
    (source, number), _ = reduced(live)
    return inner(source), number


register_iterator(
    enumerate,
    _capture_enumerate,
    make=lambda parts: enumerate(inner(parts[0]), parts[1]),
    reuse=same_parts,
)


# -- itertools ------------------------------------------------------------------------------------------------


def _shown(live: Any, name: str) -> Parts:
    """The arguments in the text of an iterator, if they are plain values."""
    text = repr(live)
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        return tuple(ast.literal_eval(each) for each in call.args)
    except (SyntaxError, ValueError, AssertionError, RecursionError) as error:
        raise Unsupported(unreadable(type(live))) from error


def _capture_count(live: Any) -> Parts:
    try:
        arguments, _ = reduced(live)
    except Unsupported:
        arguments = _shown(live, "count")
    return arguments if len(arguments) == 2 else (*arguments, 1)


def _reuse_count(live: Any, own: Parts, parts: Parts) -> bool:
    if any(type(each) is not int for each in (*own, *parts)) or own[1] != parts[1]:
        return False
    steps, beside = divmod(parts[0] - own[0], parts[1]) if parts[1] else (0, parts[0] - own[0])
    if beside or not 0 <= steps <= _FARTHEST:
        return False
    advance(live, steps)
    return True


register_iterator(
    itertools.count, _capture_count, make=lambda parts: itertools.count(*parts), reuse=_reuse_count
)


def _capture_repeat(live: Any) -> Parts:
    try:
        arguments, _ = reduced(live)
    except Unsupported:
        try:
            left = live.__length_hint__()
        except TypeError:
            left = None  # without an end
        value = gc.get_referents(live)
        arguments = (*(value or _shown(live, "repeat")[:1]), *(() if left is None else (left,)))
    return arguments


def _reuse_repeat(live: Any, own: Parts, parts: Parts) -> bool:
    if len(own) != len(parts) or not (own[0] is parts[0] or equal(own[0], parts[0])):
        return False
    if len(parts) == 1:
        return True
    if not 0 <= own[1] - parts[1] <= _FARTHEST:
        return False
    advance(live, own[1] - parts[1])
    return True


register_iterator(
    itertools.repeat, _capture_repeat, make=lambda parts: itertools.repeat(*parts), reuse=_reuse_repeat
)


def _capture_cycle(live: Any) -> Parts:
    (source,), (saved, first_pass_done) = reduced(live)
    over_saved = not any(each is source for each in gc.get_referents(live))
    if not over_saved and first_pass_done and type(source) in _READ_AGAIN:
        # That is how one is made of parts, or set to them.
        arguments = source.__reduce__()
        over_saved = len(arguments) == 2 or (type(source) is _LIST_ITERATOR and same(arguments[1][0], saved))
    if over_saved:
        # It goes over what it saved: `source` was made for the copy, and tells where it is.
        arguments = source.__reduce__()
        return None, tuple(saved), arguments[2] if len(arguments) == 3 else 0
    return inner(source), tuple(saved), bool(first_pass_done)


def _make_cycle(parts: Parts) -> Any:
    source, saved, where = parts
    if source is not None:
        made = itertools.cycle(inner(source))
        made.__setstate__((list(saved), int(where)))  # type: ignore[attr-defined]
        return made
    ahead: Any = iter(list(saved))
    ahead.__setstate__(where)
    made = itertools.cycle(ahead)
    made.__setstate__((list(saved), 1))  # type: ignore[attr-defined]
    return made


def _reuse_cycle(live: Any, own: Parts, parts: Parts) -> bool:
    source, saved, where = parts
    if source is None and not 0 <= where <= len(saved):
        return False
    if source is not None:
        if own[0] is not source:
            return False
        live.__setstate__((list(saved), int(where)))
        return True
    if own[0] is not None:
        if type(own[0]) not in _READ_AGAIN:
            return False
        live.__setstate__((list(saved), 1))
        collections.deque(own[0], maxlen=0)
    else:
        live.__setstate__((list(saved), 1))
    advance(live, where)
    return True


#: What a cycle goes over first and may be read to its end, because nothing else happens by it.
_PLAIN: tuple[Any, ...] = ([], (), "", "\N{EURO SIGN}", b"", range(1))
_READ_AGAIN: frozenset[Any] = frozenset(type(iter(kind)) for kind in _PLAIN)
register_iterator(itertools.cycle, _capture_cycle, make=_make_cycle, reuse=_reuse_cycle)


def _capture_chain(live: Any) -> Parts:
    _, state = reduced(live)
    return () if state is None else inners(state)


def _set_chain(live: Any, parts: Parts) -> Any:
    live.__setstate__(inners(parts) or (iter(()),))
    if not parts:
        advance(live, 1)
    return live


register_iterator(
    itertools.chain,
    _capture_chain,
    make=lambda parts: _set_chain(itertools.chain(), parts),
    reuse=lambda live, own, parts: _set_chain(live, parts) is live,
)


def _capture_slice(live: Any) -> Parts:
    arguments, count = reduced(live)
    if len(arguments) != 4:
        return ()
    source, following, stop, step = arguments
    return inner(source), following, stop, step, count


def _make_slice(parts: Parts) -> Any:
    if not parts:
        return advanced(itertools.islice((), 0), 1)
    made = itertools.islice(inner(parts[0]), *parts[1:4])
    made.__setstate__(parts[4])  # type: ignore[attr-defined]
    return made


register_iterator(itertools.islice, _capture_slice, make=_make_slice, reuse=same_parts)


def _capture_accumulate(live: Any) -> Parts:
    arguments, total = reduced(live)
    if len(arguments) != 2:
        raise Unsupported(f"its sum so far is None. {REMEDY}(itertools.accumulate, 'reason')")
    source, function = arguments
    begun = () if total is None else (total,)
    return function, inner(source), begun, behind(function), function_name(function)


def _make_accumulate(parts: Parts) -> Any:
    made = itertools.accumulate(inner(parts[1]), parts[0])
    for total in parts[2]:
        made.__setstate__(total)  # type: ignore[attr-defined]
    return made


def _reuse_accumulate(live: Any, own: Parts, parts: Parts) -> bool:
    if own[0] is not parts[0] or own[1] is not parts[1] or len(own[2]) > len(parts[2]):
        return False
    for total in parts[2]:
        live.__setstate__(total)
    return True


register_iterator(
    itertools.accumulate, _capture_accumulate, make=_make_accumulate, reuse=_reuse_accumulate, function=0
)


def _combinatoric(cls: Any) -> None:
    """Those that read what they go over at the beginning."""

    def capture(live: Any) -> Parts:
        arguments, state = reduced(live)
        if cls is not itertools.product and arguments[1] > _MOST_PICKED:
            raise Unsupported(
                f"it picks more than {_MOST_PICKED:,} elements. {REMEDY}({cls.__qualname__}, 'reason')"
            )
        return arguments, state

    def make(parts: Parts) -> Any:
        if cls is not itertools.product and parts[0][1] > _MOST_PICKED:
            raise ValueError(f"expected to pick at most {_MOST_PICKED:,} elements, found {parts[0][1]:,}")
        made = cls(*parts[0])
        if parts[1] is not None:
            made.__setstate__(parts[1])
        return made

    def reuse(live: Any, own: Parts, parts: Parts) -> bool:
        if not _equal_pools(own[0], parts[0]) or (parts[1] is None and own[1] is not None):
            return False
        if parts[1] is not None:
            live.__setstate__(parts[1])
        return True

    register_iterator(cls, capture, make=make, reuse=reuse)


def _equal_pools(own: Parts, parts: Parts) -> bool:
    return len(own) == len(parts) and all(map(equal, own, parts))


for combinatoric in (
    itertools.product,
    itertools.permutations,
    itertools.combinations,
    itertools.combinations_with_replacement,
):
    _combinatoric(combinatoric)


def _capture_longest(live: Any) -> Parts:
    lives, fill = reduced(live)
    return fill, tuple(() if _is_empty(each) else inner(each) for each in lives)


def _is_empty(live: Any) -> bool:
    """Whether it stands for an iterator that was exhausted before the others."""
    return (
        live == () if type(live) is tuple else type(live) is _TUPLE_ITERATOR and live.__reduce__()[1] == ((),)
    )


def _make_longest(parts: Parts) -> Any:
    lives = (each if type(each) is tuple and not each else inner(each) for each in parts[1])
    return itertools.zip_longest(*lives, fillvalue=parts[0])


register_iterator(
    itertools.zip_longest,
    _capture_longest,
    make=_make_longest,
    reuse=lambda live, own, parts: (own[0] is parts[0] or equal(own[0], parts[0])) and same(own[1], parts[1]),
)


def _capture_compress(live: Any) -> Parts:
    return inners(reduced(live)[0])


register_iterator(
    itertools.compress,
    _capture_compress,
    make=lambda parts: itertools.compress(*inners(parts)),
    reuse=lambda live, own, parts: same(own, parts),
)


def _capture_pairwise(live: Any) -> Parts:
    if not _PAIRWISE_IS_KNOWN:
        raise Unsupported(unreadable(itertools.pairwise))
    source, *before = gc.get_referents(live) or [iter(())]
    if type(source) is itertools.chain:
        source, before = _without_chain(source, before)
    return inner(source), tuple(before[:1])


def _without_chain(chain: Any, before: list[Any]) -> tuple[Any, list[Any]]:
    """What `_make_pairwise` made a chain of; without it, each resumed run would add another one."""
    _, state = reduced(chain)
    if state is None or type(state[0]) is not _TUPLE_ITERATOR:
        return chain, before
    arguments = state[0].__reduce__()
    (parts,), at = arguments[1], arguments[2] if len(arguments) == 3 else len(arguments[1][0])
    if at == 0 and len(parts) == 2 and type(parts[0]) is tuple and len(parts[0]) == 1 and not before:
        return parts[1], list(parts[0])
    return (state[1], before) if at == len(parts) and len(state) == 2 else (chain, before)


def _make_pairwise(parts: Parts) -> Any:
    source, before = parts
    return itertools.pairwise(itertools.chain(before, inner(source)) if before else inner(source))


#: From 3.13 on it holds a further tuple, which could be taken for the element before.
_PAIRWISE_IS_KNOWN = sys.version_info < (3, 13)
register_iterator(
    itertools.pairwise,
    _capture_pairwise,
    make=_make_pairwise,
    reuse=lambda live, own, parts: own[0] is parts[0] and not own[1] and not parts[1],
)


def _capture_tee(live: Any) -> Parts:
    return tuple(reduced(live)[1])


def _set_tee(live: Any, parts: Parts) -> Any:
    live.__setstate__(parts)
    return live


_TEE: Any = type(itertools.tee(())[0])
register_iterator(
    _TEE,
    _capture_tee,
    make=lambda parts: _set_tee(_TEE(()), parts),
    reuse=lambda live, own, parts: _set_tee(live, parts) is live,
)


def _capture_shared(live: Any) -> Parts:
    source, values, following = reduced(live)[0]
    return inner(source), tuple(values), following


def _tees() -> None:
    """What the iterators of one `tee` share."""
    try:
        cls: Any = type(_TEE(()).__reduce__()[2][0])
    except (AttributeError, TypeError, IndexError):
        return
    register_iterator(
        cls,
        _capture_shared,
        make=lambda parts: cls(inner(parts[0]), list(parts[1]), parts[2]),
        reuse=same_parts,
    )


_tees()


def _capture_groups(live: Any) -> Parts:
    (source, function), state = reduced(live)
    begun = () if state is None else tuple(state)
    return function, inner(source), begun, behind(function), function_name(function)


def _make_groups(parts: Parts) -> Any:
    made = itertools.groupby(inner(parts[1]), parts[0])
    if parts[2]:
        made.__setstate__(parts[2])  # type: ignore[attr-defined]
    return made


def _reuse_groups(live: Any, own: Parts, parts: Parts) -> bool:
    if own[0] is not parts[0] or own[1] is not parts[1] or not parts[2]:
        return False
    live.__setstate__(parts[2])
    return True


register_iterator(itertools.groupby, _capture_groups, make=_make_groups, reuse=_reuse_groups, function=0)


def _capture_group(live: Any) -> Parts:
    arguments, _ = reduced(live)
    return arguments if len(arguments) == 2 else ()


def _make_group(parts: Parts) -> Any:
    return _GROUP(*parts) if parts else iter(())


_GROUP: Any = type(next(itertools.groupby("a"))[1])
register_iterator(_GROUP, _capture_group, make=_make_group, reuse=lambda *_: False)
