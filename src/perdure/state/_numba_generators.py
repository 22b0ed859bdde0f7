"""The two generators of numba: code that it has compiled draws from them, wherever it calls `np.random` or `random`.

They belong to the thread that calls; those of numba's own parallel threads cannot be reached. numba is imported only to
restore what a process saved that had imported it. Knows no walks and no files.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

#: A state as numba keeps it: the position, 624 numbers, whether there is a next Gaussian, and which, as C aligns them.
_LAYOUT = np.dtype(
    [("position", "i4"), ("key", "u4", 624), ("has_next", "i4"), ("next", "f8"), ("seeded", "i4")], align=True
)
_LENGTH = 624


#: What the generators were like when a training began in this process, if nothing had been drawn by then; None before.
_untouched: dict[str, bytes] | None = None


def training_begins() -> None:
    """Remember what the generators are like where a training begins; only the first call in a process counts."""
    global _untouched
    if _untouched is None:
        _untouched = {}
        _remember(_untouched, {name: _read(place) for name, place in _places()})


def _remember(untouched: dict[str, bytes], found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, each in found.items():
        if name not in untouched and _is_undrawn(each):
            untouched[name] = each["key"].tobytes()


def get_state() -> dict[str, Any] | None:
    """The states of both generators; None if numba is not in use.

    It is not in use either as long as nothing was drawn, and nothing has seeded them since the training began: the
    system seeds them anew in each process, so that they would differ between runs that are alike.
    """
    found = {name: _read(place) for name, place in _places()}
    untouched = _untouched
    if untouched is None:
        return found or None
    # numba may be imported after the training has begun.
    _remember(untouched, found)
    is_used = any(
        not _is_undrawn(each) or each["key"].tobytes() != untouched.get(name) for name, each in found.items()
    )
    return found if is_used else None


def _is_undrawn(state: Mapping[str, Any]) -> bool:
    return state["position"] == _LENGTH and state["next"] is None


def set_state(state: Mapping[str, Any]) -> None:
    """Put both generators into a state that `get_state` returned.

    :raises ValueError: if it is no such state, or numba is not installed.
    """
    # The script may import it only when the training needs it, and would find generators that begin anew.
    with suppress(ImportError):
        importlib.import_module("numba")
    places = dict(_places())
    if not places:
        raise ValueError(
            "numba is not installed, or keeps its state in another way. Use the version with which the run began"
        )
    checked = {name: _checked(state[name]) for name in places}
    for name, (position, key, following) in checked.items():
        sys.modules["numba._helperlib"].rnd_set_state(places[name], (position, key.tolist()))
        if following is not None:
            there = _view(places[name])
            there["next"], there["has_next"] = following, 1


def _places() -> Iterator[tuple[str, int]]:
    """The names of the generators, and where this thread's are in memory."""
    library: Any = sys.modules.get("numba._helperlib")
    if library is None or "numba" not in sys.modules or not _is_laid_out_so():
        return
    yield "numpy", library.rnd_get_np_state_ptr()
    yield "python", library.rnd_get_py_state_ptr()


@functools.cache
def _is_laid_out_so() -> bool:
    """Whether this numba keeps its states in the way that is known here."""
    library: Any = sys.modules["numba._helperlib"]
    place = library.rnd_get_np_state_ptr()
    position, key = library.rnd_get_state(place)
    there = _view(place)
    return bool(there["position"] == position and there["key"].tolist() == key and there["seeded"] == 1)


class _Memory:
    """Bytes at a place, as NumPy takes them."""

    def __init__(self, place: int) -> None:
        size = _LAYOUT.itemsize
        self.__array_interface__ = {"version": 3, "data": (place, False), "shape": (size,), "typestr": "|u1"}


def _view(place: int) -> Any:
    return np.asarray(_Memory(place)).view(_LAYOUT)[0]


def _read(place: int) -> dict[str, Any]:
    there = _view(place)
    return {
        "position": int(there["position"]),
        "key": there["key"].copy(),
        "next": float(there["next"]) if there["has_next"] else None,
    }


def _checked(saved: Mapping[str, Any]) -> tuple[int, np.ndarray[Any, Any], float | None]:
    position, key, following = saved["position"], saved["key"], saved["next"]
    # numba does not check the position, and would read beyond its numbers.
    if type(position) is not int or not 0 <= position <= _LENGTH:
        raise ValueError(f"expected a position from 0 to {_LENGTH}, found {position!r:.80}")
    if not isinstance(key, np.ndarray) or key.shape != (_LENGTH,) or key.dtype != np.uint32:
        raise ValueError(f"expected {_LENGTH} numbers, found a {type(key).__name__}")
    if following is not None and type(following) is not float:
        raise ValueError(
            f"expected a number or None as the next Gaussian, found a {type(following).__name__}"
        )
    return position, key, following
