"""Functions, classes and what belongs to the runtime are state: what a training changed is there after restoring."""

from __future__ import annotations

import pytest
from reference_cases import CASES, Box
from state_support import transported

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
