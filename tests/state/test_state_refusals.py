"""What cannot be captured is an error that lists everything and says what to do; what is left out is listed."""

from __future__ import annotations

import contextvars
import logging
import multiprocessing
import random
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from state_support import moved, transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, register, restore, skip, structural


class Holder:
    pass


HELD = Holder()


def generator():
    yield 1


def test_everything_that_cannot_be_captured_is_listed_with_a_remedy():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with socket.socket() as connection:
        world = {
            "native": contextvars.copy_context(),
            "deep": {"a": [np.nditer(np.zeros(2)), generator()]},
            "process": process,
            "workers": multiprocessing.get_context("spawn").Process(),
            "connection": connection,
            "sparse": torch.eye(2).to_sparse(),
            "masked": np.ma.array([1]),
            "subclass": type("Metres", (float,), {})(1.5),
        }
        with pytest.raises(CaptureError) as raised:
            capture(world)
    message = str(raised.value)
    assert message.startswith("9 part(s) of the world cannot be captured")
    for part in (
        "native: Context: its state lies in native code",
        "deep['a'][0]: nditer: Python does not tell where it is",
        "deep['a'][1]: generator: where it is paused cannot be read",
        "process: Popen: its state lies in another process",
        "workers: SpawnProcess: its state lies in another process",
        "connection: socket: it is a connection",
        "sparse: Tensor: it is a sparse tensor",
        "masked: MaskedArray: masked arrays are not supported",
        "subclass: Metres: a subclass of a number or string",
    ):
        assert part in message


def test_a_long_list_is_cut():
    kinds = [type(f"Metres{number}", (float,), {}) for number in range(50)]
    with pytest.raises(CaptureError, match=r"(?s)^50 part.*and 30 more"):
        capture({"x": [kind(1) for kind in kinds]})


def test_the_same_problem_at_many_paths_is_one_line():
    with pytest.raises(CaptureError) as caught:
        capture({"x": [generator() for _ in range(50)]})
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("50 part(s)")
    assert len(lines) == 1
    assert lines[0].startswith("  x[0], x[1], x[2] and 47 more: generator: where it is paused cannot be read")


def test_skip_patterns():
    world = {"a": Holder(), "b[x]": [generator()]}
    world["a"].viewer = generator()
    world["a"].kept = 1
    for patterns in (["a.viewer", "b*"], ["*.viewer", "b?x??0?"], ["*viewer*", "b[x]*"]):
        state = capture(world, skip=patterns)
        assert ("a.kept", 1) in list(state.leaves())
    with pytest.raises(CaptureError, match=r"b\[x\]"):
        capture(world, skip=["*viewer"])


def test_what_was_left_out_by_the_user_may_be_there_when_restoring():
    world = {"a": Holder(), "g": generator()}
    world["a"].x = 1
    state = transported(capture(world, skip=["g"]))
    live = {"a": Holder(), "g": generator()}
    live["a"].x = 0
    report = restore(state, live)
    assert live["a"].x == 1
    assert ("g", "left out by the user") in report.skipped


def test_a_class_is_left_out_with_its_subclasses():
    class Viewer:
        def __init__(self):
            self.handle = generator()

    class Better(Viewer):
        pass

    with pytest.raises(CaptureError):
        capture({"v": Better()})
    skip(Viewer, "a window")
    assert dict(capture({"v": Better()}).leaves())["v"].reason == "a window"
    skip(f"{__name__}.ByName", "by name")
    ByName = type("ByName", (), {"__module__": __name__})
    assert dict(capture({"v": ByName()}).leaves())["v"].reason == "by name"


class Simulator:
    """Stands for one whose state Python cannot see."""

    __slots__ = ("_bytes",)

    def __init__(self, content=b""):
        self._bytes = content


class BetterSimulator(Simulator):
    __slots__ = ()


@pytest.mark.parametrize("by", [Simulator, f"{__name__}.Simulator"])
def test_handlers_by_class_and_by_name(by):
    from perdure.state import _registry

    restored = []

    def write(simulator, saved):
        restored.append(simulator)
        simulator._bytes = saved["content"].tobytes()

    before = dict(_registry._classes)
    try:
        register(
            by,
            capture=lambda simulator: {"content": np.frombuffer(simulator._bytes, np.uint8)},
            restore=write,
        )
        for cls in (Simulator, BetterSimulator):
            value, live = Holder(), Holder()
            value.sim, live.sim = cls(b"abc"), cls()
            inner = live.sim
            moved(value, live)
            assert live.sim is inner
            assert inner._bytes == b"abc"
            assert restored.pop() is inner
        with pytest.raises(RestoreError, match=r"no handler can create one.*create="):
            moved([Simulator(b"x")], [])
        register(by, capture=lambda s: s._bytes, restore=write, create=lambda saved: Simulator(saved))
        assert moved([Simulator(b"x")], [])[0]._bytes == b"x"
    finally:
        _registry._classes.clear()
        _registry._classes.update(before)
        _registry._slot(Simulator)


