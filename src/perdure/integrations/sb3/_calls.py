"""The calls of `learn` of one run: which of them are done, and where each is to go on.

A script may call `learn` several times, and runs its code between two calls again when it is started again. So the end
of each call is a checkpoint of its own, which is kept, and the calls are counted, in the run and in each process.
Knows no library, only what is recorded with each checkpoint.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from perdure.errors import PerdureError, RestoreError
from perdure.run import Run
from perdure.store import CheckpointInfo

#: Where in a call of `learn` a checkpoint was taken.
START, END = "rollout start", "training end"


@dataclass(frozen=True)
class Place:
    """Where in a run a checkpoint was taken.

    :param call: which call of `learn`, from 1 on.
    :param at: `START` or `END`.
    :param total: the number of steps at which the call was to end, as the model counts them.
    :param timesteps: how many steps the model had counted.
    :param stopped: whether a callback ended the call before that.
    """

    call: int
    at: str
    total: int
    timesteps: int
    stopped: bool = False

    @classmethod
    def of(cls, info: CheckpointInfo) -> Place:
        """The place of a checkpoint. Those of the first versions do not say which call it was: it was the first."""
        known: Mapping[str, Any] = info.counters or {}
        return cls(
            call=int(known.get("learn", 1)),
            at=str(known.get("at", START)),
            total=int(known.get("total", info.step)),
            timesteps=int(known.get("timesteps", info.step)),
            stopped=bool(known.get("stopped", False)),
        )

    def counters(self) -> dict[str, Any]:
        """What is recorded of it."""
        return {
            "at": self.at,
            "learn": self.call,
            "total": self.total,
            "timesteps": self.timesteps,
            "stopped": self.stopped,
        }


class Calls:
    """The calls of `learn` that one model makes for one run, in this process."""

    def __init__(self, run: Run) -> None:
        self.run = run
        #: How many calls have ended.
        self.done = 0
        #: Whether the model is where the run is: its newest checkpoint was restored, or taken of this model.
        self.up_to_date = False


#: By model, and by directory.
_CALLS: weakref.WeakKeyDictionary[Any, dict[str, Calls]] = weakref.WeakKeyDictionary()
#: The call that has the run of a directory open: what closes it, the model, and the code of its `learn`.
_OPEN: dict[str, tuple[Callable[[], None], weakref.ref[Any], CodeType]] = {}
#: Which models have ended a call for the run of a directory, in words.
_ENDED: dict[str, tuple[weakref.ref[Any], str]] = {}


def calls_of(model: Any, directory: str, open_run: Callable[[], Run], world: Any) -> Calls:
    """What this process knows of a model's calls for a run, which is opened.

    :param directory: of the run, without symbolic links.
    :param open_run: opens it for the first time.
    :param world: what the run is opened for.
    :raises LockedError: if it is open elsewhere.
    """
    if directory in _OPEN:
        close, of, code = _OPEN[directory]
        if not is_running(of(), code):
            close()  # an exception ended that call, so nobody told it that it is over
    known = _CALLS.setdefault(model, {})
    if directory not in known:
        known[directory] = Calls(open_run())
    else:
        known[directory].run.reopen(world)
    return known[directory]


def opened(directory: str, close: Callable[[], None], model: Any, code: CodeType) -> None:
    """Note that a call begins.

    :param close: closes the run. It must not hold the model: after a crash it is kept.
    :param code: of the call.
    """
    _OPEN[directory] = close, weakref.ref(model), code


def closed(directory: str) -> None:
    """Note that the call is over."""
    _OPEN.pop(directory, None)


def ended(model: Any, directory: str, shown: str) -> None:
    """Note that a call of a model came to its end.

    :param shown: the model, in words.
    """
    _ENDED[directory] = weakref.ref(model), shown


def check_model(model: Any, seed: int | None, directory: str, shown: str) -> None:
    """Raise an error where a second model of this process would become the first one.

    A model with a seed is what the seed makes of it, so it may. One without is never another one.

    :raises PerdureError: it names both.
    """
    first, described = _ENDED.get(directory, (None, ""))
    if first is None or first() is model or seed is not None:
        return
    raise PerdureError(
        f"this process has trained another model for the run in {directory} already ({described}), and without a seed "
        f"this one ({shown}) is not the same. Give each model a directory. If it is to be the same one, give both the "
        "same seed; if it is to begin anew, remove the directory first"
    )


def is_running(model: Any, code: CodeType) -> bool:
    """Whether a method of a model runs in some thread."""
    for running in sys._current_frames().values():
        frame: FrameType | None = running
        while frame is not None:
            if frame.f_code is code and frame.f_locals.get(code.co_varnames[0]) is model is not None:
                return True
            frame = frame.f_back
    return False


def newest(infos: Sequence[CheckpointInfo], call: int, at: str) -> CheckpointInfo | None:
    """The newest checkpoint of a place in a call; None if there is none."""
    return next((info for info in reversed(infos) if _is_at(info, call, at)), None)


def starts(infos: Sequence[CheckpointInfo], call: int, up_to: int) -> list[int]:
    """The numbers of the checkpoints at the starts of rollouts of a call, from the newest to the oldest.

    :param up_to: no number is higher.
    """
    return [info.number for info in reversed(infos) if info.number <= up_to and _is_at(info, call, START)]


def _is_at(info: CheckpointInfo, call: int, at: str) -> bool:
    place = Place.of(info)
    return bool(info.counters) and (place.call, place.at) == (call, at)


def end_of(infos: Sequence[CheckpointInfo], call: int, directory: str) -> CheckpointInfo:
    """The checkpoint at the end of a call that is done.

    :raises RestoreError: if there is none.
    """
    if (found := newest(infos, call, END)) is None:
        raise RestoreError(
            f"the run in {directory} is in its call {Place.of(infos[-1]).call} of learn(), and the checkpoint of the "
            f"end of call {call} is not there any more, so what the script does between these calls would see another "
            "state. Put it back from a copy, or begin anew in another directory"
        )
    return found
