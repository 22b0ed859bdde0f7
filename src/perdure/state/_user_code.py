"""Whose code a file holds: the user's, or that of Python, of an installed package, or of Perdure."""

from __future__ import annotations

import os
import site
import sysconfig
from functools import lru_cache
from pathlib import Path

_PERDURE = str(Path(__file__).parents[1]) + os.sep


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
