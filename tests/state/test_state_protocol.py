"""Objects that offer `__perdure_state__` and `__perdure_restore__` themselves."""

from __future__ import annotations

import collections
import itertools
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from state_support import transported

import perdure
from perdure import errors
from perdure.state import capture, check, restore


class Ring:
    """A buffer that keeps what a walk could not restore: its lock, say."""

    def __init__(self, size: int = 4) -> None:
        self.rows = np.zeros(size)
        self.owner: Any = None
        self.position = 0
        self.calls: list[str] = []
        self.hidden = (number for number in range(9))  # cannot be captured

    def __perdure_state__(self) -> dict[str, Any]:
        return {"rows": self.rows, "position": self.position, "owner": self.owner}

    def __perdure_restore__(self, state: dict[str, Any]) -> None:
        self.rows = state["rows"]
        self.position = state["position"]
        self.owner = state["owner"]
        self.hidden = (number for number in range(state["position"]))


class Point:
    """An immutable value."""

    __slots__ = ("_place",)

    def __init__(self, x: int, y: int) -> None:
        self._place = (x, y)

    def __perdure_state__(self) -> tuple[int, int]:
        return self._place

    @classmethod
    def __perdure_create__(cls, state: tuple[int, int]) -> Point:
        return cls(*state)


class Counter(Ring):
    """One that inherits the protocol and changes one half of it."""

    def __perdure_state__(self) -> dict[str, Any]:
        return {**super().__perdure_state__(), "position": self.position * 2}


