"""How a run speaks to its user: one line at a time, on standard error."""

from __future__ import annotations

import os
import sys


def say(what: str) -> None:
    """Print one line to standard error, apart from what the script prints."""
    print(f"perdure: {what}", file=sys.stderr, flush=True)


def shown(directory: str) -> str:
    """A directory, absolute or relative, whichever is shorter."""
    return min(os.path.abspath(directory), os.path.relpath(directory), key=len)
