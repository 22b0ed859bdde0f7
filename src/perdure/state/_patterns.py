"""Patterns for paths: `*` matches any characters, `?` one character, everything else (brackets too) itself.

An entry of a dict under a name can be written as an attribute is: `*.lr` matches `optimizer.param_groups[0]['lr']` too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_NAMED_ENTRY = re.compile(r"\['([^\W\d]\w*)'\]")


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns),
        re.DOTALL,
    )


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns matches a whole path."""
    if not patterns:
        return False
    pattern = _compiled(tuple(patterns))
    return pattern.fullmatch(path) is not None or (
        "['" in path and pattern.fullmatch(with_names(path)) is not None
    )


def with_names(path: str) -> str:
    """A path with the entries of dicts written as attributes are, where their keys are names."""
    return _NAMED_ENTRY.sub(r".\1", path)
