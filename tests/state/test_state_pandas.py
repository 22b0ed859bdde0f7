"""Tables, columns, indexes and moments of pandas are captured by what pandas offers in public, and refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from state_support import transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, restore

pd = pytest.importorskip("pandas")


def table(last: float = 2.0) -> Any:
    found = pd.DataFrame(
        {
            "price": [1.0, last],
            "n": np.array([1, 2], np.int32),
            "symbol": ["a", None],
            "open": pd.to_datetime(["2024-01-01", "2024-01-02"]),
            "zone": pd.to_datetime(["2024-01-01", None]).tz_localize("Europe/Berlin"),
            "kind": pd.Categorical(["u", "v"], categories=["v", "u"], ordered=True),
            "maybe": pd.array([1, None], dtype="Int64"),
            "flag": pd.array([True, None], dtype="boolean"),
            "text": pd.array(["x", None], dtype="string"),
        },
        index=pd.date_range("2024-01-01", periods=2, freq="D", name="day"),
    )  # fmt: skip
    found.attrs["source"] = "test"
    return found


VALUES = {
    "a table": table,
    "an empty table": lambda: pd.DataFrame(),
    "a table with two columns of one name": lambda: pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
    "a table with levels": lambda: table().set_index(["n", "kind"])[["price", "zone"]],
    "a column": lambda: table()["price"].rename("p"),
    "a column of texts": lambda: table()["symbol"],
    "an index": lambda: pd.Index(["a", "b"], name="x"),
    "a range": lambda: pd.RangeIndex(1, 9, 2),
    "moments with a frequency": lambda: pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC"),
    "durations": lambda: pd.timedelta_range("1s", periods=3),
    "levels": lambda: pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["l", "n"]),
    "categories": lambda: pd.Categorical(["a", "b", "a"]),
    "a type of categories": lambda: pd.CategoricalDtype(["a", "b"], ordered=True),
    "a moment": lambda: pd.Timestamp("2024-01-01 10:00:00.000000001", tz="Europe/Berlin"),
    "a moment in seconds": lambda: pd.Timestamp("2024-01-01").as_unit("s"),
    "a duration": lambda: pd.Timedelta("1d 2ns"),
    "a month": lambda: pd.Period("2024-03", freq="M"),
    "an interval": lambda: pd.Interval(0, 1.5, closed="left"),
    "an offset": lambda: pd.offsets.MonthEnd(2),
    "no moment": lambda: pd.NaT,
    "no value": lambda: pd.NA,
}


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True)
        assert one.attrs == other.attrs
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other, check_exact=True)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
    elif isinstance(one, pd.Categorical):
        assert one.dtype == other.dtype
        assert one.codes.tolist() == other.codes.tolist()
    elif one is pd.NaT or one is pd.NA:
        assert one is other
    else:
        assert one == other
        assert getattr(one, "unit", None) == getattr(other, "unit", None)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_they_are_there_again(name: str) -> None:
    class Holder:
        def __init__(self, value: Any, kept: Any) -> None:
            self.value, self.same, self.kept = value, [value], kept

    make = VALUES[name]
    state = transported(capture({"x": Holder(make(), make())}))
    stays = make()
    world = {"x": Holder(None, stays)}
    assert restore(state, world).exact
    same(world["x"].value, make())
    assert world["x"].same[0] is world["x"].value
    assert world["x"].kept is stays


def test_what_training_changed_takes_the_place_of_what_the_script_has() -> None:
    state = transported(capture({"a": table(5.0), "b": table(5.0)["price"], "t": pd.Timestamp(7)}))
    world = {"a": table(), "b": table()["price"], "t": pd.Timestamp(3)}
    assert restore(state, world).exact
    same(world["a"], table(5.0))
    same(world["b"], table(5.0)["price"])
    assert world["t"] == pd.Timestamp(7)


class Prices(pd.DataFrame):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    ("make", "expected", "instead"),
    [
        (lambda: Prices({"a": [1]}), "a subclass of DataFrame of pandas", lambda v: pd.DataFrame(v)),
        (lambda: pd.DataFrame({"a": [[1], {}]}), "a column with objects", lambda v: v["a"].tolist()),
        (lambda: pd.period_range("2024", periods=2), "a PeriodIndex of pandas", lambda v: v.astype(str)),
        (lambda: pd.Series(pd.arrays.SparseArray([0, 1])), r"a column of type Sparse\[int64",
         lambda v: v.astype(object)),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_and_the_remedy_works(make: Any, expected: str, instead: Any) -> None:
    with pytest.raises(CaptureError, match=rf"x: .*{expected}.* cannot be captured\. Keep "):
        capture({"x": make()})
    state = transported(capture({"x": instead(make())}))
    assert restore(state, {"x": None}).exact


@pytest.mark.parametrize(
    "zone", [["dateutil", "", "dev", "zero"], ["", "etc", "passwd"], ["..", "x"], 7, [7]]
)
def test_a_zone_that_is_a_file_is_not_opened(zone: Any) -> None:
    state = transported(capture({"x": pd.Timestamp("2024-01-01", tz="UTC")}))
    payload = state.root.fields["x"].payload
    forged = capture({"zone": zone}).root.fields["zone"]
    payload.pairs[:] = [(key, forged if key == "zone" else value) for key, value in payload.pairs]
    with pytest.raises(RestoreError, match=r"expected the name of a time zone|a place here"):
        restore(state, {"x": None})
