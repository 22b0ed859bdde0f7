"""Checks what a user passes to Perdure, at once, so that a mistake is an error where it was made and not hours later.

Each function returns the value as it is used, or raises TypeError or ValueError that says what was expected, what was
found, and what to write instead. It knows no runs and no files.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.*", re.DOTALL)
# `Path("s3://bucket")` has one slash.
_SCHEME = re.compile(r"(abfss?|az|dbfs|file|ftp|gcs|gs|hdfs|https?|oss|r2|s3a?|wandb|mlflow):/.*", re.DOTALL)
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]\w*\}?(/|$)")


def local_path(value: Any, name: str) -> str:
    """A path on this machine; `~` is the home directory.

    :param name: of the parameter, for messages.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise TypeError(f"{name}: expected a path as a string or a pathlib.Path, found {_shown(value)}")
    if not text.strip():
        raise ValueError(f"{name}: expected a path, found {text!r}. The current directory is '.'")
    if "\0" in text:
        raise ValueError(f"{name}: expected a path, found a null character in {text!r:.200}")
    if _URL.fullmatch(text) or _SCHEME.fullmatch(text):
        raise ValueError(
            f"{name}: expected a path on this machine, found the address {text!r:.200}. Perdure writes to local and "
            "mounted disks: mount the bucket, or copy the run there afterwards (no link of it is needed)"
        )
    if _VARIABLE.match(text):
        raise ValueError(
            f"{name}: expected a path, found {text!r:.200} with a variable that nothing has replaced. Write "
            f"os.path.expandvars({text!r:.200})"
        )
    if text.startswith("~"):
        expanded = os.path.expanduser(text)
        if expanded.startswith("~"):
            raise ValueError(
                f"{name}: {text!r:.200} names the home directory of a user who is not known here. For a directory of "
                f"this name write './{text:.200}'"
            )
        return expanded
    return text


def count(value: Any, name: str, least: int, example: int) -> int:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        hint = ""
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            hint = f". Write {int(value):_}"
        raise TypeError(
            f"{name}: expected a whole number of at least {least}, such as {example:_}, found {_shown(value)}{hint}"
        )
    try:
        number = operator.index(value)
    except TypeError as error:  # an array, for example
        raise TypeError(
            f"{name}: expected a whole number of at least {least}, found {_shown(value)}"
        ) from error
    if number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, found {number}")
    return number


def seconds(value: Any, name: str, *, zero: bool = False) -> float:
    """A number of seconds: more than zero, or at least zero."""
    expected = f"a number of seconds, {'at least' if zero else 'more than'} zero"
    number = real(value, name, expected)
    if math.isnan(number) or number < 0 or (not zero and number == 0):
        raise ValueError(f"{name}: expected {expected}, found {number}")
    return number


def real(value: Any, name: str, expected: str = "a number") -> float:
    """A number; also one of NumPy or torch, of any shape that has one element."""
    if isinstance(value, bool | str | bytes) or not hasattr(type(value), "__float__"):
        raise TypeError(f"{name}: expected {expected}, found {_shown(value)}")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(f"{name}: expected {expected}, found {_shown(value)}") from error


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, found {_shown(value)}")
    return value


def texts(value: Any, name: str) -> tuple[str, ...]:
    """A list of strings."""
    if isinstance(value, str):
        raise TypeError(
            f"{name}: expected a list of strings, found the string {value!r:.80}. Write [{value!r:.80}]"
        )
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise TypeError(f"{name}: expected a list of strings, found {_shown(value)}")
    listed = tuple(value)
    for each in listed:
        if not isinstance(each, str):
            raise TypeError(f"{name}: expected a list of strings, found {_shown(each)} in it")
    return listed


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A dict, or something like it."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a dict, as in {{'epoch': 3}}, found {_shown(value)}")
    return value


def function(value: Any, name: str, example: str) -> Any:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"{name}: expected a function, such as {example}, found {_shown(value)}")
    return value


def cadence(every: Any, time: Any, name: str = "every") -> tuple[int | None, float | None]:
    """How often a checkpoint is due: in steps, in seconds; None where it is not said."""
    return (
        None if every is None else count(every, name, 1, 10_000),
        None if time is None else seconds(time, "seconds"),
    )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = "something"
    text = text if len(text) <= 80 else f"{text[:80]}…"
    return f"{text}, {'an' if type(value).__name__[0] in 'aeiou' else 'a'} {type(value).__name__}"
