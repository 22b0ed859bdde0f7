"""The loops around the calls by which a script asks for checkpoints itself: in the function that calls, and around it.

A loop belongs to a run if the run was opened outside of it. One that opens a run in each round, for several seeds say,
has no state that this run would need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

from perdure.run._undisturbed import HeldSignals
from perdure.run._user_frames import is_users
from perdure.run.loops._watch import Watch, around_call


class LoopsAroundCalls:
    """Watches the loops around the calls of one run.

    :param frame: that in which the run is opened.
    """

    def __init__(self, frame: FrameType | None) -> None:
        self._opened = [(each.f_code, each.f_lineno) for each in _users(frame)]
        self._watches: dict[tuple[CodeType, int], Watch | None] = {}

    def watches(
        self,
        frame: FrameType | None,
        known: Sequence[Any],
        world: Callable[[], Mapping[str, Any]],
        begin: Callable[[Watch], None],
    ) -> list[Watch]:
        """Those of the loops around a call, the innermost first.

        :param frame: that of the call. Where that is no code of the user's, somebody else knows the loop.
        :param known: objects to pass over.
        :param world: gives what is captured.
        :param begin: called with a watch that is new, before its loop is looked at.
        """
        found = []
        is_inner = False
        for each in _users(frame):
            key = each.f_code, each.f_lasti
            if key not in self._watches:
                held = HeldSignals()
                try:
                    # What raises in the middle of it, as Ctrl-C does, would leave a loop half looked at.
                    held.hold()
                    self._watches[key] = self._new(each, known, world, begin, is_inner=is_inner)
                finally:
                    held.release()
            if (watch := self._watches[key]) is not None:
                watch.stands_in(each)
                found.append(watch)
            is_inner = True
        return found

    def _new(
        self,
        frame: FrameType,
        known: Sequence[Any],
        world: Callable[[], Mapping[str, Any]],
        begin: Callable[[Watch], None],
        *,
        is_inner: bool,
    ) -> Watch | None:
        place = around_call(frame, is_inner=is_inner)
        if place is None or any(frame.f_code is code and line in place.lines for code, line in self._opened):
            return None
        watch = Watch(place, known)
        begin(watch)
        watch.first_round(world())
        return watch


def _users(frame: FrameType | None) -> Iterator[FrameType]:
    """Frames of the user's code, from one on outwards, up to the first that is not."""
    while frame is not None and is_users(frame):
        yield frame
        frame = frame.f_back
