"""What a training changes that is code, or belongs to the runtime: for each kind how a script builds it, how the
training changes it, and what can be seen of it afterwards. The tests restore each into one that was built anew."""

from __future__ import annotations

import collections
import contextvars
import functools
import io
import itertools
import math
import operator
import queue
import random
import re
import threading
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import tqdm


def dense(x, w=1.0):
    return -w * abs(x)


def sparse(x, w=1.0):
    return w * (abs(x) < 1)


def counted(function):
    calls = 0

    @functools.wraps(function)
    def call(*args):
        nonlocal calls
        calls += 1
        return function(*args) + 0 * calls

    return call


@counted
def decorated(x):
    return 10 * x


@counted
def other_decorated(x):
    return 20 * x


@functools.lru_cache
def cached(x):
    return 30 * x


LAMBDAS = {"a": lambda x: x + 1, "b": lambda x: x + 2}
named_lambda = lambda x: x + 3  # noqa: E731


def made_anew(box):
    return lambda x: x * 11


def scaled(w):
    return lambda x: w * x


class Dense:
    gain = 1.0

    def __call__(self, x):
        return dense(x)


class Sparse:
    gain = 5.0

    @staticmethod
    def static(x):
        return 7 * x

    @classmethod
    def make(cls, x):
        return cls.gain * x


class Held:
    def __init__(self, name="held"):
        self.name = name


class Pipe(functools.partial):
    pass


class Box:
    """Holds what a case changes."""

    def __init__(self):
        self.w = 2.0
        self.fn: Any = None
        self.held = [Held("a"), Held("b"), Held("c")]

    def easy(self, x):
        return self.w * x

    def hard(self, x):
        return self.w * x * x

    def local(self, w):
        def inner(x):
            return w * x + 1

        return inner

    def bound(self):
        self.fn = lambda x: self.w * x + 5


class Case(NamedTuple):
    """One kind of change.

    :param build: what the script builds in the box.
    :param change: what the training does to it.
    :param see: what can be seen of it.
    """

    build: Callable[[Box], Any]
    change: Callable[[Box], Any]
    see: Callable[[Box], Any]


CASES: dict[str, Case] = {}


def call(box: Box) -> Any:
    return [box.fn(x) for x in (0.5, 2.0)]


def switches(name: str, first: Any, then: Any, see: Callable[[Box], Any] = call) -> None:
    """A case in which `box.fn` is replaced; what it is replaced by is made from the box."""

    def put(make: Any) -> Callable[[Box], None]:
        return lambda box: setattr(box, "fn", make(box))

    CASES[name] = Case(put(first), put(then), see)


def case(
    name: str, build: Callable[[Box], Any], change: Callable[[Box], Any], see: Callable[[Box], Any]
) -> None:
    CASES[name] = Case(build, change, see)


# -- functions -------------------------------------------------------------------------------------------------

