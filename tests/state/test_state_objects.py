"""Objects: attributes wherever a class keeps them, and no code of the class is run to reach them."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from typing import Generic, TypeVar

import numpy as np
import pytest
import torch
from state_support import moved

from perdure.errors import RestoreError
from perdure.state import capture, restore

T = TypeVar("T")


class Slots:
    __slots__ = ("__private", "unset", "x")

    def __init__(self, x):
        self.x = x
        self.__private = [x]

    def private(self):
        return self.__private


class MoreSlots(Slots):
    __slots__ = ("y",)


class SlotsAndDict(Slots):
    pass


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    b: list


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    a: int
    b: list


class Shadow:
    rate = 1.0
    table = {}  # noqa: RUF012


class Guarded:
    """Every attribute hook is hostile."""

    def __init__(self):
        vars(self)["_Guarded__secret"] = 1
        vars(self)["value"] = 2

    def __getattr__(self, name):
        raise RuntimeError(f"asked for {name}")

    def __setattr__(self, name, value):
        raise RuntimeError(f"told to set {name}")

    def __eq__(self, other):
        raise RuntimeError("compared")

    def __bool__(self):
        raise RuntimeError("asked for truth")

    def __len__(self):
        raise RuntimeError("asked for length")

    def __iter__(self):
        raise RuntimeError("iterated")

    def __repr__(self):
        raise RuntimeError("asked for repr")

    __hash__ = None


class Answering:
    """Answers to every name, as proxies do."""

    def __init__(self):
        self.value = 1

    def __getattr__(self, name):
        return lambda *args: {"not": "this"}


class Computed:
    drawn = 0

    def __init__(self):
        self._x = 1

    @property
    def x(self):
        Computed.drawn += 1
        return self._x

    @x.setter
    def x(self, value):
        raise RuntimeError("the setter ran")

    @functools.cached_property
    def table(self):
        return [self._x] * 3


class Parametrized(Generic[T]):
    def __init__(self, x):
        self.x = x


def attributes(value):
    return {name: getattr(value, name) for name in dir(value) if not name.startswith("__")}


def test_slots_of_a_class_and_its_bases():
    for cls in (Slots, MoreSlots, SlotsAndDict):
        value, live = cls(3), cls(4)
        if cls is MoreSlots:
            value.y = "set"
        if cls is SlotsAndDict:
            value.extra = {"a": 1}
        found = moved(value, live)
        assert found is live
        assert (live.x, live.private()) == (3, [3])
        assert not hasattr(live, "unset")
        assert getattr(live, "y", None) == getattr(value, "y", None)
        assert getattr(live, "extra", None) == getattr(value, "extra", None)


@pytest.mark.parametrize("cls", [Frozen, FrozenSlots])
def test_frozen_dataclasses(cls):
    live = cls(0, [])
    inner = live.b
    assert moved(cls(1, [2]), live) is live
    assert live == cls(1, [2])
    assert live.b is inner
    assert moved([cls(1, [2]), cls(3, [4])], [cls(0, [])]) == [cls(1, [2]), cls(3, [4])]


def test_instance_attributes_that_shadow_those_of_the_class():
    value, live = Shadow(), Shadow()
    value.rate = 0.5
    value.table = {"a": 1}
    moved(value, live)
    assert (live.rate, live.table) == (0.5, {"a": 1})
    assert (Shadow.rate, Shadow.table) == (1.0, {})


def test_hostile_hooks_are_never_called():
    value, live = Guarded(), Guarded()
    vars(value)["value"] = 5
    capture(value)
    assert moved(value, live) is live
    assert vars(live) == {"_Guarded__secret": 1, "value": 5}
    assert restore(capture(value), live).exact


def test_an_object_that_answers_to_everything():
    value, live = Answering(), Answering()
    value.value = 2
    assert restore(capture(value), live).exact
    assert live.value == 2


def test_properties_are_neither_read_nor_set():
    Computed.drawn = 0
    value, live = Computed(), Computed()
    value._x = 7
    assert moved(value, live) is live
    assert Computed.drawn == 0
    assert live.x == 7


def test_cached_properties_are_state():
    value, live = Computed(), Computed()
    assert value.table == [1, 1, 1]
    value.table[0] = 9
    moved(value, live)
    assert live.table == [9, 1, 1]


def test_attributes_that_had_not_been_set_yet_are_those_of_the_class_again():
    value, live = Computed(), Computed()
    assert live.table == [1, 1, 1]
    value._x = 5
    moved(value, live)
    assert live.table == [5, 5, 5]
    value, live = Shadow(), Shadow()
    live.rate = 7
    moved(value, live)
    assert live.rate == 1.0
    live.other = 1
    with pytest.raises(RestoreError, match=r"x\.other: the script has it"):
        moved(value, live)


def test_parametrized_generics_and_namespaces():
    live = Parametrized[int](1)
    assert moved(Parametrized[int](2), live).x == 2
    assert moved(types.SimpleNamespace(a=[1]), None) == types.SimpleNamespace(a=[1])


def test_module_getattr_is_not_called(monkeypatch):
    module = types.ModuleType("lazy_module_for_the_test")
    module.__getattr__ = lambda name: pytest.fail(f"asked for {name}")
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    state = capture({"x": Shadow()})
    state.root.fields["x"].type = "lazy_module_for_the_test:Thing"
    with pytest.raises(RestoreError, match="Thing"):
        restore(state, {"x": None})


def test_what_was_created_while_running_is_made_where_the_script_shows_its_class():
    value = [Shadow(), Shadow()]
    value[1].rate = 3
    found = moved(value, [Shadow()])
    assert type(found[1]) is Shadow
    assert found[1].rate == 3


def test_no_constructor_runs():
    class Counting:
        made = 0

        def __new__(cls):
            cls.made += 1
            return super().__new__(cls)

        def __init__(self):
            self.x = 1

    value, live = [Counting(), Counting()], [Counting()]
    before = Counting.made
    assert moved(value, live)[1].x == 1
    assert Counting.made == before


def test_classes_with_a_finalizer_are_not_made():
    class Finalized:
        def __init__(self, path):
            self.path = path

        def __del__(self):
            pass

    assert moved([Finalized(1)], [Finalized(2)])[0].path == 1
    with pytest.raises(RestoreError, match=r"\[1\].*finalizer"):
        moved([Finalized(1), Finalized(2)], [Finalized(3)])


def test_sentinels_are_not_made_anew():
    class Holder:
        unset = object()

        def __init__(self):
            self.a, self.b = self.unset, self.unset

    value, live = Holder(), Holder()
    value.a = 1
    assert moved(value, live).b is Holder.unset
    value, live = Holder(), Holder()
    live.a = live.b = 1
    with pytest.raises(RestoreError, match=r"x\.a: the checkpoint has a object"):
        moved(value, live)


def test_a_class_of_the_script_itself_has_two_names():
    Main = type("Config", (), {"__module__": "__main__"})
    Imported = type("Config", (), {"__module__": "train"})
    value, live = Main(), Imported()
    value.x, live.x = 1, 2
    restore(capture({"c": value}), {"c": live})
    assert live.x == 1


def test_an_attribute_of_another_name_than_text_is_refused():
    class Odd:
        pass

    odd = Odd()
    vars(odd)[1] = 2
    with pytest.raises(Exception, match="name of an attribute"):
        capture({"x": odd})


def test_enum_members_with_attributes_are_not_touched():
    class Colour(enum.Enum):
        RED = 1

    Colour.RED.note = [1]
    value, live = types.SimpleNamespace(c=Colour.RED), types.SimpleNamespace(c=Colour.RED)
    state = capture({"x": value})
    Colour.RED.note.append(2)
    restore(state, {"x": live})
    assert Colour.RED.note == [1, 2]


def test_distributions_are_made_again():
    value = {"d": torch.distributions.Normal(torch.tensor([1.0]), torch.tensor([2.0]))}
    value["d"].log_prob(torch.zeros(1))
    found = moved(value, {"d": None})
    assert type(found["d"]) is torch.distributions.Normal
    assert torch.equal(found["d"].log_prob(torch.zeros(1)), value["d"].log_prob(torch.zeros(1)))


def test_a_chain_of_objects_may_be_long():
    class Link:
        def __init__(self, value, following):
            self.value, self.following = value, following

    def chain(start, length):
        following = None
        for number in range(length):
            following = Link(np.array(start + number), following)
        return following

    value, live = chain(5, 5_000), chain(0, 1)
    found = moved(value, live)
    length = 0
    while found is not None:
        found, value, length = found.following, value.following, length + 1
        assert (found is None) == (value is None)
        assert found is None or found.value == value.value
    assert length == 5_000
