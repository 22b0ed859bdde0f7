"""What no fresh process of the script could restore is told when the checkpoint is taken, not when it is needed."""

from __future__ import annotations

import collections
import gc
import subprocess
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure.errors import (
    ChangedScriptWarning,
    NotRestorableError,
    NotRestorableWarning,
    RestoreError,
    StoreError,
)
from perdure.state import BuiltWorld, paused_collection, walk_live
from perdure.state.restoring import _match
from perdure.store import Store


class Row:
    def __init__(self, number: int = 0) -> None:
        self.values = np.full(3, number)
        self.number = number


class Finalized:
    """No checkpoint makes one: what a file says would be finalized."""

    def __del__(self) -> None:
        pass


class Native:
    """Captured by a handler that cannot make one."""

    def __init__(self) -> None:
        self.number = 0


class Agent:
    def __init__(self) -> None:
        self.net = torch.nn.Linear(3, 2)
        self.other: Any = None
        self.note: Any = None
        self.finalized = Finalized()
        self.native = Native()
        self.row = Row()
        self.rows: collections.deque[Any] = collections.deque(Row(n) for n in range(3))
        self.table: dict[Any, Any] = {"a": 1}

    def act(self) -> None:
        pass


perdure.register(Native, capture=lambda one: one.number, restore=lambda one, number: None)


def built() -> perdure.World:
    """What the script builds."""
    torch.manual_seed(0)
    return perdure.World(agent=Agent())


def trained(directory: Path, change: Callable[[Any], None], **options: Any) -> list[str]:
    """Train two steps, the second with a change; what was warned of."""
    world = built()
    with warnings.catch_warnings(record=True) as caught, perdure.Run(directory, **options) as run:
        warnings.simplefilter("always")
        for step in run.steps(world, 2, every=1):
            if step == 1:
                change(world.agent)
    return [str(each.message) for each in caught if each.category is NotRestorableWarning]


def train(directory: Path, steps: int, change: Callable[[Any, int], None], **options: Any) -> None:
    world = built()
    with perdure.Run(directory, **options) as run:
        for step in run.steps(world, steps, every=1):
            change(world, step)


def resumes(directory: Path) -> bool:
    with perdure.Run(directory) as run:
        try:
            run.resume(built())
        except RestoreError:
            return False
    return True


# -- what came since the last checkpoint -------------------------------------------------------------------------------


def set_(name: str, make: Callable[[], Any]) -> Callable[[Any], None]:
    return lambda agent: setattr(agent, name, make())


def move(agent: Any) -> None:
    agent.other, agent.finalized = agent.finalized, None


def move_to_a_row(agent: Any) -> None:
    agent.row.held, agent.finalized = agent.finalized, None


def share(agent: Any) -> None:
    agent.other = agent.finalized


def rebind(agent: Any) -> None:
    agent.row.__class__ = type("Row", (), {"__module__": "elsewhere", "__qualname__": "Row"})


def reshape(agent: Any) -> None:
    agent.net.weight = torch.nn.Parameter(torch.zeros(4, 3))


def remove(agent: Any) -> None:
    del agent.row


def remove_of_a_row(agent: Any) -> None:
    del agent.row.number


def in_a_key(agent: Any) -> None:
    agent.table[frozenset({1, (2, 3)})] = Row()


def deep(agent: Any) -> None:
    agent.table["b"] = [{"c": (1, [Finalized()])}]


def at_the_end(agent: Any) -> None:
    agent.rows.extend(Row(n) for n in range(3_000))
    agent.rows[2_500].held = Finalized()


CHANGES = {
    "nothing": lambda agent: None,
    "known data": lambda agent: agent.rows.extend(Row(n) for n in range(2_000)),
    "a function where nothing was": set_("note", lambda: len),
    "a lambda in new data": lambda agent: agent.rows.append(types_row(lambda: 0)),
    "another one of its class at another path": set_("other", Finalized),
    "in the same place": set_("finalized", Finalized),
    "in known data": lambda agent: setattr(agent.rows[1], "held", Finalized()),
    "moved": move,
    "moved into data": move_to_a_row,
    "at a second place": share,
    "no handler makes it": set_("other", Native),
    "the handler's is another": set_("native", Native),
    "a class of another module": rebind,
    "a parameter of another shape": reshape,
    "a removed object": remove,
    "a removed number": remove_of_a_row,
    "a method is hidden": set_("act", lambda: 3),
    "a key": in_a_key,
    "deep in containers": deep,
    "far in a long container": at_the_end,
    "an optimizer": lambda agent: setattr(agent, "other", torch.optim.Adam(agent.net.parameters())),
    "a copy of the network": lambda agent: setattr(agent, "other", torch.nn.Linear(3, 2)),
    "a place that nobody named": set_("note", lambda: "/nowhere/at/all.txt"),
    "an array": set_("note", lambda: np.arange(3)),
    "a part of the world": lambda agent: None,
}


