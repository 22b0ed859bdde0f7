"""How tables, columns, indexes and moments of pandas are captured, by what pandas offers in public. Imported when a
class of pandas is first met.

None of them is written into: where the script has an equal one it stays, otherwise one is made from the checkpoint. Of
types that consist of more than is read here (sparse columns, those of Arrow, subclasses of tables), each is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xxhash

from perdure.state._registry import Handler, register_handler
from perdure.state._values import Unsupported
from perdure.tree import PLAIN_TYPES

#: Nullable types, by name, and the type of NumPy that holds their values.
_MASKED = {
    **{f"{sign}Int{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"Float{bits}": f"float{bits}" for bits in (32, 64)},
    "boolean": "bool",
}
#: Of zones that are looked up by name. Others could name files.
_ZONE = re.compile(r"(?!dateutil)[A-Za-z][\w+-]*(/[A-Za-z][\w+-]*)*|UTC[+-]\d\d:\d\d")


def _refuse(what: str, remedy: str) -> Unsupported:
    return Unsupported(f"{what} of pandas cannot be captured. {remedy}")


def _zone(zone: Any) -> list[str] | None:
    """The name of a time zone, in parts: as one text it would look like a file's."""
    name = None if zone is None else str(zone)
    if name is not None and not _ZONE.fullmatch(name):
        raise _refuse(f"the time zone {name!r:.60}", "Keep it in UTC: moment.tz_convert('UTC')")
    return None if name is None else name.split("/")


def _read_zone(parts: Any) -> str | None:
    if parts is None:
        return None
    name = "/".join(parts) if isinstance(parts, list) and all(type(part) is str for part in parts) else ""
    if not _ZONE.fullmatch(name):
        raise ValueError(f"expected the name of a time zone, found {parts!r:.60}")
    return name


def _plain(values: Any, what: str) -> list[Any]:
    found = list(values)
    if any(type(each) not in PLAIN_TYPES and type(each) is not bytes for each in found):
        raise _refuse(f"{what} with objects", "Keep what changes as lists or arrays")
    return found


# -- columns -----------------------------------------------------------------------------------------------------------


def _written(column: Any) -> dict[str, Any]:
    """The content of a column or an index, as plain values and arrays."""
    dtype = column.dtype
    name = str(dtype)
    if isinstance(dtype, np.dtype):
        values = column.to_numpy()
        if dtype.kind == "O":
            return {"kind": "objects", "values": _plain(values, "a column")}
        return {"kind": "numbers", "values": values}
    if isinstance(dtype, pd.DatetimeTZDtype):
        naive = pd.Series(column).dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return {"kind": "moments", "values": naive, "zone": _zone(dtype.tz)}
    if isinstance(dtype, pd.CategoricalDtype):
        categorical = pd.Categorical(column)
        return {
            "kind": "categories",
            "codes": np.asarray(categorical.codes),
            "categories": _written_index(dtype.categories),
            "ordered": bool(dtype.ordered),
        }
    values = pd.Series(column)
    if name in _MASKED:
        missing = values.isna().to_numpy()
        filled = values.to_numpy(dtype=_MASKED[name], na_value=0)
        return {"kind": "masked", "values": filled, "missing": missing, "dtype": name}
    if name == "string":
        return {"kind": "text", "values": [None if missing else str(each) for each, missing in
                                           zip(values, values.isna(), strict=True)]}  # fmt: skip
    raise _refuse(f"a column of type {name:.40}", "Keep it as another type: column.astype(object)")


def _read(content: dict[str, Any]) -> Any:
    kind = content["kind"]
    if kind == "numbers":
        return np.array(content["values"])
    if kind == "objects":
        found = np.empty(len(content["values"]), object)
        found[:] = content["values"]
        return found
    if kind == "moments":
        moments = pd.Series(np.array(content["values"])).dt.tz_localize("UTC")
        return moments.dt.tz_convert(_read_zone(content["zone"])).array
    if kind == "categories":
        dtype = pd.CategoricalDtype(_read_index(content["categories"]), content["ordered"])
        return pd.Categorical.from_codes(np.array(content["codes"]), dtype=dtype)
    if kind == "masked" and content["dtype"] in _MASKED:
        found = pd.Series(np.array(content["values"]), dtype=content["dtype"])
        found[np.array(content["missing"])] = pd.NA
        return found.array
    if kind == "text":
        return pd.array(content["values"], dtype="string")
    raise ValueError(f"expected a column, found {kind!r:.40}")


# -- indexes -----------------------------------------------------------------------------------------------------------


def _written_index(index: Any) -> dict[str, Any]:
    cls = type(index)
    names = _plain(index.names, "an index")
    if cls is pd.RangeIndex:
        return {"index": "range", "bounds": [index.start, index.stop, index.step], "names": names}
    if cls is pd.MultiIndex:
        levels = [_written_index(level) for level in index.levels]
        return {
            "index": "levels",
            "levels": levels,
            "codes": [np.asarray(c) for c in index.codes],
            "names": names,
        }
    if cls not in (pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex):
        raise _refuse(f"a {cls.__name__}", "Keep it as another one: index.astype(str), or as an array")
    freq = getattr(index, "freqstr", None)
    return {"index": "values", "values": _written(index), "freq": freq, "names": names}


