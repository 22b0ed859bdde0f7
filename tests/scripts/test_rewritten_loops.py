"""Generated loops through what `perdure run` inserts: `for` and `while`, left in every way, killed in every round."""

from __future__ import annotations

import linecache
import os
from pathlib import Path
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from perdure.script import read_script
from perdure.script._record import Record
from perdure.script._rewrite import SESSION, rewritten
from perdure.script._session import Session
from perdure.state import skip

_HEAD = """\
class Env:
    def step(self, value):
        burn()
class Loss:
    def backward(self):
        pass
env, loss = Env(), Loss()
n = s = t = u = 0
seen = []
def more():
    global u
    u += 1
    return len(seen) < 4
"""


class Killed(BaseException):
    """Ends a process of a script where it is."""


class Fuse:
    """Ends a process of a script at one of its steps. It is of the process, and no state of the script.

    :param at: the step; 0 for none.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.taken = 0

    def in_script(self) -> Any:
        def burn() -> None:
            self.taken += 1
            if self.taken == self.at:
                raise Killed

        return burn


skip(Fuse, "the test")


def outcome(source: str, directory: Path, kills: list[int]) -> str:
    """What a script ends with.

    :param kills: at which of its steps each process is killed; the last one is not.
    """
    directory.mkdir()
    path = directory / "train.py"
    path.write_text(source)
    record = Record(["train.py"], 0)
    for kill in [*kills, 0]:
        read = read_script(str(path), [])
        loops = dict(enumerate(read.loops))
        assert len(loops) == source.count("env.step")
        ended: list[Any] = []
        session = Session(str(directory), record, loops, 1, None, {"background": False})
        names = {
            "burn": Fuse(kill).in_script(),
            "end": ended.append,
            "__name__": "__main__",
            SESSION: session,
        }
        linecache.cache[str(path)] = (len(source), None, source.splitlines(True), str(path))
        try:
            exec(compile(rewritten(read.files[0].tree, loops), str(path), "exec"), names)
            return repr(ended)
        except Killed:
            pass
        finally:
            session.close()
    raise AssertionError("the last process is not killed")


def without(source: str) -> tuple[str, int]:
    """What it ends with without Perdure, and how many steps it takes."""
    ended: list[Any] = []
    steps: list[int] = []
    exec(compile(source, "train.py", "exec"), {"burn": lambda: steps.append(1), "end": ended.append})
    return repr(ended), len(steps)


def _indented(lines: list[str], by: int = 1) -> list[str]:
    return ["    " * by + line for each in lines for line in each.splitlines()]


_conditions = st.sampled_from(["s % 3 == 2", "len(seen) == 3", "n == 2", "t > 4", "s % 2", "not seen"])
_changes = st.sampled_from(
    [
        "s += 1", "t = s + n", "t += 2 * s", "seen.append(t)", "seen = [*seen, s]", "u = t",
        "for i in range(3):\n    if i == s: break\n    t += i\nelse:\n    t += 10",
        "while True:\n    t += 1\n    if t % 3 == 0: break",
        "try:\n    t += 1 // (s % 2)\nexcept ZeroDivisionError:\n    u += 1\nfinally:\n    s += 1",
        "(v := s + 1)\nt += v",
    ]
)  # fmt: skip
_leaves = st.builds(
    lambda condition, change, how: f"if {condition}:\n    {change}\n    {how}",
    _conditions,
    st.sampled_from(["t += 5", "s += 2", "pass"]),
    st.sampled_from(["break", "continue", "break", "raise ValueError", "LEAVE"]),
)


@st.composite
def _loops(draw: st.DrawFn) -> list[str]:
    head = draw(
        st.sampled_from(
            [
                "for x in range(4):", "for x in range(1, 9, 2):", "for x, y in zip([3, 1, 2, 0], 'abcd'):",
                "while n < 4:", "while more() and n < 6:", "while True:", "while (left := 4 - n) > 0:",
            ]
        )
    )  # fmt: skip
    body = draw(st.lists(_changes | _leaves, min_size=1, max_size=4))
    body.insert(draw(st.integers(0, len(body))), "env.step(n)\nloss.backward()")
    # Rounds are counted first: whatever `continue` skips, the loop comes to an end.
    body = ["n += 1", *(["if n > 5: break"] if head.startswith("while True") else []), *body]
    lines = [head, *_indented(body)]
    if draw(st.booleans()):
        lines += ["else:", *_indented([draw(_changes)])]
    if any("raise" in line for line in lines):
        lines = ["try:", *_indented(lines), "except ValueError:", "    t += 100"]
    return lines


@st.composite
def _scripts(draw: st.DrawFn) -> str:
    lines = draw(_loops())
    if draw(st.booleans()):
        lines += [draw(_changes), "n = 0", *draw(_loops())]
    if draw(st.booleans()):
        lines = [line.replace("LEAVE", "return t") for line in lines]
        lines = ["def train():", "    n = s = t = 0", "    seen = []", "    global u", *_indented(lines)]
        lines += ["    end((n, s, t, seen))", "end(train())", "end(u)"]
    else:
        lines = [line.replace("LEAVE", "break") for line in lines]
    return _HEAD + "\n".join([*lines, "end((n, s, t, u, seen))", ""])


@pytest.fixture(autouse=True)
def nothing_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here no power is cut, and thousands of processes are killed."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=_scripts(), draw=st.randoms(use_true_random=False))
def test_any_loop_is_exact_wherever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, source: str, draw: Random
) -> None:
    expected, steps = without(source)
    kills = [draw.randint(1, max(1, steps)) for _ in range(3)]
    _check(tmp_path_factory.mktemp("loops"), source, expected, [kills[:1], kills])


@pytest.mark.campaign
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=_scripts())
def test_very_many_loops_are_exact_wherever_they_are_killed(
    tmp_path_factory: pytest.TempPathFactory, source: str
) -> None:
    expected, steps = without(source)
    every = [[at] for at in range(steps + 1)]
    _check(tmp_path_factory.mktemp("loops"), source, expected, [*every, [1, 2, 1], [2, 1, 3]])


def _check(directory: Path, source: str, expected: str, plans: list[list[int]]) -> None:
    for kills in plans:
        found = outcome(source, directory / "-".join(map(str, kills)), kills)
        assert found == expected, f"killed at {kills}:\n{source}"
