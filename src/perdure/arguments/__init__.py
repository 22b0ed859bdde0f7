"""Checks what a user passes to Perdure, at once: each function returns the value as it is used, or raises an error."""

from perdure.arguments._checks import (
    cadence,
    count,
    flag,
    function,
    local_path,
    mapping,
    real,
    seconds,
    texts,
)

__all__ = ["cadence", "count", "flag", "function", "local_path", "mapping", "real", "seconds", "texts"]