switches("function", lambda box: dense, lambda box: sparse)
switches("function to lambda with a name", lambda box: dense, lambda box: named_lambda)
switches("function to lambda of a table", lambda box: LAMBDAS["a"], lambda box: LAMBDAS["b"])
switches("function to decorated", lambda box: dense, lambda box: decorated)
switches("decorated to decorated", lambda box: decorated, lambda box: other_decorated)
switches("function to cached", lambda box: dense, lambda box: cached)
switches("static method", lambda box: dense, lambda box: Sparse.static)
switches("lambda made while training", lambda box: dense, made_anew)
switches("lambda with defaults", lambda box: lambda x, w=1.0: w * x, lambda box: lambda x, w=4.0: w * x)
switches("function of a factory", lambda box: scaled(1.0), lambda box: scaled(4.0))
switches("function to one of a factory", lambda box: dense, lambda box: scaled(4.0))
switches("local function", lambda box: box.local(1.0), lambda box: box.local(3.0))
switches("lambda of an object", lambda box: dense, lambda box: (box.bound(), box.fn)[1])
switches("callable object to function", lambda box: Dense(), lambda box: sparse)
switches("function to callable object", lambda box: sparse, lambda box: Dense())
switches("function to number", lambda box: dense, lambda box: 0.25, lambda box: box.fn)
switches("function to None", lambda box: dense, lambda box: None, lambda box: box.fn)
switches("torch function", lambda box: torch.relu, lambda box: torch.tanh, lambda box: box.fn is torch.tanh)
switches("ufunc", lambda box: np.sin, lambda box: np.tanh)
switches("function of numpy", lambda box: np.sum, lambda box: np.prod, lambda box: box.fn([2, 3]))
switches("math", lambda box: math.sin, lambda box: math.cos)
switches("builtin", lambda box: abs, lambda box: round)
switches("random", lambda box: random.gauss, lambda box: random.uniform, lambda box: box.fn == random.uniform)
switches("method of a class", lambda box: str.upper, lambda box: str.lower, lambda box: box.fn("Ab"))
case(
    "registry",
    lambda box: setattr(box, "fn", {"a": dense, "b": dense}),
    lambda box: (box.fn.update(a=sparse, c=decorated), box.fn.pop("b")),
    lambda box: {name: each(3.0) for name, each in box.fn.items()},
)
case(
    "list of callbacks",
    lambda box: setattr(box, "fn", [dense, sparse]),
    lambda box: box.fn.insert(0, decorated),
    lambda box: [each(3.0) for each in box.fn],
)
case(
    "fewer callbacks",
    lambda box: setattr(box, "fn", [dense, sparse, decorated]),
    lambda box: box.fn.remove(sparse),
    lambda box: [each(3.0) for each in box.fn],
)
case(
    "counts by function",
    lambda box: setattr(box, "fn", collections.Counter({dense: 0, sparse: 0})),
    lambda box: box.fn.update({sparse: 3, dense: 1}),
    lambda box: {each.__name__: n for each, n in box.fn.items()},
)
case(
    "set of functions",
    lambda box: setattr(box, "fn", {dense, sparse}),
    lambda box: (box.fn.add(decorated), box.fn.remove(dense)),
    lambda box: sorted(each.__name__ for each in box.fn),
)
case(
    "two that swap",
    lambda box: setattr(box, "fn", [scaled(1.0), scaled(4.0)]),
    lambda box: box.fn.reverse(),
    lambda box: [each(3.0) for each in box.fn],
)
case(
    "in an object made while training",
    lambda box: setattr(box, "made", []),
    lambda box: (box.made.append(Held()), setattr(box.made[0], "fn", sparse)),
    lambda box: box.made[0].fn(0.5),
)

# -- methods ---------------------------------------------------------------------------------------------------

switches("method", lambda box: box.easy, lambda box: box.hard)
switches("method to function", lambda box: box.easy, lambda box: sparse)
switches("function to method", lambda box: dense, lambda box: box.hard)
switches(
    "method of another object",
    lambda box: box.held[0].name.upper,
    lambda box: box.held[1].name.title,
    lambda box: box.fn(),
)
switches(
    "method of a list", lambda box: box.held.append, lambda box: box.held.pop, lambda box: box.fn.__name__
)
switches("class method", lambda box: dense, lambda box: Sparse.make)
switches(
    "method of a schedule of its own",
    lambda box: Box().easy,
    lambda box: (b := Box(), setattr(b, "w", 9.0), b.hard)[2],
)
switches("special method", lambda box: box.w.__add__, lambda box: box.w.__mul__)
switches(
    "methods in a tuple",
    lambda box: (box.easy, box.easy),
    lambda box: (box.easy, box.hard),
    lambda box: [each(3.0) for each in box.fn],
)
switches(
    "state machine",
    lambda box: {"now": box.easy},
    lambda box: {"now": box.hard},
    lambda box: box.fn["now"](3.0),
)

# -- partials --------------------------------------------------------------------------------------------------

switches("partial", lambda box: functools.partial(dense, w=1.0), lambda box: functools.partial(dense, w=4.0))
switches(
    "partial of another",
    lambda box: functools.partial(dense, w=1.0),
    lambda box: functools.partial(sparse, w=3.0),
)
switches("partial to function", lambda box: functools.partial(dense, w=1.0), lambda box: sparse)
switches("function to partial", lambda box: dense, lambda box: functools.partial(sparse, w=3.0))
switches(
    "partial of a partial", lambda box: dense, lambda box: functools.partial(functools.partial(sparse), w=2.0)
)
switches("partial of a method", lambda box: dense, lambda box: functools.partial(box.hard))
switches(
    "partial with a class",
    lambda box: functools.partial(dict, a=1),
    lambda box: functools.partial(dict, a=2),
    lambda box: box.fn(),
)
switches(
    "partial with an array",
    lambda box: functools.partial(np.add, np.ones(2)),
    lambda box: functools.partial(np.add, np.full(2, 3.0)),
    lambda box: box.fn(1).tolist(),
)
switches(
    "partial with the box",
    lambda box: functools.partial(Box.easy, box),
    lambda box: functools.partial(Box.hard, box),
)
switches("partial of a class of one's own", lambda box: Pipe(dense, w=1.0), lambda box: Pipe(sparse, w=2.0))
case(
    "partial with attributes",
    lambda box: setattr(box, "fn", functools.partial(dense)),
    lambda box: setattr(box.fn, "label", "later"),
    lambda box: getattr(box.fn, "label", None),
)
case(
    "partial whose arguments change",
    lambda box: setattr(box, "fn", functools.partial(dense, w=1.0)),
    lambda box: box.fn.keywords.update(w=8.0),
    call,
)
switches(
    "itemgetter",
    lambda box: operator.itemgetter(0),
    lambda box: operator.itemgetter(1, 2),
    lambda box: box.fn((1, 2, 3)),
)
switches(
    "attrgetter",
    lambda box: operator.attrgetter("w"),
    lambda box: operator.attrgetter("held"),
    lambda box: box.fn(box) is box.held,
)

