"""Whose code a file holds: the user's, or that of Python, of an installed package, or of Perdure; and which line of the
user's a warning is about."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

_PERDURE = str(Path(__file__).parent) + os.sep


@lru_cache(maxsize=1)
def _installed_below() -> tuple[str, ...]:
    paths = {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    real = {os.path.realpath(path) for path in paths} | paths
    return tuple(os.path.join(path, "") for path in real)


def is_installed_file(filename: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return filename.startswith(_installed_below()) or "-packages/" in filename


def is_users_file(filename: str) -> bool:
    """Whether a file is the user's: nobody installed it, and it is not one of Perdure's."""
    return not (is_installed_file(filename) or filename.startswith(_PERDURE))


def user_level() -> int:
    """The `stacklevel` for a warning from the calling function: that of the line in the user's script."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not is_users_file(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
