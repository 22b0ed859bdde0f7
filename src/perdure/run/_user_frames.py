"""Where in a user's script something happened."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from types import FrameType

from perdure.state import is_users_file


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs code of the user's."""
    return is_users_file(frame.f_code.co_filename)


def user_sources() -> Iterator[str]:
    """The texts of the files of the user's that are running, where they can be read."""
    frame: FrameType | None = sys._getframe(1)
    seen = set()
    while frame is not None:
        name = frame.f_code.co_filename
        if is_users(frame) and name not in seen:
            seen.add(name)
            yield "".join(linecache.getlines(name, frame.f_globals))
        frame = frame.f_back
