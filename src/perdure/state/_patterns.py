"""Patterns for paths: `*` stands for any run of characters, `?` for one, all else (brackets too) for itself."""

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
    """Whether a path is, as a whole, what one of the patterns stands for."""
    return bool(patterns) and _compiled(tuple(patterns)).fullmatch(path) is not None
