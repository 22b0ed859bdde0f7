"""What users register, and what classes offer themselves: values that never change are made anew, and what a `restore`
function does not put back is noticed."""

from __future__ import annotations

import ctypes
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from state_support import transported

from perdure.errors import CaptureError, NotCapturedWarning, RestoreError
from perdure.state import _registry, capture, register, restore


class Named(str):
    """A text that knows more."""


class Holder:
    def __init__(self, value: Any = None) -> None:
        self.value = value


class Simulator:
    """Stands for one in native code."""

    def __init__(self, *numbers: Any) -> None:
        self._numbers = numbers

    def __reduce__(self) -> Any:
        raise TypeError


@pytest.fixture(autouse=True)
def registered_here() -> Iterator[None]:
    before = dict(_registry._classes)
    yield
    _registry._classes.clear()
    _registry._classes.update(before)
    _registry._slot(Holder)


def test_a_value_of_native_code_is_refused_with_both_remedies() -> None:
    with pytest.raises(
        CaptureError,
        match=r"if its objects never change, perdure.register\(Struct, capture=..., create=...\)",
    ):
        capture({"x": struct.Struct("<d")})


def _value(which: str, number: int) -> Any:
    return Named(f"name {number}") if which == "text" else struct.Struct(f"<{number}d")


def _shown(value: Any) -> Any:
    return (type(value), value.format) if isinstance(value, struct.Struct) else (type(value), str(value))


PLACES: dict[str, Any] = {
    "a part": lambda value: {"x": value},
    "an attribute": lambda value: {"x": Holder(value)},
    "a list": lambda value: {"x": [value, value]},
    "a tuple": lambda value: {"x": (1, (value,))},
    "a dict": lambda value: {"x": {"k": value}},
    "a key": lambda value: {"x": {value: 1}},
    "a set": lambda value: {"x": {value}},
    "a set in a key": lambda value: {"x": {frozenset({value}): [value]}},
    "an array of objects": lambda value: {"x": np.array([value, None], dtype=object)},
}


def _walk(found: Any) -> Iterator[Any]:
    if isinstance(found, struct.Struct | Named):
        yield found
    elif isinstance(found, Holder):
        yield from _walk(found.value)
    elif isinstance(found, dict):
        for pair in found.items():
            yield from _walk(pair)
    elif isinstance(found, list | tuple | set | frozenset | np.ndarray):
        for each in found:
            yield from _walk(each)


@pytest.mark.parametrize("which", ["native", "text"])
@pytest.mark.parametrize("place", PLACES)
def test_values_that_never_change_are_made_anew(place: str, which: str) -> None:
    register(struct.Struct, capture=lambda one: one.format, create=struct.Struct)
    register(Named, capture=str, create=Named)
    world = PLACES[place](_value(which, 7))
    state = transported(capture(world))
    for live in (PLACES[place](_value(which, 1)), PLACES[place](_value(which, 7))):
        restore(state, live)
        found = list(_walk(live))
        assert [_shown(each) for each in found] == [_shown(each) for each in _walk(world)]
        assert len({id(each) for each in found}) == 1
    empty = {"x": None, "seen": [_value(which, 1), Holder()]}
    restore(transported(capture({**world, "seen": None})), empty)
    assert [_shown(each) for each in _walk(empty["x"])] == [_shown(each) for each in _walk(world)]


def test_one_of_the_two_is_needed() -> None:
    with pytest.raises(
        TypeError, match=r"register\(Holder\): expected restore=.*, or create=.*; found neither"
    ):
        register(Holder, capture=vars)


@pytest.mark.parametrize("makes", [True, False])
def test_a_restore_that_changes_nothing_is_an_error_and_its_remedy_restores(makes: bool) -> None:
    register(
        struct.Struct,
        capture=lambda one: one.format,
        restore=lambda one, saved: None,
        create=struct.Struct if makes else None,
    )
    state = transported(capture({"x": [struct.Struct("<7d")], "y": 1}))
    live = {"x": [struct.Struct("<1d")], "y": 0}
    with pytest.raises(RestoreError) as caught:
        restore(state, live)
    message = str(caught.value)
    assert (
        "x[0]: what restores a Struct changed nothing (saved and there now: its state: '<7d' and '<1d')"
        in message
    )
    assert "perdure.register(Struct, capture=..., create=...)" in message
    with pytest.warns(NotCapturedWarning, match="changed nothing"):
        restore(state, {"x": [struct.Struct("<1d")], "y": 0}, strict=False)
    # The state is good: with the remedy it is restored.
    register(struct.Struct, capture=lambda one: one.format, create=struct.Struct)
    restore(state, live)
    assert live["x"][0].format == "<7d"