# -- classes and modules ---------------------------------------------------------------------------------------

switches("class", lambda box: Dense, lambda box: Sparse, lambda box: box.fn.gain)
switches("class to function", lambda box: Dense, lambda box: sparse)
switches("builtin class", lambda box: int, lambda box: float, lambda box: type(box.fn("3")).__name__)
switches("class of torch", lambda box: torch.nn.ReLU, lambda box: torch.nn.Tanh, lambda box: box.fn.__name__)
switches("exception", lambda box: ValueError, lambda box: KeyError, lambda box: box.fn.__name__)
switches(
    "classes in a list",
    lambda box: [Dense],
    lambda box: [Sparse, Dense],
    lambda box: [c.gain for c in box.fn],
)
switches(
    "class by name",
    lambda box: {"x": Dense},
    lambda box: {"x": Sparse, "y": Dense},
    lambda box: {n: c.gain for n, c in box.fn.items()},
)
switches(
    "counts by class",
    lambda box: {Dense: 1},
    lambda box: {Dense: 4, Sparse: 2},
    lambda box: {c.__name__: n for c, n in box.fn.items()},
)
switches("factory of a defaultdict", lambda box: Dense, lambda box: Box, lambda box: box.fn.__name__)
switches(
    "class of an own object",
    lambda box: type(box),
    lambda box: type(box.held[0]),
    lambda box: box.fn.__name__,
)
switches("module that stays", lambda box: math, lambda box: math, lambda box: box.fn.__name__)

# -- locks, events, semaphores, queues -------------------------------------------------------------------------

switches(
    "event",
    lambda box: threading.Event(),
    lambda box: (e := threading.Event(), e.set())[0],
    lambda box: box.fn.is_set(),
)
case(
    "event cleared",
    lambda box: setattr(box, "fn", (e := threading.Event(), e.set())[0]),
    lambda box: box.fn.clear(),
    lambda box: box.fn.is_set(),
)
case(
    "events in a list",
    lambda box: setattr(box, "fn", [threading.Event()]),
    lambda box: (box.fn.append(threading.Event()), box.fn[1].set()),
    lambda box: [e.is_set() for e in box.fn],
)
case(
    "semaphore",
    lambda box: setattr(box, "fn", threading.Semaphore(5)),
    lambda box: [box.fn.acquire() for _ in range(3)],
    lambda box: box.fn._value,
)
case(
    "bounded semaphore",
    lambda box: setattr(box, "fn", threading.BoundedSemaphore(5)),
    lambda box: box.fn.acquire(),
    lambda box: (box.fn._value, box.fn._initial_value),
)
case(
    "barrier",
    lambda box: setattr(box, "fn", threading.Barrier(2)),
    lambda box: box.fn.abort(),
    lambda box: box.fn.broken,
)
switches(
    "lock made while training",
    lambda box: [],
    lambda box: [threading.Lock(), threading.RLock()],
    lambda box: [each.acquire() and each.release() for each in box.fn],
)
switches(
    "condition made while training",
    lambda box: [],
    lambda box: [threading.Condition()],
    lambda box: box.fn[0].acquire() and box.fn[0].notify_all(),
)
for kind in (queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue):
    case(
        f"{kind.__name__}",
        lambda box, kind=kind: (setattr(box, "fn", kind()), box.fn.put(9)),
        lambda box: [box.fn.put(n) for n in (3, 1, 2)],
        lambda box: [box.fn.get() for _ in range(box.fn.qsize())],
    )
    case(
        f"{kind.__name__} emptied",
        lambda box, kind=kind: (setattr(box, "fn", kind()), box.fn.put(9)),
        lambda box: box.fn.get(),
        lambda box: box.fn.qsize(),
    )
    switches(
        f"{kind.__name__} made while training",
        lambda box: [],
        lambda box, kind=kind: [(q := kind(), q.put(4))[0]],
        lambda box: (box.fn[0].put(1), box.fn[0].qsize()),
    )

