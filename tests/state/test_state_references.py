"""Functions, classes and what belongs to the runtime are state: what a training changed is there after restoring."""

from __future__ import annotations

import collections

import pytest
from reference_cases import CASES, Box
from state_support import transported

from perdure.errors import RestoreError
from perdure.state import capture, diff, restore


@pytest.mark.parametrize("name", CASES)
def test_what_was_changed_is_there_again(name):
    case = CASES[name]
    trained, live, untouched = Box(), Box(), Box()
    for box in (trained, live, untouched):
        case.build(box)
    alive = case.change(trained)
    state = transported(capture({"box": trained}))
    report = restore(state, {"box": live})
    assert report.exact
    assert [str(each) for each in diff(state, capture({"box": live}), ignore=())] == []
    expected = case.see(trained)
    assert case.see(live) == expected
    if not name.endswith("that stays") and name != "view of a class":
        assert _seen(case, untouched) != expected or "lock" in name or "condition" in name
    del alive


def _seen(case, box):
    try:
        return case.see(box)
    except (AttributeError, IndexError, TypeError, KeyError, ValueError):
        return None


class OwnError(Exception):
    pass


class Log:
    pass


def test_classes_of_exceptions_are_put_where_nothing_was():
    def built():
        return {"log": Log(), "last": None, "counts": collections.Counter(), "seen": [], "text": "none"}

    trained = built()
    trained["last"] = (ValueError, "diverged")
    trained["counts"][OwnError] += 2
    trained["seen"].append(OwnError("x"))
    state, live = transported(capture(trained)), built()
    assert restore(state, live).exact
    assert live["last"] == (ValueError, "diverged")
    assert live["counts"] == {OwnError: 2}
    assert isinstance(live["seen"][0], OwnError)


def test_the_class_of_an_exception_does_not_take_the_place_of_anything_else():
    state = transported(capture({"text": ValueError}))
    with pytest.raises(RestoreError, match="A class is only put where the script has one"):
        restore(state, {"text": "none"})