class Offers:
    def __init__(self, number: int) -> None:
        self._number = number

    def __perdure_state__(self) -> Any:
        return {"number": self._number, "array": np.full(3, self._number)}

    def __perdure_restore__(self, state: Any) -> None:
        if state["number"] == 5:
            self._number = 4


def test_so_it_is_for_what_a_class_offers_itself() -> None:
    state = transported(capture({"x": Offers(7)}))
    with pytest.raises(
        RestoreError,
        match=r"(?s)x: .*\['number'\]: 7 and 1.*give Offers a __perdure_create__ and no __perdure",
    ):
        restore(state, {"x": Offers(1)})
    # What is as it was saved is no error, and what is changed in part is told.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(state, {"x": Offers(7)})
    with pytest.warns(NotCapturedWarning, match=r"did not put back all.*: \['number'\]: 5 and 4"):
        restore(transported(capture({"x": Offers(5)})), {"x": Offers(1)})


STATES: dict[str, Any] = {
    "numbers": (lambda n: {"a": n, "b": float("nan"), "c": -0.0, "d": 1j * n}),
    "arrays": (lambda n: [np.full((2, 3), n)[:, ::2], torch.full((2,), n), torch.full((2,), n).to(torch.bfloat16)]),
    "an array without axes": (lambda n: (np.array(n), torch.tensor(n), np.float32(n))),
    "many numbers": (lambda n: [float(n)] * 1_000),
    "many texts": (lambda n: [str(n)] * 1_000),
    "objects": (lambda n: np.array([n, None, {"k": (n,)}], dtype=object)),
    "sets": (lambda n: {n, "a", (1, 2)}),
    "objects of the world": (lambda n: [Holder(n), np.random.default_rng(n)]),
    "nothing": (lambda n: None),
}  # fmt: skip


@pytest.mark.parametrize("kind", STATES)
def test_what_is_put_back_is_no_false_alarm(kind: str) -> None:
    def put(simulator: Simulator, saved: Any) -> None:
        if isinstance(saved, dict):
            saved["added"] = saved.pop("a")  # what a `restore` does with the state is its own business
            saved = {"a": saved["added"], **{name: saved[name] for name in "bcd"}}
        simulator._numbers = (saved, 1)

    register(Simulator, capture=lambda one: one._numbers[0], restore=put)
    state = transported(capture({"x": Simulator(STATES[kind](7))}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(state, {"x": Simulator(STATES[kind](1))})


@pytest.mark.parametrize("kind", sorted(STATES.keys() - {"nothing", "objects of the world"}))
def test_what_is_not_put_back_is_noticed(kind: str) -> None:
    register(Simulator, capture=lambda one: one._numbers[0], restore=lambda one, saved: None)
    state = transported(capture({"x": Simulator(STATES[kind](7))}))
    with pytest.raises(RestoreError, match="x: what restores a Simulator changed nothing"):
        restore(state, {"x": Simulator(STATES[kind](1))})


def test_what_the_user_leaves_out_of_a_state_is_no_difference() -> None:
    register(
        Simulator,
        capture=lambda one: {"a": one._numbers[0], "b": one._numbers[1]},
        restore=lambda one, saved: setattr(one, "_numbers", (saved["a"], one._numbers[1])),
    )
    state = transported(capture({"x": Simulator(7, 8)}, skip=["x['b']"]))
    live = {"x": Simulator(1, 2)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restore(state, live, skip=["x['b']"])
    assert live["x"]._numbers == (7, 2)


def test_a_handler_that_draws_while_it_is_verified_shifts_nothing() -> None:
    def look(one: Simulator) -> Any:
        np.random.rand()
        return one._numbers[0]

    register(Simulator, capture=look, restore=lambda one, saved: setattr(one, "_numbers", (saved,)))
    np.random.seed(3)
    state = transported(capture({"x": Simulator(7)}))
    expected = np.random.rand()
    restore(state, {"x": Simulator(1)})
    assert np.random.rand() == expected


class Structure(ctypes.Structure):
    """The state of a simulator in C."""

    _fields_ = [("time", ctypes.c_double), ("count", ctypes.c_int)]


def test_a_structure_of_c_is_refused_and_its_remedy_restores() -> None:
    with pytest.raises(CaptureError, match=r"perdure.register\(Structure, capture=..., restore=...\)"):
        capture({"x": Structure(1.5, 3)})
    register(
        Structure,
        capture=bytes,
        restore=lambda one, saved: ctypes.memmove(ctypes.addressof(one), saved, len(saved)),
    )
    live = Structure()
    restore(transported(capture({"x": Structure(1.5, 3)})), {"x": live})
    assert (live.time, live.count) == (1.5, 3)
