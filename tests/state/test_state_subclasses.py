"""Objects of subclasses of Python's, NumPy's and torch's own classes keep the attributes that these have not, or are
refused; and what none can be made of is told before anything is written."""

from __future__ import annotations

import array
import io
import operator
import random
import re
import threading
import weakref
from typing import Any

import numpy as np
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


def test_what_cannot_be_kept_is_refused_at_the_checkpoint() -> None:
    class Names(weakref.WeakSet):  # type: ignore[type-arg]
        pass

    class Bits(np.random.PCG64):
        pass

    names = Names()
    assert capture({"x": names})
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