def types_row(function: Any) -> Row:
    row = Row()
    row.function = function  # type: ignore[attr-defined]
    return row


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_warned_of_and_nothing_else_cannot_be_restored(change: str, tmp_path: Path) -> None:
    warned = trained(tmp_path, CHANGES[change])
    assert (warned == []) == resumes(tmp_path), warned
    assert len(warned) <= 1


def test_some_changes_cannot_be_restored(tmp_path: Path) -> None:
    refused = {name for name, change in CHANGES.items() if trained(tmp_path / name, change)}
    assert refused >= {"moved into data", "in known data", "deep in containers", "far in a long container"}
    assert not refused & {"nothing", "known data", "in the same place", "an array", "at a second place"}


# -- how it is told ----------------------------------------------------------------------------------------------------


def test_the_first_checkpoint_raises_and_writes_nothing(tmp_path: Path) -> None:
    def change(world: Any, step: int) -> None:
        world.agent.rows.extend(Finalized() for _ in range(30))

    with pytest.raises(NotRestorableError) as caught:
        train(tmp_path, 9, change)
    message = str(caught.value)
    assert (
        "agent.rows[3], agent.rows[4], agent.rows[5] and 27 more: the checkpoint has a Finalized" in message
    )
    assert message.count("Finalized and") == 1
    assert "perdure.register(Finalized, capture=..., restore=..., create=...)" in message
    assert Store.open(tmp_path).checkpoints() == []


def test_what_is_built_before_is_restored(tmp_path: Path) -> None:
    """The remedy: an agent that gets it late may build it early."""
    world = built()
    world.agent.other = Finalized()
    with perdure.Run(tmp_path) as run:
        for step in run.steps(world, 3, every=1):
            world.agent.other.step = step
    world = built()
    world.agent.other = Finalized()
    with perdure.Run(tmp_path) as run:
        run.resume(world)
    assert world.agent.other.step == 2


def test_later_ones_warn_once_of_each_kind_at_the_line_of_the_loop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = built()
    with warnings.catch_warnings(record=True) as caught, perdure.Run(tmp_path, keep=1) as run:
        warnings.simplefilter("always")
        for step in run.steps(world, 30, every=1):
            if step >= 10:
                world.agent.rows.append(Finalized())
            if step >= 20:
                world.agent.other = Native()
    kinds = [each for each in caught if each.category is NotRestorableWarning]
    assert [("Finalized" in str(each.message), "Native" in str(each.message)) for each in kinds] == [
        (True, False),
        (False, True),
    ]
    assert {each.filename for each in kinds} == {__file__}
    # The last one that can be restored stays beside the newest.
    assert [each.step for each in Store.open(tmp_path).checkpoints()] == [10, 30]
    said = [line for line in capsys.readouterr().err.splitlines() if "cannot be restored" in line]
    assert len(said) == 1
    assert "from step 11 on" in said[0]
    assert "step 10" in said[0]


def test_a_refusal_says_how_to_go_on_from_the_checkpoint_that_was_kept(tmp_path: Path) -> None:
    def draws(directory: Path, *, mended: bool) -> Any:
        np.random.seed(0)
        world = built()
        with warnings.catch_warnings(), perdure.Run(directory, keep=2) as run:
            warnings.simplefilter("ignore", NotRestorableWarning)
            for step in run.steps(world, 20, every=2):
                world.agent.row.values[step % 3] += np.random.rand()
                world.agent.other = Finalized() if step >= 12 and not mended else None
        return world.agent.row.values

    directory = tmp_path / "a run"
    draws(directory, mended=False)
    before = Store.open(directory).checkpoints()
    assert [each.step for each in before] == [12, 18, 20]
    with perdure.Run(directory) as run, pytest.raises(RestoreError) as caught:
        run.resume(built())
    assert "Checkpoint 6 (step 12) can be restored" in str(caught.value)
    for line in str(caught.value).splitlines():
        if line.startswith(("  cp ", "  rm ")):
            subprocess.run(line, shell=True, check=True)
    copy = str(caught.value).rpartition("let the script open '")[2].removesuffix("'.")
    assert np.array_equal(draws(Path(copy), mended=True), draws(tmp_path / "whole", mended=True))
    assert Store.open(directory).checkpoints() == before


