"""Values of Python's own kinds that honest policies hold, more of them: iterators, type hints, exceptions, methods."""

from __future__ import annotations

import collections
import collections.abc
import datetime
import enum
import fractions
import itertools
import logging
import os
import random
import time
import typing
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch


class Kinds(enum.Enum):
    """Members whose values are no numbers and texts."""

    SINGLE = np.float32(1.5)
    DTYPE = torch.float32
    CLASS = torch.nn.ReLU
    PAIR = (np.int64(1), int)
    THIRD = fractions.Fraction(1, 3)


class Outer:
    class Inner:
        def __init__(self) -> None:
            self.a = 1

    class Kind(enum.Enum):
        ONE = 1


class Named:
    """Made with named arguments of `__new__`."""

    def __new__(cls, *, a: int) -> Named:
        made = super().__new__(cls)
        made.a = a
        return made

    def __getnewargs_ex__(self) -> Any:
        return (), {"a": self.a}


class Counting(collections.defaultdict):  # type: ignore[type-arg]
    """Its constructor sets what its pickle does not have."""

    def __init__(self, factory: Any = None) -> None:
        super().__init__(factory)
        self.calls = 0


class Says(Exception):
    """Its pickle has what its constructor needs, and not its attributes."""

    def __init__(self, what: str) -> None:
        super().__init__(f"said {what}")
        self.what = what

    def __reduce__(self) -> Any:
        return Says, (self.what,)


class Wordy(dict):  # type: ignore[type-arg]
    """Its constructor takes something else than a dict does."""

    def __init__(self, words: Any = ()) -> None:
        super().__init__(dict.fromkeys(words, 1))

    def __reduce__(self) -> Any:
        return Wordy, (list(self),)


def advanced(made: Iterator[Any], count: int = 1) -> Iterator[Any]:
    for _ in range(count):
        next(made)
    return made


def noted() -> Exception:
    made = ValueError("x")
    made.add_note("a note")
    return made


def iterators() -> dict[str, Callable[[], Any]]:
    i = itertools
    return {
        "iter of a text": lambda: advanced(iter("aé")),
        "iter of bytes": lambda: iter(b"ab"),
        "iter of a range": lambda: advanced(iter(range(5))),
        "iter of a long range": lambda: iter(range(1 << 70)),
        "iter of a dict": lambda: iter({1: 2}),
        "iter of a deque": lambda: advanced(iter(collections.deque([1, 2]))),
        "iter of an array": lambda: advanced(iter(np.arange(3))),
        "iter of calls": lambda: iter(int, 1),
        "iter at its end": lambda: advanced(iter([1])),
        "reversed": lambda: advanced(reversed([1, 2])),
        "enumerate": lambda: advanced(enumerate(["a", "b"])),
        "zip": lambda: advanced(zip([1, 2], (3, 4), strict=True)),
        "map": lambda: map(abs, [1]),
        "filter": lambda: filter(None, [1]),
        "starmap": lambda: i.starmap(max, [(1, 2)]),
        "filterfalse": lambda: i.filterfalse(None, [1]),
        "takewhile": lambda: advanced(i.takewhile(bool, [1, 2])),
        "dropwhile": lambda: advanced(i.dropwhile(bool, [0, 1])),
        "cycle": lambda: i.cycle([1, 2]),
        "cycle that began": lambda: advanced(i.cycle([1, 2]), 3),
        "chain": lambda: i.chain([1], [2]),
        "chain that began": lambda: advanced(i.chain([1], [2])),
        "chain at its end": lambda: advanced(i.chain([1])),
        "islice": lambda: advanced(i.islice(i.count(), 2, 9, 3)),
        "islice at its end": lambda: advanced(i.islice([1], 1)),
        "repeat": lambda: i.repeat(1),
        "repeat three times": lambda: i.repeat("x", 3),
        "accumulate": lambda: advanced(i.accumulate([1, 2, 3]), 2),
        "accumulate by a function": lambda: i.accumulate([1, 2], max),
        "product": lambda: advanced(i.product([1, 2], [3])),
        "permutations": lambda: advanced(i.permutations([1, 2, 3])),
        "combinations": lambda: advanced(i.combinations([1, 2, 3], 2)),
        "combinations with replacement": lambda: i.combinations_with_replacement([1, 2], 2),
        "compress": lambda: i.compress([1, 2], [0, 1]),
        "zip_longest": lambda: i.zip_longest([1], [2, 3], fillvalue="x"),
        "ndindex": lambda: np.ndindex(2, 3),
    }


