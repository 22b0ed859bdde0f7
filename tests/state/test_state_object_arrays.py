"""Arrays of Python objects that share memory go on sharing it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from state_support import transported

import perdure
from perdure import errors
from perdure.state import capture, diff, restore

Objects = Any


def elements(count: int = 12) -> Objects:
    made = np.empty(count, object)
    made[:] = [{"number": index} if index % 2 else index for index in range(count)]
    return made


def window(array: Objects, length: int) -> Objects:
    return np.lib.stride_tricks.sliding_window_view(array, length, writeable=True)


def slices(a: Objects) -> dict[str, Objects]:
    return {"a": a, "b": a[2:7], "c": a[5:9]}


CASES: dict[str, Callable[[], dict[str, Objects]]] = {
    "slices": lambda: slices(elements()),
    "slices met before their base": lambda: dict(reversed(slices(elements()).items())),
    "slices of a base elsewhere": lambda: {"b": (a := elements())[2:7], "c": a[5:9]},
    "negative strides": lambda: {"b": (a := elements())[::-1], "c": a[3::-2]},
    "reshaped and transposed": lambda: {"b": (a := elements()).reshape(3, 4), "c": a.reshape(4, 3).T},
    "in Fortran's order": lambda: {"a": (a := np.asfortranarray(elements().reshape(3, 4))), "b": a[1]},
    "an element alone": lambda: {"a": (a := elements()), "z": a[3:4].reshape(())},
    "neighbours": lambda: {"even": (a := elements())[::2], "odd": a[1::2]},
    "crossing": lambda: {"twos": (a := elements())[::2], "threes": a[::3]},
    "windows": lambda: {"a": (a := elements()), "w": window(a, 3)},
    "windows alone": lambda: {"v": window(a := elements(), 3), "w": window(a, 4)},
    "numbers": lambda: {"b": (a := np.array([1.5] * 40, object))[2:30], "c": a[5:40]},
    "nothing": lambda: {"b": (a := np.full(40, None))[2:30], "c": a[5:40]},
    "three times the same": lambda: {"b": (a := elements())[:], "c": a[:], "a": a},
    "an array in the array": lambda: {"a": (a := np.array([elements(), None], object)), "b": a[:1]},
    "a row of a row": lambda: {"a": (a := elements().reshape(3, 4)), "b": (b := a[1]), "c": b[1:3]},
    "empty": lambda: {"a": (a := elements()), "b": a[3:3], "c": a[2:4]},
}


def alike(ours: dict[str, Objects], theirs: dict[str, Objects]) -> None:
    for name in ours:
        assert theirs[name].shape == ours[name].shape
        assert str(theirs[name].tolist()) == str(ours[name].tolist())


def marked(arrays: dict[str, Objects], check: Callable[[], None]) -> None:
    """Write into each place of each array."""
    for name, array in arrays.items():
        for index in np.ndindex(array.shape):
            array[index] = f"{name}{index}"
            check()


def nothing(arrays: dict[str, Objects]) -> dict[str, Objects]:
    return {}


def copies(arrays: dict[str, Objects]) -> dict[str, Objects]:
    return {name: np.full(array.shape, None) for name, array in arrays.items()}


def the_same(arrays: dict[str, Objects]) -> dict[str, Objects]:
    for array in arrays.values():
        array[...] = None
    return arrays


@pytest.mark.parametrize("live", [nothing, copies, the_same], ids=["new", "apart", "shared"])
@pytest.mark.parametrize("case", CASES)
def test_views_go_on_sharing(case: str, live: Callable[[Any], dict[str, Objects]]) -> None:
    state = transported(capture(perdure.World(**CASES[case]())))
    built = live(CASES[case]())
    world = perdure.World(**built)
    assert restore(state, world).exact
    ours = CASES[case]()
    theirs = {name: getattr(world, name) for name in ours}
    alike(ours, theirs)
    assert [str(each) for each in diff(state, capture(world), ignore=())] == []
    if live is the_same:
        assert all(theirs[name] is array for name, array in built.items())
    # Written in both, step by step: what shares and what does not is the same.
    steps = itertools.zip_longest(*(changes(arrays) for arrays in (ours, theirs)))
    assert [a for a, b in steps if a != b] == []


def changes(arrays: dict[str, Objects]) -> list[str]:
    found: list[str] = []
    marked(arrays, lambda: found.append(str({name: array.tolist() for name, array in arrays.items()})))
    return found


def test_views_that_parted_while_running_stay_apart() -> None:
    a = elements()
    state = transported(capture({"a": a, "b": a[2:4].copy()}))
    live = np.full(12, None)
    world = {"a": live, "b": live[2:4]}
    assert restore(state, world).exact
    world["a"][2] = "mark"
    assert world["b"][0] == 2


def test_elements_that_no_view_shows_are_not_captured() -> None:
    a = elements()
    a[3] = (number for number in ())  # it could not be captured
    world = {"twos": None, "fours": None}
    assert restore(transported(capture({"twos": a[::2], "fours": a[::4]})), world).exact
    twos: Any = world["twos"]
    assert twos.tolist() == a[::2].tolist()


def test_fields_of_structured_arrays_have_a_remedy() -> None:
    table = np.zeros(4, [("number", "i4"), ("what", "O")])
    with pytest.raises(errors.CaptureError, match=r"[ab]: ndarray: .*array\['field'\].copy\(\)"):
        capture({"a": table["what"], "b": table["what"][1:]})
    whole = table["what"].copy()
    world = {"a": None, "b": None}
    restore(transported(capture({"a": whole, "b": whole[1:]})), world)
    assert np.shares_memory(world["a"], world["b"])  # type: ignore[arg-type]


def test_a_view_leaves_no_numbers_of_its_own() -> None:
    a = np.array([1.5] * 40, object)
    state = capture({"a": a, "b": a[3:30], "c": [2.5] * 40})
    numbers = [array for array in state.arrays if array.dtype == "<f8"]
    assert sorted(array.shape for array in numbers) == [(40,), (40,)]
