"""Patterns for paths: `*` matches any characters, `?` one character, everything else (brackets too) itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=64)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns),
        re.DOTALL,
    )


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns matches a whole path."""
    return bool(patterns) and _compiled(tuple(patterns)).fullmatch(path) is not None
