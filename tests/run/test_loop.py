"""`perdure.loop`: one line makes a loop resumable. Killed in any round, it ends as the loop that nobody killed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from test_loop_variables import (
    _NOT_IN_FUNCTIONS,
    CARRIED,
    NOT_CARRIED,
    Killed,
    _bodies,
    _indented,
    run_script,
)

import perdure
from perdure.errors import NotCapturedWarning, PerdureError

_ROUNDS = 4


class Fuse:
    """Ends a script in one round, as SIGKILL would. It is not of the script, and outlives each process of it."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.rounds: list[Any] = []

    def in_script(self) -> Any:
        # A function is what a script defines, so no state of the loop.
        def burn(step: Any) -> None:
            self.rounds.append(step)
            if step == self.at:
                raise Killed

        return burn


perdure.state.skip(Fuse, "the test")


def script(before: str, body: str, after: str, *, form: str, rounds: str = f"range({_ROUNDS})") -> str:
    lines = [
        *before.splitlines(),
        "world = types.SimpleNamespace(n=0, t=0)",
        f"for step in perdure.loop({rounds}, directory, every=1, background=False):",
        "    burn(step)",
        *_indented(body.splitlines()),
        *after.splitlines(),
        "end((world.n, world.t))",
    ]
    if form == "function":
        lines = ["def main():", *_indented(lines), "main()"]
    return "\n".join(["import types", *lines, ""])


def outcomes(source: str, directory: Path, kills: list[Any]) -> list[Any]:
    """What a script ends with: undisturbed, and killed in a round and run again."""
    found = []
    for number, kill in enumerate([None, *kills]):
        fuse, ended = Fuse(), []
        names = {"burn": fuse.in_script(), "end": lambda value, ended=ended: ended.append(value)}
        names["directory"] = os.fspath(directory / f"run-{number}")
        if kill is not None:
            fuse.at = kill
            with pytest.raises(Killed):
                run_script(source, **names)
            fuse.at = None
        run_script(source, **names)
        # Run once more, the finished loop does nothing, and what follows it sees the same.
        fuse.rounds.clear()
        run_script(source, **names)
        assert fuse.rounds == []
        assert len(ended) == 2
        assert repr(ended[0]) == repr(ended[1])
        found.append(repr(ended[0]))
    return found


_CASES = {**CARRIED, **{name: (*case, []) for name, case in NOT_CARRIED.items()}}


@pytest.mark.parametrize("name", _CASES)
def test_whatever_a_loop_carries_is_there_again(tmp_path: Path, name: str) -> None:
    before, body, after, _ = _CASES[name]
    forms = ["module"] if name in _NOT_IN_FUNCTIONS else ["module", "function"]
    # In one form each: how variables are written does not depend on the case.
    form = forms[list(_CASES).index(name) % len(forms)]
    whole, killed = outcomes(script(before, body, after, form=form), tmp_path, [2])
    assert killed == whole


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=_bodies,
    after=st.sampled_from(["", "world.t += a", "world.t += len(l)", "world.t += int(z.sum()) + step"]),
    form=st.sampled_from(["module", "function"]),
)
def test_any_loop_is_exact_wherever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory, body: list[str], after: str, form: str
) -> None:
    source = script("a, b, c, l, z = 0, 1, 2, [0], np.zeros(3)", "\n".join(body), after, form=form)
    whole, *killed = outcomes(source, tmp_path_factory.mktemp("loop"), list(range(1, _ROUNDS)))
    assert killed == [whole] * (_ROUNDS - 1)


@pytest.mark.parametrize(
    ("rounds", "kill"),
    [
        ("range(1, 9, 2)", 5),
        ("range(4, 0, -1)", 2),
        ("['a', 'b', 'c', 'd']", "c"),
        ("enumerate('abcd')", (2, "c")),
        ("zip('abcd', itertools.count())", ("c", 2)),
        ("map(str, range(4))", "2"),
        ("(x * x for x in range(4))", 4),
        ("{'a': 1, 'b': 2, 'c': 3}", "c"),
        ("lambda: world.n < 40", 2),
        ("tqdm.tqdm(range(4), file=open(os.devnull, 'w'))", 2),
    ],
)
def test_what_can_be_looped_over(tmp_path: Path, rounds: str, kill: Any) -> None:
    body = "world.n += 10\nrandom.seed(world.n)\nworld.t += random.random()"
    source = "import itertools, os, random, tqdm\n" + script("", body, "", form="module", rounds=rounds)
    whole, killed = outcomes(source, tmp_path, [kill])
    assert killed == whole


