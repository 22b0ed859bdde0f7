"""Worlds that change at random: what a training may put into them, where, and how it moves it about."""

from __future__ import annotations

import array
import collections
import contextvars
import enum
import functools
import io
import itertools
import operator
import queue
import random
import re
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import perdure
from perdure.state import structural


class Row:
    def __init__(self, **attributes: Any) -> None:
        self.number = 0
        vars(self).update(attributes)

    def act(self) -> None:
        pass


class Slotted:
    __slots__ = ("__weakref__", "a")


class Finalized:
    def __del__(self) -> None:
        pass


class Native:
    """No handler makes one."""

    def __init__(self) -> None:
        self.number = 0


class Made(Native):
    pass


class Engine:
    """Only the script builds one."""


class Fixed:
    """A value that never changes."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __perdure_state__(self) -> int:
        return self.number

    @classmethod
    def __perdure_create__(cls, number: int) -> Fixed:
        return cls(number)


class Own:
    def __init__(self) -> None:
        self.number = 0

    def __perdure_state__(self) -> int:
        return self.number

    def __perdure_restore__(self, number: int) -> None:
        self.number = number


class Colour(enum.Enum):
    RED = 1


class FinalError(Exception):
    def __del__(self) -> None:
        pass


def _subclass(base: type, name: str, **members: Any) -> Any:
    made = globals()[name] = type(name, (base,), {"__module__": __name__, **members})
    return made


_del = {"__del__": lambda self: None}
OwnFinal = _subclass(Own, "OwnFinal", **_del)
FinalList, FinalDict = _subclass(list, "FinalList", **_del), _subclass(dict, "FinalDict", **_del)
MyList, MyDict, Engines = _subclass(list, "MyList"), _subclass(dict, "MyDict"), _subclass(list, "Engines")
MyDefault = _subclass(collections.defaultdict, "MyDefault")
MyEvent, MyQueue = _subclass(threading.Event, "MyEvent"), _subclass(queue.Queue, "MyQueue")
MyText, MyRandom = _subclass(io.StringIO, "MyText"), _subclass(random.Random, "MyRandom")
MyWeakSet = _subclass(weakref.WeakSet, "MyWeakSet")
Point = collections.namedtuple("Point", "x y")
structural(Engine)
structural(Engines)


def _put(one: Native, number: int) -> None:
    one.number = number


perdure.register(Native, capture=lambda one: one.number, restore=_put)
perdure.register(Made, capture=lambda one: one.number, restore=_put, create=lambda number: Made())


def function() -> None:
    pass


def other() -> None:
    pass


def closure() -> Callable[[], Any]:
    kept: list[Any] = []
    return lambda: kept


def net() -> torch.nn.Module:
    return torch.nn.Linear(2, 1)


def labelled(made: Any, **labels: Any) -> Any:
    vars(made).update(labels)
    return made


class MyCondition(threading.Condition):
    def __init__(self) -> None:
        super().__init__()
        self.waits = 1


KINDS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "a row": Row,
    "with slots": Slotted,
    "finalized": Finalized,
    "native": Native,
    "made": Made,
    "an engine": Engine,
    "an immutable value": lambda: Fixed(3),
    "its own": Own,
    "its own, finalized": OwnFinal,
    "a hidden method": lambda: Row(act=3),
    "a secret": lambda: Row(api_key="012345"),
    "an enum": lambda: Colour.RED,
    "object()": object,
    "an error": lambda: ValueError(1),
    "a finalized error": FinalError,
    "a finalized list": FinalList,
    "a finalized dict": FinalDict,
    "a list's subclass": MyList,
    "a dict's subclass": MyDict,
    "engines": Engines,
    "named": lambda: Point(1, 2),
    "named, finalized": lambda: Point(1, Finalized()),
    "deep": lambda: [1, [{"a": Finalized()}]],
    "a finalized key": lambda: {Finalized(): 1},
    "an immutable key": lambda: {Fixed(1): 1},
    "a set": lambda: {Row()},
    "held": lambda: Row(held=Finalized()),
    "many": lambda: [Row() for _ in range(1_200)],
    "one of many": lambda: [Row() for _ in range(1_100)] + [Finalized()],
    "default of a lambda": lambda: collections.defaultdict(lambda: 0),
    "default of a function": lambda: collections.defaultdict(function),
    "default of a class": lambda: collections.defaultdict(Row),
    "default of a library": lambda: collections.defaultdict(collections.OrderedDict),
    "default of a list": lambda: collections.defaultdict(list),
    "default's subclass": lambda: MyDefault(Row),
    "held default": lambda: Row(held=collections.defaultdict(np.zeros)),
    "a function": lambda: function,
    "another function": lambda: other,
    "a lambda": lambda: lambda: 0,
    "a closure": closure,
    "a builtin": lambda: len,
    "a partial": lambda: functools.partial(function),
    "a builtin's partial": lambda: functools.partial(len),
    "a method": lambda: Row().act,
    "a list's method": lambda: [].append,
    "a class": lambda: Row,
    "a library's class": lambda: collections.OrderedDict,
    "a module": lambda: types,
    "a getter": lambda: operator.itemgetter(1),
    "a caller": lambda: operator.methodcaller("x"),
    "another caller": lambda: operator.methodcaller("y"),
    "a static method": lambda: staticmethod(function),
    "a pattern": lambda: re.compile("a"),
    "another pattern": lambda: re.compile("b"),
    "an event": threading.Event,
    "an event's subclass": MyEvent,
    "a held event": lambda: Row(held=MyEvent()),
    "a semaphore": lambda: threading.Semaphore(2),
    "a barrier": lambda: threading.Barrier(2),
    "a lock": threading.Lock,
    "a thread's own": threading.local,
    "a context's own": lambda: contextvars.ContextVar("x"),
    "a queue": queue.Queue,
    "a queue's subclass": MyQueue,
    "text": io.StringIO,
    "a text's subclass": MyText,
    "a view": lambda: types.MappingProxyType({"a": 1}),
    "a weak set": weakref.WeakSet,
    "a weak set's subclass": MyWeakSet,
    "weak keys": weakref.WeakKeyDictionary,
    "an iterator": lambda: iter([1, 2, 3]),
    "a map": lambda: map(len, [[1]]),
    "a count": lambda: itertools.count(2),
    "a zip": lambda: zip([Row()], [Finalized()], strict=False),
    "Python's generator": lambda: random.Random(1),
    "its subclass": lambda: MyRandom(1),
    "NumPy's generator": lambda: np.random.default_rng(1),
    "another of NumPy's": lambda: np.random.Generator(np.random.Philox(1)),
    "the old one": lambda: np.random.RandomState(1),
    "torch's generator": torch.Generator,
    "numbers": lambda: array.array("i", [1]),
    "other numbers": lambda: array.array("d", [1.0]),
    "an array": lambda: np.zeros(2),
    "objects": lambda: np.array([1, None, Row()], dtype=object),
    "finalized objects": lambda: np.array([1, None, Finalized()], dtype=object),
    "a tensor": lambda: torch.zeros(2),
    "a labelled tensor": lambda: labelled(torch.zeros(2), tag=1),
    "another label": lambda: labelled(torch.zeros(2), other=[1]),
    "a labelled parameter": lambda: labelled(torch.nn.Parameter(torch.zeros(2)), tag=Row()),
    "a finalized label": lambda: labelled(torch.zeros(2), tag=Finalized()),
    "a condition": threading.Condition,
    "a labelled condition": MyCondition,
    "a labelled generator": lambda: labelled(random.Random(1), tag=1),
    "a parameter": lambda: torch.nn.Parameter(torch.zeros(2)),
    "a larger one": lambda: torch.nn.Parameter(torch.zeros(3)),
    "a network": net,
    "Adam": lambda: torch.optim.Adam(net().parameters()),
    "SGD": lambda: torch.optim.SGD(net().parameters(), 0.1),
    "a distribution": lambda: torch.distributions.Normal(torch.zeros(1), torch.ones(1)),
}


class Box:
    def __init__(self) -> None:
        self.item: Any = None
        self.items: list[Any] = [None, None]
        self.table: dict[str, Any] = {"a": None, "b": None}


class Deep:
    def __init__(self, depth: int) -> None:
        self.box = Box()
        self.next = Deep(depth - 1) if depth else None


class Agent:
    def __init__(self) -> None:
        self.left, self.right = Box(), Box()
        self.pools = {"a": [Box(), Box()], "b": [Box()]}
        self.deep, self.deeper = Deep(2), Deep(2)


_BOXES = [
    "left", "right", "pools.a.0", "pools.a.1", "pools.b.0", "deep.box", "deep.next.box", "deep.next.next.box",
    "deeper.next.box",
]  # fmt: skip
PLACES = [f"{box}.{end}" for box in _BOXES for end in ("item", "items.0", "items.1", "table.a", "table.b")]
#: What may be exchanged as a whole: paths that end alike.
UPPER = [
    "left", "right", "pools.a", "pools.b", "pools.a.0", "pools.b.0", "deep", "deeper", "deep.next", "deeper.next",
    "deep.box",
]  # fmt: skip


def get(holder: Any, place: str) -> Any:
    for step in filter(None, place.split(".")):
        if isinstance(holder, dict):
            holder = holder[step]
        else:
            holder = holder[int(step)] if isinstance(holder, list) else getattr(holder, step)
    return holder


def put(agent: Agent, place: str, value: Any) -> None:
    above, _, step = place.rpartition(".")
    holder = get(agent, above)
    if isinstance(holder, dict | list):
        holder[int(step) if isinstance(holder, list) else step] = value
    else:
        setattr(holder, step, value)


def change(agent: Agent, draw: random.Random, kinds: list[str]) -> str:
    """Change one thing, and say what."""
    a, b = draw.choice(PLACES), draw.choice(PLACES)
    upper = draw.choice(UPPER), draw.choice(UPPER)
    match draw.choice(("put", "put", "move", "share", "swap", "swap above", "clear")):
        case "put":
            kind = draw.choice(kinds)
            put(agent, a, KINDS[kind]())
            return f"put {kind} at {a}"
        case "move":
            put(agent, b, get(agent, a))
            put(agent, a, None)
            return f"move {a} to {b}"
        case "share":
            put(agent, b, get(agent, a))
            return f"share {a} with {b}"
        case "clear":
            put(agent, a, None)
            return f"clear {a}"
        case "swap above" if not (upper[0].startswith(upper[1]) or upper[1].startswith(upper[0])):
            a, b = upper
    one, another = get(agent, a), get(agent, b)
    put(agent, a, another)
    put(agent, b, one)
    return f"swap {a} and {b}"