# -- weak references -------------------------------------------------------------------------------------------


def weak_keys(box: Box) -> None:
    box.fn = weakref.WeakKeyDictionary({box.held[0]: 0})


case(
    "weak keys",
    weak_keys,
    lambda box: box.fn.update({box.held[0]: 5, box.held[1]: 7}),
    lambda box: sorted((key.name, n) for key, n in box.fn.items()),
)
case("weak keys gone", weak_keys, lambda box: box.fn.pop(box.held[0]), lambda box: len(box.fn))
case(
    "weak keys with lists",
    lambda box: setattr(box, "fn", weakref.WeakKeyDictionary({box.held[0]: []})),
    lambda box: box.fn[box.held[0]].append(3),
    lambda box: list(box.fn.values()),
)
case(
    "weak keys to new objects",
    weak_keys,
    lambda box: (box.held.append(Held("d")), box.fn.update({box.held[3]: 8})),
    lambda box: sorted((key.name, n) for key, n in box.fn.items()),
)
case(
    "weak keys whose values hold keys",
    weak_keys,
    lambda box: box.fn.update({box.held[0]: (new := Held("e")), new: 1}) or new,
    lambda box: sorted(key.name for key in box.fn),
)
case(
    "weak keys that are classes",
    lambda box: setattr(box, "fn", weakref.WeakKeyDictionary({Dense: 0})),
    lambda box: box.fn.update({Dense: 2}),
    lambda box: list(box.fn.values()),
)
case(
    "weak values",
    lambda box: setattr(box, "fn", weakref.WeakValueDictionary(now=box.held[0])),
    lambda box: box.fn.update(now=box.held[2], then=box.held[1]),
    lambda box: {name: box.held.index(each) for name, each in box.fn.items()},
)
case(
    "weak set",
    lambda box: setattr(box, "fn", weakref.WeakSet(box.held[:1])),
    lambda box: box.fn.add(box.held[2]),
    lambda box: sorted(each.name for each in box.fn),
)
switches(
    "weak reference",
    lambda box: weakref.ref(box.held[0]),
    lambda box: weakref.ref(box.held[1]),
    lambda box: box.fn() is box.held[1],
)
switches(
    "weak reference to a new object",
    lambda box: weakref.ref(box.held[0]),
    lambda box: (box.held.append(Held("d")), weakref.ref(box.held[3]))[1],
    lambda box: box.fn() is box.held[3],
)
switches(
    "weak references in a list",
    lambda box: [],
    lambda box: [weakref.ref(each) for each in box.held],
    lambda box: [each().name for each in box.fn],
)

# -- views, buffers, threads, contexts, patterns ---------------------------------------------------------------


def proxy(box: Box) -> None:
    box.data = {"w": 1.0}
    box.fn = types.MappingProxyType(box.data)


