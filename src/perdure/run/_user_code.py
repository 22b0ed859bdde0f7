"""Which code a user wrote for this run: what lies neither in an installed package nor in Perdure itself."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType

import perdure

_OTHERS = (
    *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
    str(Path(perdure.__file__).parent) + os.sep,
)


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs code of the user's."""
    return not frame.f_code.co_filename.startswith(_OTHERS)


def user_level() -> int:
    """The `stacklevel` for a warning from the calling function: that of the line in the user's script."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not is_users(frame):
        frame, level = frame.f_back, level + 1
    return level