def test_a_refusal_of_the_only_checkpoint_names_no_other(tmp_path: Path) -> None:
    train(
        tmp_path, 1, lambda world, step: setattr(world.agent, "other", Finalized()), on_unrestorable="ignore"
    )
    with perdure.Run(tmp_path) as run, pytest.raises(RestoreError) as caught:
        run.resume(built())
    assert "can be restored" not in str(caught.value)


def test_what_goes_again_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = built()
    with pytest.warns(NotRestorableWarning), perdure.Run(tmp_path, keep=2) as run:
        for step in run.steps(world, 12, every=1):
            world.agent.other = Finalized() if step == 3 else None
    assert [each.step for each in Store.open(tmp_path).checkpoints()] == [11, 12]
    assert "cannot be restored" not in capsys.readouterr().err
    assert resumes(tmp_path)


@pytest.mark.parametrize("first", [True, False])
def test_raise_always_raises(first: bool, tmp_path: Path) -> None:
    def change(world: Any, step: int) -> None:
        if first or step == 4:
            world.agent.other = Finalized()

    with pytest.raises(NotRestorableError):
        train(tmp_path, 9, change, on_unrestorable="raise")
    assert [each.step for each in Store.open(tmp_path).checkpoints()] == ([] if first else [2, 3, 4])


def test_warn_warns_at_the_first_one_too(tmp_path: Path) -> None:
    assert trained(tmp_path, CHANGES["deep in containers"], on_unrestorable="warn")
    world = built()
    world.agent.late = None
    with perdure.Run(tmp_path / "first", on_unrestorable="warn") as run, pytest.warns(NotRestorableWarning):
        for _ in run.steps(world, 1):
            world.agent.late = Finalized()
    assert [each.step for each in Store.open(tmp_path / "first").checkpoints()] == [1]


def test_ignore_does_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BuiltWorld, "__init__", None)
    assert trained(tmp_path, CHANGES["deep in containers"], on_unrestorable="ignore") == []


def test_other_words_are_errors(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="on_unrestorable: expected one of auto, raise, warn, ignore, found 'no'"
    ):
        perdure.Run(tmp_path, on_unrestorable="no")  # type: ignore[arg-type]


def test_without_resume_nothing_is_known_and_that_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = built()
    with perdure.Run(tmp_path) as run:
        for step in range(3):
            run.checkpoint(world, step)
    assert capsys.readouterr().err.count("was not given to resume()") == 1


def test_a_world_that_was_only_looked_for_counts_as_built(tmp_path: Path) -> None:
    world = built()
    with perdure.Run(tmp_path) as run:
        assert run.find_checkpoint(world) is None
        world.agent.other = Finalized()
        with pytest.raises(NotRestorableError):
            run.checkpoint(world, 1)
        run.remember_built(world)
        run.checkpoint(world, 1)


def test_a_run_that_is_opened_again_has_the_world_as_it_is_then(tmp_path: Path) -> None:
    world = built()
    with perdure.Run(tmp_path) as run:
        run.resume(world)
        run.checkpoint(world, 1)
        run.close()
        world.agent.made_between = Finalized()
        run.reopen(world)
        run.checkpoint(world, 2)
        world.agent.other = Finalized()
        with pytest.warns(NotRestorableWarning, match="agent.other"):
            run.checkpoint(world, 3)