case("view", proxy, lambda box: box.data.update(w=4.0, v=2), lambda box: dict(box.fn))
case(
    "view shares",
    proxy,
    lambda box: box.data.update(w=4.0),
    lambda box: (box.data.update(z=1), dict(box.fn))[1],
)
switches(
    "view alone",
    lambda box: types.MappingProxyType({"w": 1}),
    lambda box: types.MappingProxyType({"w": 3, "v": [1]}),
    lambda box: dict(box.fn),
)
switches(
    "view of an ordered dict",
    lambda box: types.MappingProxyType(collections.OrderedDict(a=1)),
    lambda box: types.MappingProxyType(collections.OrderedDict(b=1, a=2)),
    lambda box: list(box.fn.items()),
)
switches(
    "views in a list",
    lambda box: [],
    lambda box: [types.MappingProxyType({"w": 1})],
    lambda box: dict(box.fn[0]),
)
switches("view of a class", lambda box: vars(Dense), lambda box: vars(Dense), lambda box: box.fn["gain"])
case(
    "text",
    lambda box: setattr(box, "fn", io.StringIO("start")),
    lambda box: (box.fn.seek(2), box.fn.write("a/b\r\n\ud800")),
    lambda box: (box.fn.getvalue(), box.fn.tell()),
)
case(
    "text with newlines",
    lambda box: setattr(box, "fn", io.StringIO(newline=None)),
    lambda box: box.fn.write("a\r\nb"),
    lambda box: (box.fn.write("\r\nc"), box.fn.getvalue())[1],
)
case(
    "bytes",
    lambda box: setattr(box, "fn", io.BytesIO(b"start")),
    lambda box: (box.fn.seek(9), box.fn.write(b"xyz")),
    lambda box: (box.fn.getvalue(), box.fn.tell()),
)
case(
    "text shortened",
    lambda box: setattr(box, "fn", io.StringIO("start")),
    lambda box: (box.fn.seek(0), box.fn.truncate()),
    lambda box: (box.fn.getvalue(), box.fn.tell()),
)
case(
    "text read",
    lambda box: setattr(box, "fn", io.StringIO("one\ntwo\n")),
    lambda box: box.fn.readline(),
    lambda box: box.fn.readline(),
)
case(
    "text closed",
    lambda box: setattr(box, "fn", io.StringIO("a")),
    lambda box: box.fn.close(),
    lambda box: box.fn.closed,
)
switches(
    "buffers in a list",
    lambda box: [],
    lambda box: [io.StringIO("a"), io.BytesIO(b"b")],
    lambda box: [each.getvalue() for each in box.fn],
)
case(
    "data of a thread",
    lambda box: (setattr(box, "fn", threading.local()), setattr(box.fn, "n", 0)),
    lambda box: (setattr(box.fn, "n", 5), setattr(box.fn, "more", [1, {"a": 2}])),
    lambda box: vars(box.fn),
)
case(
    "data of a thread set later",
    lambda box: setattr(box, "fn", threading.local()),
    lambda box: setattr(box.fn, "array", np.arange(3)),
    lambda box: box.fn.array.tolist(),
)
CONTEXT: Any = itertools.count()


def variable(box: Box) -> None:
    box.fn = contextvars.ContextVar(f"v{next(CONTEXT)}", default=0)


case("context", variable, lambda box: box.fn.set(7), lambda box: box.fn.get())
case("context with a list", variable, lambda box: box.fn.set([1, 2]), lambda box: box.fn.get())
switches(
    "pattern",
    lambda box: re.compile("a"),
    lambda box: re.compile("b+", re.IGNORECASE),
    lambda box: box.fn.findall("aBBb"),
)
switches(
    "pattern of bytes",
    lambda box: re.compile(b"a"),
    lambda box: re.compile(b"b"),
    lambda box: box.fn.findall(b"ab"),
)

# -- progress bars ---------------------------------------------------------------------------------------------


def bar(box: Box) -> None:
    box.fn = tqdm.tqdm(total=10, file=io.StringIO())


case("bar", bar, lambda box: box.fn.update(4), lambda box: (box.fn.n, box.fn.total))
case("bar's total", bar, lambda box: setattr(box.fn, "total", 25), lambda box: (box.fn.n, box.fn.total))
case(
    "bar that is silent",
    lambda box: setattr(box, "fn", tqdm.tqdm(total=10, disable=True)),
    lambda box: setattr(box.fn, "n", 3),
    lambda box: box.fn.n,
)
case("bar goes on", bar, lambda box: box.fn.update(4), lambda box: (box.fn.update(2), box.fn.n)[1])
case(
    "bars in a list",
    lambda box: setattr(box, "fn", [tqdm.tqdm(total=n, file=io.StringIO()) for n in (3, 4)]),
    lambda box: box.fn[1].update(2),
    lambda box: [each.n for each in box.fn],
)


# -- hooks of modules ------------------------------------------------------------------------------------------


def double(module, args, output):
    return 2 * output


def triple(module, args, output):
    return 3 * output


def shift(module, args, output):
    return output + 1


def with_names(module, args, kwargs, output=None):
    return output - 3


def linear(box: Box) -> None:
    box.fn = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(box.fn.weight)
    box.handle = box.fn.register_forward_hook(double)


def output(box: Box) -> float:
    return float(box.fn(torch.ones(1)))


case("hook added", linear, lambda box: box.fn.register_forward_hook(shift), output)
case("hook put first", linear, lambda box: box.fn.register_forward_hook(shift, prepend=True), output)
case("hook removed", linear, lambda box: box.handle.remove(), output)
case("hook replaced", linear, lambda box: (box.handle.remove(), box.fn.register_forward_hook(triple)), output)
case(
    "hook with names", linear, lambda box: box.fn.register_forward_hook(with_names, with_kwargs=True), output
)
case(
    "hook removed later",
    linear,
    lambda box: box.fn.register_forward_hook(shift),
    lambda box: (box.handle.remove(), output(box))[1],
)
