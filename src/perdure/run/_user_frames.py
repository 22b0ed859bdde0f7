"""Where in a user's script something happened."""

from __future__ import annotations

import sys
from types import FrameType

from perdure.state import is_users_file


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs code of the user's."""
    return is_users_file(frame.f_code.co_filename)


def user_level() -> int:
    """The `stacklevel` for a warning from the calling function: that of the line in the user's script."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not is_users(frame):
        frame, level = frame.f_back, level + 1
    return level
