"""Objects of subclasses of Python's, NumPy's and torch's own classes keep the attributes that these have not, or are
refused; and what none can be made of is told before anything is written."""

from __future__ import annotations

import array
import io
import multiprocessing
import operator
import queue
import random
import re
import threading
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from state_support import transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, check, diff, restore


class Text(io.StringIO):
    extra: Any = None


class Bytes(io.BytesIO):
    extra: Any = None


class Draws(random.Random):
    extra: Any = None


class Slotted(random.Random):
    __slots__ = ("extra",)


class Legacy(np.random.RandomState):
    extra: Any = None


class Generator(np.random.Generator):
    extra: Any = None


class TorchGenerator(torch.Generator):
    extra: Any = None


class Numbers(array.array):  # type: ignore[type-arg]
    extra: Any = None


class Memory(bytearray):
    extra: Any = None


class Event(threading.Event):
    extra: Any = None


class Condition(threading.Condition):
    extra: Any = None


class Jobs(queue.SimpleQueue):  # type: ignore[type-arg]
    extra: Any = None


class Seeds(np.random.SeedSequence):
    extra: Any = None


KINDS: dict[str, Any] = {
    "text": lambda n: Text("a" * n),
    "bytes": lambda n: Bytes(b"a" * n),
    "Python's generator": Draws,
    "with slots": Slotted,
    "NumPy's old generator": Legacy,
    "NumPy's generator": lambda n: Generator(np.random.PCG64(n)),
    "torch's generator": lambda n: TorchGenerator().manual_seed(n),
    "numbers": lambda n: Numbers("d", [n]),
    "memory": lambda n: Memory(b"a" * n),
    "event": lambda n: Event(),
    "jobs": lambda n: Jobs(),
    "seeds": Seeds,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_subclass_adds_is_state(kind: str) -> None:
    shared = [1]
    saved, live = {"x": KINDS[kind](3), "y": shared}, {"x": KINDS[kind](1), "y": []}
    saved["x"].extra = {"n": 7, "held": shared}
    live["x"].extra = None
    before = live["x"]
    state = transported(capture(saved))
    restore(state, live)
    assert live["x"] is before
    assert live["x"].extra == {"n": 7, "held": [1]}
    assert live["x"].extra["held"] is live["y"]
    assert diff(state, capture(live), ignore=()) == []
    # No checkpoint makes one: only the class itself knows how.
    with pytest.raises(RestoreError, match=r"no handler can create one"):
        restore(state, {"x": None, "y": [], "seen": KINDS[kind](1)})


EXACT: dict[str, Any] = {
    "text": lambda n: io.StringIO("a" * n),
    "bytes": lambda n: io.BytesIO(b"a" * n),
    "Python's generator": random.Random,
    "event": lambda n: threading.Event(),
    "condition": lambda n: threading.Condition(),
    "condition's subclass": lambda n: Condition(),
    "a shared value": lambda n: multiprocessing.Value("i", n),
    "table": lambda n: pd.DataFrame({"a": [n]}),
    "column": lambda n: pd.Series([n]),
}


@pytest.mark.filterwarnings("ignore:Pandas doesn't allow columns")
@pytest.mark.parametrize("kind", EXACT)
def test_what_a_script_adds_to_an_object_is_state(kind: str) -> None:
    shared = [1]
    saved, live = {"x": EXACT[kind](3), "y": shared}, {"x": EXACT[kind](1), "y": []}
    saved["x"].extra = {"n": 7, "held": shared}
    state = transported(capture(saved))
    restore(state, live)
    assert live["x"].extra == {"n": 7, "held": [1]}
    assert live["x"].extra["held"] is live["y"]
    assert diff(state, capture(live), ignore=()) == []
    made: dict[str, Any] = {"x": None, "y": [], "shown": EXACT[kind](1)}
    restore(transported(capture({**saved, "shown": EXACT[kind](1)})), made)
    assert made["x"].extra == {"n": 7, "held": [1]}


def test_a_condition_keeps_its_lock_and_works() -> None:
    lock = threading.Lock()
    saved = {"a": Condition(lock), "b": threading.Condition(lock)}
    saved["a"].extra = 3
    live: dict[str, Any] = {"a": None, "b": None, "shown": Condition()}
    restore(transported(capture({**saved, "shown": Condition()})), live)
    with live["a"]:
        assert not live["b"].acquire(blocking=False)
        live["a"].notify_all()
    assert live["b"].acquire(blocking=False)
    assert live["a"].extra == 3
    held = {"a": Condition(lock), "b": threading.Condition(lock)}
    before = dict(held)
    restore(transported(capture(saved)), held)
    assert held == before
    assert held["a"].extra == 3


def test_what_cannot_be_kept_is_refused_at_the_checkpoint() -> None:
    class Names(weakref.WeakSet):  # type: ignore[type-arg]
        pass

    class Bits(np.random.PCG64):
        pass

    names = Names()
    assert capture({"x": names})
    for exact in (weakref.WeakSet(), weakref.WeakKeyDictionary(), weakref.WeakValueDictionary()):
        exact.title = "x"
        with pytest.raises(CaptureError, match=r"weak container are not captured \(title\)"):
            capture({"x": exact})
    names.title = "x"
    with pytest.raises(CaptureError, match=r"weak container are not captured \(title\)"):
        capture({"x": names})
    with pytest.raises(
        CaptureError, match=r"x: .*Bits: only NumPy.s own generators.*perdure.register\(.*Bits"
    ):
        capture({"x": Bits(1)})


def test_the_bits_of_a_generator_may_be_of_another_kind() -> None:
    made = np.random.Generator(np.random.Philox(3))
    legacy = np.random.RandomState(np.random.PCG64(3))
    live = {"x": np.random.default_rng(1), "y": np.random.RandomState(1), "bits": None}
    held = live["x"]
    restore(transported(capture({"x": made, "y": legacy, "bits": made.bit_generator})), live)
    assert live["x"] is held
    assert live["bits"] is held.bit_generator
    assert held.random() == made.random()
    assert live["y"].rand() == legacy.rand()


def test_what_is_only_put_where_the_script_has_one_is_told_before_anything_is_written() -> None:
    for made, other in (
        (re.compile("a"), re.compile("b")),
        (operator.itemgetter(1), operator.itemgetter(2)),
        (operator.attrgetter("a.b"), operator.attrgetter("c")),
    ):
        state = transported(capture({"x": made}))
        for live in (None, 3):
            assert not check(state, {"x": live}).exact
        live = {"x": other}
        restore(state, live)
        assert str(live["x"]) == str(made)


def test_a_caller_of_methods_stays_and_is_never_another() -> None:
    for make in (
        lambda n: operator.methodcaller("step"),
        lambda n: operator.methodcaller("step", n),
        lambda n: operator.methodcaller("step", 1, to=n),
    ):
        live = {"x": make(1)}
        held = live["x"]
        restore(transported(capture({"x": make(1)})), live)
        assert live["x"] is held
        report = check(transported(capture({"x": make(2)})), live)
        assert report.exact == (str(make(1)) == str(make(2)))