def test_a_handler_may_hand_over_objects_of_the_world():
    class Player:
        def __init__(self, rng, score):
            self.__dict__["_rng"], self.score = rng, score

    def write(player, saved):
        player.score = saved["score"]
        player.__dict__["_rng"] = saved["rng"]

    register(
        Player,
        capture=lambda player: {"rng": player._rng, "score": player.score},
        restore=write,
        create=lambda saved: Player(saved["rng"], saved["score"]),
    )
    rng = np.random.default_rng(1)
    value = {"players": [Player(rng, 1), Player(rng, 2)], "rng": rng}
    live_rng = np.random.default_rng(2)
    live = {"players": [Player(live_rng, 0)], "rng": live_rng}
    found = moved(value, live)
    assert [player.score for player in found["players"]] == [1, 2]
    assert all(player._rng is live_rng for player in found["players"])
    assert live_rng.random() == rng.random()


def test_a_handler_that_returns_the_object_itself():
    class Lazy:
        pass

    register(Lazy, capture=lambda lazy: lazy, restore=lambda lazy, saved: None)
    with pytest.raises(CaptureError, match="returned the object itself"):
        capture({"x": Lazy()})


def test_what_a_handler_returns_may_be_refused_too():
    class Odd:
        pass

    register(Odd, capture=lambda odd: {"g": generator()}, restore=lambda odd, saved: None)
    with pytest.raises(CaptureError, match=r"x\['g'\]: generator"):
        capture({"x": Odd()})


def test_handlers_that_fail_are_listed_with_the_rest():
    class Failing:
        pass

    def fail(value):
        raise OSError("device lost")

    register(Failing, capture=fail, restore=lambda value, saved: None)
    with pytest.raises(CaptureError, match=r"(?s)2 part.*a: .*Failing: .*OSError: device lost.*g: generator"):
        capture({"a": Failing(), "g": generator()})


def test_structural_classes_are_never_made():
    class Engine:
        pass

    structural(Engine)
    moved([Engine()], [Engine()])
    with pytest.raises(RestoreError, match=r"x\[1\].*only the script can build it"):
        moved([Engine(), Engine()], [Engine()])


LEFT_OUT = {
    "a property": [property(len)],
    "a type": [list[int], int | str, Callable[[], int]],
    "an open file": [sys.stdout],
    "a logger": [logging.getLogger("x"), logging.StreamHandler()],
    "a weak reference": [weakref.proxy(HELD)],
    "a thread": [threading.Thread()],
    "workers": [ThreadPoolExecutor(1)],
    "the operating system's random numbers": [random.SystemRandom()],
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_is_left_out_on_purpose_is_listed(reason):
    value, live = Holder(), Holder()
    for number, each in enumerate(LEFT_OUT[reason]):
        setattr(value, f"a{number}", each)
        setattr(live, f"a{number}", each)
    report = restore(transported(capture({"x": value})), {"x": live})
    assert report.exact
    assert report.skipped == [(f"x.a{number}", reason) for number in range(len(LEFT_OUT[reason]))]
    assert vars(live) == vars(value)


def test_every_place_that_was_left_out_is_listed():
    thread = threading.Thread()
    state = capture({"a": [thread, thread], "b": {"k": thread}})
    assert [path for path, leaf in state.leaves() if getattr(leaf, "reason", "") == "a thread"] == [
        "a[0]", "a[1]", "b['k']",
    ]  # fmt: skip


def test_a_thread_is_not_replaced_by_a_value_nor_forgotten():
    value, live, thread = Holder(), Holder(), threading.Thread()
    value.f, live.f = "text", thread
    with pytest.raises(RestoreError, match=r"x\.f: the checkpoint has 'text', the script has a Thread"):
        moved(value, live)
    with pytest.raises(RestoreError, match=r"x\[1\]: the checkpoint left out a thread here"):
        moved([thread, thread], [thread])
    with pytest.raises(RestoreError, match=r"x: the checkpoint has 1 element\(s\), the script has 2"):
        moved([thread], [thread, thread])
    with pytest.raises(RestoreError, match=r"x\['made'\]\[0\]: the checkpoint left out a thread"):
        moved({"made": [thread]}, {})