def test_a_run_with_which_somebody_else_has_gone_on_is_not_opened_again(tmp_path: Path) -> None:
    world = built()
    run = perdure.Run(tmp_path)
    run.resume(world)
    run.checkpoint(world, 1)
    run.close()
    with perdure.Run(tmp_path) as other:
        other.resume(world)
        other.checkpoint(world, 2)
    for _ in range(2):
        with pytest.raises(StoreError, match="newest checkpoint is 2, and was 1"):
            run.reopen(world)
    with perdure.Run(tmp_path) as again:
        assert [each.step for each in again.checkpoints()] == [1, 2]
        assert again.resume(built(), number=1).step == 1
        with pytest.raises(StoreError, match="there is no checkpoint 7"):
            again.resume(built(), number=7)


def test_a_resumed_run_has_nothing_to_tell(tmp_path: Path) -> None:
    assert trained(tmp_path, CHANGES["known data"]) == []
    world = built()
    with warnings.catch_warnings(), perdure.Run(tmp_path) as run:
        warnings.simplefilter("error", NotRestorableWarning)
        warnings.simplefilter("ignore", ChangedScriptWarning)  # it is another loop than the one in `trained`
        for _ in run.steps(world, 9, every=1):
            world.agent.rows.append(Row(7))
    assert resumes(tmp_path)


# -- what is dropped ---------------------------------------------------------------------------------------------------


def test_what_strict_false_drops_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(agent: Any) -> None:
        agent.rows.extend(Finalized() for _ in range(30))
        agent.other = (1, Finalized())

    trained(tmp_path, change)
    with perdure.Run(tmp_path) as run, pytest.raises(RestoreError) as caught:
        run.resume(built())
    assert "agent.other[1], agent.rows[3], agent.rows[4] and 28 more: the checkpoint has a Finalized" in str(
        caught.value
    )
    assert "32 value(s) of the checkpoint would be lost" in str(caught.value)
    capsys.readouterr()
    with perdure.Run(tmp_path, strict=False) as run:
        run.resume(built())
    lines = [line for line in capsys.readouterr().err.splitlines() if "strict=False" in line]
    assert len(lines) == 2
    assert (
        "dropped from the checkpoint (strict=False): agent.other[1], agent.rows[3], agent.rows[4] and 28"
        in lines[0]
    )
    assert "agent.other: a part of it cannot be restored" in lines[1]


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each comparison, how many places it looked at."""
    found: list[int] = []
    report, match = BuiltWorld.report, _match._Matcher._match

    def counted_report(self: Any, root: Any) -> Any:
        found.append(0)
        return report(self, root)

    def counted_match(self: Any, edge: Any) -> None:
        found[-1] += 1
        match(self, edge)

    monkeypatch.setattr(BuiltWorld, "report", counted_report)
    monkeypatch.setattr(_match._Matcher, "_match", counted_match)
    return found


def test_a_checkpoint_without_anything_new_is_not_compared(compared: list[int]) -> None:
    world = built()
    record = recorded(world)
    for _ in range(5):
        world.agent.rows.extend(Row(n) for n in range(100))
        world.agent.note = "another text"
        assert record.compare(walk_live(world)).exact
    assert len(compared) == 1


def test_what_is_compared_does_not_grow_with_the_data(compared: list[int]) -> None:
    world = built()
    record = recorded(world)
    world.agent.rows.extend(Row(n) for n in range(10_000))
    with paused_collection():
        live = walk_live(world)
        length = len(live.root.fields["agent"].fields["rows"].items)
        assert record.compare(live).exact
        world.agent.rows[9_000].extra = Row()
        again = walk_live(world)
        assert record.compare(again).exact
    assert len(compared) == 2
    assert max(compared) < 8_000
    # The tree that is written is whole.
    assert len(live.root.fields["agent"].fields["rows"].items) == length == 10_003


def test_what_is_remembered_keeps_no_bytes_alive() -> None:
    world = built()
    array = np.zeros(1_000_000)
    world.agent.big = array
    world.agent.text = bytes(100_000)
    world.agent.rows.extend(Row(n) for n in range(5_000))
    last = weakref.ref(world.agent.rows[-1].values)
    record = recorded(world)
    kept = weakref.ref(array)
    del array, world.agent.big
    world.agent.rows.clear()
    gc.collect()
    assert kept() is None
    assert last() is None
    nodes = sum(len(each.items) for each in [record.root.fields["agent"].fields["rows"]])
    assert nodes < 2_000


def recorded(world: perdure.World) -> BuiltWorld:
    record = BuiltWorld(walk_live(world))
    record.release()
    return record
