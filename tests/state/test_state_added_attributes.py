"""What a script adds to objects whose own state belongs to the process (threads, loggers, files, progress bars), and to
functions of its own."""

from __future__ import annotations

import functools
import io
import logging
import threading
from typing import Any

import pytest
import tqdm
from state_support import differences, transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, diff, restore


class Worker(threading.Thread):
    def __init__(self, results: list[int]) -> None:
        super().__init__(daemon=True)
        self.results = results


class Memory(logging.Handler):
    def __init__(self, results: list[int]) -> None:
        super().__init__()
        self.results = results


class Both(io.StringIO):
    pass


class Tee(io.TextIOBase):
    def __init__(self, results: list[int]) -> None:
        self.results = results
        self.file = io.BytesIO()


class Bar(tqdm.tqdm):  # type: ignore[type-arg]
    def __init__(self, results: list[int]) -> None:
        super().__init__(total=9, file=io.StringIO())
        self.results = results


class Plain(threading.Thread):
    pass


KINDS: dict[str, Any] = {"thread": Worker, "logger": Memory, "file": Tee, "bar": Bar}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_script_adds_is_state_and_the_rest_is_the_processs(kind: str) -> None:
    shared = [1, 2]
    saved, live = {"x": KINDS[kind](shared), "y": shared}, {"x": KINDS[kind]([]), "y": []}
    held, before = live["x"], dict(vars(live["x"]))
    state = transported(capture(saved))
    restore(state, live)
    assert live["x"] is held
    assert held.results == [1, 2]
    assert held.results is live["y"]
    assert diff(state, capture(live), ignore=()) == []
    own = before.keys() - {"results", "file"} if kind == "file" else before.keys() - {"results", "n"}
    assert all(vars(held)[name] is before[name] for name in own)
    # What the training makes, only the script can build.
    with pytest.raises(RestoreError, match="x: "):
        restore(state, {"x": None, "y": [], "seen": KINDS[kind]([])})


def test_nothing_is_said_where_a_script_adds_nothing() -> None:
    logger = logging.getLogger("perdure.tests")
    for value in (Plain(), threading.Thread(), logger, logging.StreamHandler()):
        state = transported(capture({"x": value}))
        live = {"x": None}
        assert restore(state, live).exact
        assert live["x"] is None
    assert differences(Worker([1]), Worker([2])) == ["x.results[0]"]


def test_no_checkpoint_sets_what_belongs_to_the_library_or_to_the_class() -> None:
    for name in ("_target", "daemon", "run", "__class__"):
        state = capture({"x": Worker([1])})
        fields = state.root.fields["x"].fields
        fields[name] = fields.pop("results")
        live = Worker([])
        before = dict(vars(live))
        with pytest.raises(RestoreError):
            restore(transported(state), {"x": live})
        assert vars(live) == before


def test_what_a_script_sets_on_a_function_of_its_own_is_state() -> None:
    def make(calls: int) -> Any:
        def plain() -> int:
            plain.calls += 1  # type: ignore[attr-defined]
            return int(plain.calls)  # type: ignore[attr-defined]

        @functools.wraps(plain)
        def wrapped() -> int:
            return int(plain()) + calls

        for each in (plain, wrapped):
            each.calls = calls  # type: ignore[attr-defined]
        other = lambda x: x  # noqa: E731
        other.seen = [calls]  # type: ignore[attr-defined]
        return {"plain": plain, "wrapped": wrapped, "other": other}

    saved, live = make(5), make(1)
    wraps = live["wrapped"].__wrapped__
    saved["plain"]()
    state = transported(capture(saved))
    restore(state, live)
    assert (live["plain"].calls, live["wrapped"].calls, live["other"].seen) == (6, 5, [5])
    assert live["wrapped"].__wrapped__ is wraps
    assert diff(state, capture(live), ignore=()) == []
    node = state.root.fields["plain"]
    node.fields["__dict__"] = 3
    with pytest.raises(RestoreError, match=r"attributes of a function here that are no dict"):
        restore(transported(state), make(1))


def test_attributes_of_a_function_that_cannot_be_captured_are_told() -> None:
    def make() -> Any:
        n = 1

        def call() -> int:
            return n

        return call

    function = make()
    function.stream = (n for n in range(3))
    with pytest.raises(CaptureError, match=r"stream.*generator"):
        capture({"x": function})