def _read_index(content: dict[str, Any]) -> Any:
    names = content["names"]
    if content["index"] == "range":
        made: Any = pd.RangeIndex(*content["bounds"])
    elif content["index"] == "levels":
        levels = [_read_index(level) for level in content["levels"]]
        made = pd.MultiIndex(levels, [np.array(codes) for codes in content["codes"]])
    else:
        made = pd.Index(_read(content["values"]))
        if content["freq"] is not None:
            made = type(made)(made, freq=content["freq"])
    made.names = names
    return made


# -- tables ------------------------------------------------------------------------------------------------------------


def _exactly(value: Any, cls: type) -> None:
    if type(value) is not cls:
        what = f"a subclass of {cls.__name__}"
        raise _refuse(what, f"Keep a plain one: pandas.{cls.__name__}(table)")


def _written_table(table: Any) -> dict[str, Any]:
    _exactly(table, pd.DataFrame)
    columns = [_written(table.iloc[:, position]) for position in range(table.shape[1])]
    return {
        "columns": _written_index(table.columns),
        "index": _written_index(table.index),
        "data": columns,
        "attrs": dict(table.attrs),
    }


def _read_table(content: dict[str, Any]) -> Any:
    index = _read_index(content["index"])
    data = {position: _read(column) for position, column in enumerate(content["data"])}
    made = pd.DataFrame(data, index=index)
    made.columns = _read_index(content["columns"])
    made.attrs.update(content["attrs"])
    return made


def _written_series(series: Any) -> dict[str, Any]:
    _exactly(series, pd.Series)
    (name,) = _plain([series.name], "a column")
    index = _written_index(series.index)
    return {"values": _written(series), "index": index, "name": name, "attrs": dict(series.attrs)}


def _read_series(content: dict[str, Any]) -> Any:
    made = pd.Series(_read(content["values"]), index=_read_index(content["index"]), name=content["name"])
    made.attrs.update(content["attrs"])
    return made


# -- moments -----------------------------------------------------------------------------------------------------------


def _written_moment(moment: Any) -> dict[str, Any]:
    return {"value": moment.value, "unit": moment.unit, "zone": _zone(moment.tz)}


def _read_moment(content: dict[str, Any]) -> Any:
    made = pd.Timestamp(content["value"], unit="ns", tz=_read_zone(content["zone"]))
    return made.as_unit(content["unit"])


def _one(value: Any) -> dict[str, Any]:
    return {}


def _digest(content: Any, into: Any) -> None:
    if isinstance(content, dict):
        for name, each in content.items():
            into.update(f"{name!r}:".encode())
            _digest(each, into)
    elif isinstance(content, np.ndarray):
        into.update(f"{content.dtype}{content.shape}".encode())
        into.update(np.ascontiguousarray(content).view(np.uint8).data if content.size else b"")
    elif isinstance(content, list) and content and isinstance(content[0], dict | np.ndarray):
        for each in content:
            _digest(each, into)
    else:
        into.update(f"{type(content).__name__} {content!r};".encode())


def _register(
    name: str,
    write: Callable[[Any], dict[str, Any]],
    read: Callable[[dict[str, Any]], Any],
    own: frozenset[str] | None = None,
) -> None:
    def capture(value: Any) -> dict[str, Any]:
        content = write(value)
        digest = xxhash.xxh3_128()
        _digest(content, digest)
        return {"form": digest.hexdigest(), **content}

    # The same form is the same content, so there is nothing to be written.
    handler = Handler(
        capture, lambda value, saved: None, read, form=lambda value: str(capture(value)["form"]), own=own
    )
    register_handler(name, handler)


def _own_names(cls: Any) -> frozenset[str]:
    """The attributes that pandas sets on its tables; accessors such as `series.dt` are kept under their own name."""
    return frozenset({*dir(cls), *vars(cls(dtype=float)), *cls._internal_names})


_register("pandas.core.frame.DataFrame", _written_table, _read_table, _own_names(pd.DataFrame))
_register("pandas.core.series.Series", _written_series, _read_series, _own_names(pd.Series))
_register("pandas.core.indexes.base.Index", _written_index, _read_index)
_register("pandas.core.arrays.categorical.Categorical", _written, _read)
_register(
    "pandas.core.dtypes.dtypes.CategoricalDtype",
    lambda dtype: {"kind": "categories", **_written(pd.Categorical([], dtype=dtype))},
    lambda content: _read(content).dtype,
)
_register("pandas._libs.tslibs.timestamps._Timestamp", _written_moment, _read_moment)
_register(
    "pandas._libs.tslibs.timedeltas._Timedelta",
    lambda delta: {"value": delta.value, "unit": delta.unit},
    lambda content: pd.Timedelta(content["value"], unit="ns").as_unit(content["unit"]),
)
_register(
    "pandas._libs.tslibs.period._Period",
    lambda period: {"ordinal": period.ordinal, "freq": period.freqstr},
    lambda content: pd.Period(ordinal=content["ordinal"], freq=content["freq"]),
)
_register(
    "pandas._libs.interval.Interval",
    lambda interval: {
        "bounds": _plain([interval.left, interval.right], "an interval"),
        "closed": interval.closed,
    },
    lambda content: pd.Interval(*content["bounds"], closed=content["closed"]),
)
_register(
    "pandas._libs.tslibs.offsets.BaseOffset",
    lambda offset: {"freq": offset.freqstr},
    lambda content: pd.tseries.frequencies.to_offset(content["freq"]),
)
_register("pandas._libs.tslibs.nattype.NaTType", _one, lambda content: pd.NaT)
_register("pandas._libs.missing.NAType", _one, lambda content: pd.NA)