def test_what_an_iterator_draws_while_it_is_brought_to_its_place_counts_for_nothing(tmp_path: Path) -> None:
    before = (
        "torch.manual_seed(1)\ndata = torch.utils.data.DataLoader(list(range(8)), batch_size=2, shuffle=True)"
    )
    body = "world.n += torch.rand(()).item()\nworld.t = world.t * 10 + int(step[0])"
    source = script(before, body, "", form="function", rounds="(batch.tolist() for batch in data)")
    fuse = Fuse()
    ended: list[Any] = []
    names = {"burn": fuse.in_script(), "end": lambda value: ended.append(value)}
    run_script(source, directory=str(tmp_path / "whole"), **names)
    fuse.at = fuse.rounds[2]
    with pytest.raises(Killed):
        run_script(source, directory=str(tmp_path / "killed"), **names)
    fuse.at = None
    run_script(source, directory=str(tmp_path / "killed"), **names)
    assert ended[0] == ended[1]


def test_the_variable_of_the_loop_after_it(tmp_path: Path) -> None:
    source = script("", "world.n += step", "world.t = step", form="function")
    whole, killed = outcomes(source, tmp_path, [3])
    assert killed == whole == "(6, 3)"


def test_the_run_of_a_loop(tmp_path: Path) -> None:
    source = """
policy = torch.nn.Linear(1, 1)
rounds = perdure.loop(range(6), directory, every=2)
for step in rounds:
    rounds.run.report_score(step % 4, {"policy": policy})
"""
    for _ in range(2):
        found = run_script(source, directory=str(tmp_path / "run"))[1]
        assert found["rounds"].run.best_score == 3


def test_a_loop_that_is_left_by_break_is_left_there_again(tmp_path: Path) -> None:
    source = script("", "world.n += step\nif step == 2: break", "", form="function")
    ended: list[Any] = []
    for _ in range(2):
        run_script(
            source,
            burn=lambda step: None,
            end=lambda value: ended.append(value),
            directory=str(tmp_path / "run"),
        )
    assert ended == [(3, 0)] * 2


def test_variables_named_as_what_the_run_keeps(tmp_path: Path) -> None:
    body = "world.n += run + run_\nrun, run_ = run_, run + step"
    whole, killed = outcomes(script("run, run_ = 1, 2", body, "", form="module"), tmp_path, [2])
    assert killed == whole


def test_it_says_which_loop_and_what_it_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes(script("x = 0", "world.n += x\nx = step", "", form="function"), tmp_path, [])
    said = capsys.readouterr().err
    assert ":5: the loop carries 2 variables: x, world" in said


_TRAIN = """w = torch.ones(1, requires_grad=True)
loss = torch.zeros(())
"""
_LEARN = "if step % 2 == 0: loss = (w * step).sum()\n"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (_LEARN, "world.t = loss.item()"),
        (_LEARN + "world.n += loss.item()", ""),
        (_LEARN + "world.n += float(loss) + loss.shape.numel() + loss.detach()", "world.t = float(loss)"),
        (
            "for part in [step]: loss = (w * part).sum()\nloss.backward()\nw.grad = None",
            "world.t = loss.item()",
        ),
    ],
)
@pytest.mark.parametrize("form", ["module", "function"])
def test_a_tensor_whose_numbers_alone_matter_comes_without_its_graph_and_without_a_word(
    tmp_path: Path, body: str, after: str, form: str
) -> None:
    whole, killed = outcomes(script(_TRAIN, body, after, form=form), tmp_path, [3])
    assert killed == whole