class Net(torch.nn.Module):
    """A module, for which Perdure has a rule, that offers the protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.seen = 0

    def __perdure_state__(self) -> dict[str, Any]:
        return {"weights": self.state_dict(), "seen": self.seen}

    def __perdure_restore__(self, state: dict[str, Any]) -> None:
        self.load_state_dict(state["weights"])
        self.seen = state["seen"]


class Names(dict[str, int]):
    def __perdure_state__(self) -> list[str]:
        return sorted(self)

    def __perdure_restore__(self, state: list[str]) -> None:
        self.clear()
        self.update({name: len(name) for name in state})


def through(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    assert restore(transported(capture(ours)), theirs).exact
    return theirs


def ring(position: int = 3) -> Ring:
    made = Ring()
    made.rows[:] = [1, 2, 3, 4]
    made.position = position
    return made


def test_an_object_that_is_there_is_filled() -> None:
    own = Ring()
    world = through({"ring": ring()}, {"ring": own})
    assert world["ring"] is own
    assert own.rows.tolist() == [1, 2, 3, 4]
    assert own.position == 3
    assert list(own.hidden) == [0, 1, 2]


def test_what_the_state_has_in_common_with_the_world_stays_in_common() -> None:
    ours = {"ring": ring(), "rows": None, "agent": [1]}
    ours["rows"] = ours["ring"].rows  # type: ignore[union-attr]
    ours["ring"].owner = ours["agent"]  # type: ignore[union-attr]
    for theirs in (
        {"ring": Ring(), "rows": np.zeros(4), "agent": []},
        {"rows": None, "agent": None, "ring": Ring()},
    ):
        world = through(ours, theirs)
        assert world["ring"].rows is world["rows"]
        assert world["ring"].owner is world["agent"]
        assert world["agent"] == [1]


def test_one_that_came_about_in_training_is_made_without_its_constructor() -> None:
    world = through({"rings": [Ring(), ring()]}, {"rings": [Ring()]})
    made = world["rings"][1]
    assert type(made) is Ring
    assert made.rows.tolist() == [1, 2, 3, 4]
    assert not hasattr(made, "calls")


def test_it_may_refer_back_to_what_holds_it() -> None:
    outer = ring()
    outer.owner = [ring(), outer]
    outer.owner[0].owner = outer
    world = through({"ring": outer}, {"ring": Ring()})
    assert world["ring"].owner[1] is world["ring"]
    assert world["ring"].owner[0].owner is world["ring"]


def test_immutable_values_are_created() -> None:
    where = Point(3, 4)
    world = through({"a": where, "b": where, "c": [where]}, {"a": Point(0, 0), "b": None, "c": []})
    assert world["a"]._place == (3, 4)
    assert world["a"] is world["b"] is world["c"][0]


def test_a_subclass_inherits_it() -> None:
    ours = Counter()
    ours.position = 5
    with pytest.warns(
        errors.NotCapturedWarning, match="did not put back"
    ):  # its own doubles what is captured
        assert through({"x": ours}, {"x": Counter()})["x"].position == 10


def test_a_class_for_which_perdure_has_a_rule_may_offer_it() -> None:
    ours = Net()
    ours.seen = 7
    own = Net()
    through({"net": ours}, {"net": own})
    assert own.seen == 7
    assert torch.equal(own.layer.weight, ours.layer.weight)
    names = Names(abc=3, d=1)
    assert through({"n": names}, {"n": Names()})["n"] == names


def test_an_environment_may_offer_it() -> None:
    class Walk(gym.Env):  # type: ignore[type-arg]
        at = 0

        def __perdure_state__(self) -> int:
            return self.at

        def __perdure_restore__(self, state: int) -> None:
            self.at = state

    ours = Walk()
    ours.at = 4
    assert through({"env": ours}, {"env": Walk()})["env"].at == 4


def test_a_registered_handler_wins() -> None:
    class Registered(Ring):
        pass

    perdure.register(
        Registered,
        capture=lambda live: live.position + 100,
        restore=lambda live, saved: live.calls.append(saved),
    )
    ours = Registered()
    assert through({"x": ours}, {"x": Registered()})["x"].calls == [100]


def test_nearer_than_a_registered_base() -> None:
    class Base:
        pass

    class Near(Base):
        at = 1

        def __perdure_state__(self) -> int:
            return self.at

        def __perdure_restore__(self, state: int) -> None:
            self.at = state

    perdure.skip(Base, "a test")
    ours = Near()
    ours.at = 2
    assert through({"x": ours}, {"x": Near()})["x"].at == 2


def test_iterators_and_containers_in_the_state() -> None:
    class Stream:
        def __init__(self) -> None:
            self.it: Any = itertools.count()
            self.last: Any = collections.deque(maxlen=2)

        def __perdure_state__(self) -> Any:
            return self.it, self.last

        def __perdure_restore__(self, state: Any) -> None:
            self.it, self.last = state

    ours = Stream()
    ours.last.extend([next(ours.it), next(ours.it)])
    theirs = through({"x": ours}, {"x": Stream()})["x"]
    assert next(theirs.it) == 2
    assert theirs.last.maxlen == 2


def test_drawing_random_numbers_shifts_nothing() -> None:
    class Drawing(Ring):
        def __perdure_state__(self) -> Any:
            random.random()
            return {"rows": self.rows, "position": self.position, "owner": None}

        def __perdure_restore__(self, state: Any) -> None:
            random.random()

    before = random.getstate()
    through({"x": Drawing()}, {"x": Drawing()})
    assert random.getstate() == before


# -- errors ----------------------------------------------------------------------------------------------------


class OnlyState:
    def __perdure_state__(self) -> int:
        return 1


class OnlyRestore:
    def __perdure_restore__(self, state: Any) -> None:
        pass


class NoClassMethod:
    def __perdure_state__(self) -> int:
        return 1

    def __perdure_create__(self, state: Any) -> Any:
        pass


class Failing(Ring):
    def __perdure_state__(self) -> dict[str, Any]:
        if self.position > 5:
            raise KeyError("rows")
        return super().__perdure_state__()

    def __perdure_restore__(self, state: dict[str, Any]) -> None:
        raise ValueError("of another size")


class Itself(Ring):
    def __perdure_state__(self) -> Any:
        return self


class Opaque(Ring):
    def __perdure_state__(self) -> Any:
        return {"inner": [self.hidden]}


class Closing(Ring):
    def __del__(self) -> None:
        pass


class Loop:
    def __init__(self, state: Any) -> None:
        self.state = state

    def __perdure_state__(self) -> Any:
        return self.state

    @classmethod
    def __perdure_create__(cls, state: Any) -> Loop:
        return cls(state)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (
            OnlyState(),
            r"a\.b: OnlyState: its class has __perdure_state__ and lacks __perdure_restore__ \(or, for",
        ),
        (OnlyRestore(), r"a\.b: OnlyRestore: its class has __perdure_restore__ and lacks __perdure_state__"),
        (NoClassMethod(), r"its __perdure_create__ is not a class method. Write @classmethod"),
        (Itself(), r"returned the object itself"),
        (Opaque(), r"a\.b\['inner'\]\[0\]: generator"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_wrong_is_told_when_it_is_captured(obj: Any, expected: str) -> None:
    holder: Any = type("Holder", (), {})()
    holder.b = obj
    with pytest.raises(errors.CaptureError, match=expected):
        capture({"a": holder})


def test_errors_of_the_methods_name_the_class_and_the_path() -> None:
    failing = Failing()
    state = transported(capture({"ring": failing}))
    with pytest.raises(
        errors.RestoreError, match=r"ring: .*Failing.__perdure_restore__ failed: ValueError: of another"
    ):
        restore(state, {"ring": Failing()})
    failing.position = 6
    with pytest.raises(
        errors.CaptureError, match=r"ring: Failing: Failing.__perdure_state__ failed: KeyError: 'rows'"
    ):
        capture({"ring": failing})


def test_a_class_with_a_finalizer_is_made_only_by_its_own_method() -> None:
    state = transported(capture({"x": [Closing(), Closing()]}))
    report = check(state, {"x": [Closing()]})
    assert "Closing" in report.problems()
    assert "finalizer and no __perdure_create__" in report.problems()


def test_only_classes_that_the_script_shows_are_made() -> None:
    state = capture({"x": [ring()]})
    state.root.fields["x"].items[0].type = "json.decoder:JSONDecoder"
    assert not check(transported(state), {"x": []}).exact


def test_what_is_created_cannot_refer_back_to_itself() -> None:
    held: list[Any] = [Loop(1)]
    held.append(Loop(held))
    report = check(transported(capture({"x": held})), {"x": [Loop(1)]})
    assert "x[1]: the checkpoint has a Loop whose state refers back to it" in report.problems()
