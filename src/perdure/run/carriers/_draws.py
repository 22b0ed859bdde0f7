"""Whether a function may return something else when it is called again with the same arguments, as its code shows."""

from __future__ import annotations

import builtins
import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

#: Names in functions that draw, count or tell the time.
_TELLING = frozenset(
    (
        "bernoulli", "choice", "choices", "exponential", "gauss", "getrandbits", "input", "integers", "monotonic",
        "multinomial", "next", "normal", "now", "perf_counter", "permutation", "poisson", "rand", "rand_like",
        "randint", "randn", "randn_like", "random", "random_sample", "randperm", "randrange", "sample", "shuffle",
        "standard_normal", "time", "time_ns", "today", "uniform", "urandom", "uuid1", "uuid4",
    )
)  # fmt: skip
_STORES = frozenset(("STORE_GLOBAL", "STORE_ATTR", "STORE_SUBSCR", "DELETE_GLOBAL"))
_MOST = 200


def may_differ_when_called_again(function: Any) -> bool:
    """Whether a function draws random numbers, tells the time or changes something, it or what it calls of the script.

    Judged by the names in its code, so it can be wrong either way.
    """
    todo: list[Any] = [function]
    seen: set[FunctionType] = set()
    while todo and len(seen) < _MOST:
        function = todo.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        free = set(function.__code__.co_freevars)
        for code in _codes(function.__code__):
            if not _TELLING.isdisjoint(code.co_names):
                return True
            for each in dis.get_instructions(code):
                if each.opname in _STORES or (each.opname == "STORE_DEREF" and each.argval in free):
                    return True
            todo += [function.__globals__.get(name) for name in code.co_names if not hasattr(builtins, name)]
    return False


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