def hints() -> dict[str, Callable[[], Any]]:
    t = typing
    found = {
        "Literal": t.Literal[1, "a", None],
        "Callable": t.Callable[[int], str],
        "Callable of anything": t.Callable[..., int],
        "Callable of collections": collections.abc.Callable[[int], int],
        "dict[str, list[int]]": dict[str, list[int]],
        "Dict[str, list[int]]": t.Dict[str, list[int]],
        "Union": t.Union[int, list[str], None],
        "list[int] | None": list[int] | None,
        "Optional[Tensor]": t.Optional[torch.Tensor],
        "tuple[int, ...]": tuple[int, ...],
        "Annotated": t.Annotated[int, "x"],
        "Sequence[Any]": t.Sequence[t.Any],
        "NDArray": np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    }
    return {name: (lambda made=made: made) for name, made in found.items()}


def exceptions() -> dict[str, Callable[[], Any]]:
    return {
        "OSError": lambda: OSError(2, "x", "file"),
        "ConnectionResetError": lambda: ConnectionResetError(104, "x"),
        "ImportError": lambda: ImportError("x", name="y", path="z"),
        "UnicodeDecodeError": lambda: UnicodeDecodeError("utf8", b"x", 0, 1, "y"),
        "SyntaxError": lambda: SyntaxError("x", ("file", 1, 2, "text")),
        "StopIteration": lambda: StopIteration(1),
        "SystemExit": lambda: SystemExit(1),
        "AttributeError": lambda: AttributeError("x"),
        "ExceptionGroup": lambda: ExceptionGroup("x", [ValueError(1), KeyError("y")]),
        "an exception with a note": noted,
        "Says": lambda: Says("a"),
        "Wordy": lambda: Wordy(["a", "b"]),
        "Counting": lambda: Counting(int),
    }


def methods() -> dict[str, Callable[[], Any]]:
    return {
        "a method of a list": lambda: [1].append,
        "a method of a dict": lambda: {"a": 1}.get,
        "a method of a tensor": lambda: torch.ones(1).add,
        "a method of random.Random": lambda: random.Random(1).random,
        "a method of RandomState": lambda: np.random.RandomState(1).rand,
        "a method of a generator": lambda: np.random.default_rng(1).normal,
        "a method of a class in C": lambda: list.append,
    }


def others() -> dict[str, Callable[[], Any]]:
    berlin = "Europe/Berlin"
    return {
        **{f"Kinds.{each.name}": (lambda each=each: each) for each in Kinds},
        "a nested class": Outer.Inner,
        "a nested enum": lambda: Outer.Kind.ONE,
        "Named": lambda: Named(a=1),
        "ZoneInfo": lambda: zoneinfo.ZoneInfo(berlin),
        "ZoneInfo without cache": lambda: zoneinfo.ZoneInfo.no_cache(berlin),
        "a moment in a zone": lambda: datetime.datetime(2020, 7, 1, fold=1, tzinfo=zoneinfo.ZoneInfo(berlin)),
        "a time in a zone": lambda: datetime.time(1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
        "moments in zones as keys": lambda: {
            datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo(berlin)): 1
        },
        "struct_time": lambda: time.gmtime(0),
        "terminal_size": lambda: os.terminal_size((80, 24)),
        "a logger": lambda: logging.getLogger("a.b"),
        "the root logger": logging.getLogger,
    }


def values() -> dict[str, Callable[[], Any]]:
    return {**iterators(), **hints(), **exceptions(), **methods(), **others()}
