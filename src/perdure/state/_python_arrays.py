"""A rule for the arrays of Python's standard library. Knows no walks and no files."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from perdure.state._registry import Handler, register_handler


def _capture_array(live: array[Any]) -> dict[str, Any]:
    return {"form": live.typecode, "data": np.frombuffer(live.tobytes(), np.uint8)}


def _restore_array(live: array[Any], saved: dict[str, Any]) -> None:
    live[:] = _create_array(saved)


def _create_array(saved: dict[str, Any]) -> array[Any]:
    made: array[Any] = array(saved["form"])
    made.frombytes(saved["data"].tobytes())
    return made


# Not simply registered: an array of another type cannot be filled, so one is made.
register_handler(
    array,
    Handler(_capture_array, _restore_array, _create_array, form=lambda live: live.typecode, own=frozenset()),
)