@pytest.mark.parametrize("use", ["world.n += (loss + w).item()", "world.s = f'{loss}'"])
def test_a_tensor_whose_graph_a_later_round_may_use_is_told(tmp_path: Path, use: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(script(_TRAIN, _LEARN + use, "", form="function"))
    names = {"burn": lambda step: None, "end": lambda value: None, "directory": str(tmp_path / "run")}
    with pytest.warns(NotCapturedWarning, match="loss: a tensor with a graph"):
        exec(compile(path.read_text(), path, "exec"), {"perdure": perdure, "torch": torch, **names})


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "def f():\n    for x in perdure.loop(range(3), directory): yield x\nlist(f())",
            r"f\(\) is a generator",
        ),
        ("class A:\n    for x in perdure.loop(range(3), directory): pass", "A is the body of a class"),
        ("list(perdure.loop(range(3), directory))", "Write it as `for x in"),
        ("[x for x in perdure.loop(range(3), directory)]", "Write it as `for x in"),
        ("for x in perdure.loop(3, directory): pass", "found a int"),
    ],
)
def test_where_it_cannot_work_it_says_so_before_anything_is_made(
    tmp_path: Path, source: str, message: str
) -> None:
    with pytest.raises((PerdureError, TypeError), match=message):
        run_script(source, directory=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


_ROLLOUTS = """
def rollouts(env):
    while True:
        yield env.pop()
class Iterator:
    def __iter__(self): return self
    def __next__(self): return 1
class Data:
    def __iter__(self):
        yield 1
def schedule(n):
    for i in range(n):
        yield 1 / (i + 1)
"""


@pytest.mark.parametrize(
    ("rounds", "what"),
    [
        ("rollouts([3, 2, 1])", "rollouts(), a generator"),
        ("enumerate(rollouts([1]))", "rollouts(), a generator"),
        ("zip(range(3), rollouts([1]))", "rollouts(), a generator"),
        ("tqdm.tqdm(rollouts([1]))", "rollouts(), a generator"),
        ("Iterator()", "Iterator.__next__()"),
        ("Data()", "Data.__iter__()"),
        ("enumerate(Data())", "Data.__iter__(), a generator"),
    ],
)
def test_a_generator_that_no_other_process_could_bring_to_its_place_is_refused(
    tmp_path: Path, rounds: str, what: str
) -> None:
    source = f"import tqdm\n{_ROLLOUTS}\nfor x in perdure.loop({rounds}, directory): pass"
    with pytest.raises(PerdureError, match=re.escape(f"the loop goes through {what}")):
        run_script(source, directory=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_remedy_for_a_generator(tmp_path: Path) -> None:
    before = """class Rollouts:
    def __init__(self): self.at = 1
    def __iter__(self): return self
    def __next__(self):
        self.at = self.at * 3 + world.t
        return self.at
rounds = Rollouts()"""
    body = "item = next(rounds)\nworld.t += item % 5\nworld.n += item"
    whole, killed = outcomes(script(before, body, "", form="module"), tmp_path, [2])
    assert killed == whole


def test_a_generator_of_numbers_gives_the_same_everywhere(tmp_path: Path) -> None:
    source = _ROLLOUTS + script("", "world.t += step", "", form="module", rounds="schedule(4)")
    whole, killed = outcomes(source, tmp_path, [1 / 3])
    assert killed == whole


def test_source_that_nobody_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PerdureError, match="in a file or a notebook"):
        exec(
            "for x in perdure.loop(range(3), directory): pass",
            {"perdure": perdure, "directory": tmp_path / "run"},
        )


def test_a_shorter_loop_than_the_one_that_began_the_run(tmp_path: Path) -> None:
    source = "n = 0\nfor x in perdure.loop(range(length), directory, every=1): n += x"
    run_script(source, directory=str(tmp_path), length=5)
    with pytest.raises(PerdureError, match="has done 5 rounds, and the script now has 3"):
        run_script(source, directory=str(tmp_path), length=3)
    assert run_script(source, directory=str(tmp_path), length=8)[1]["n"] == sum(range(8))
