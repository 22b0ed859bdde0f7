"""Captures the world while nothing else happens to it, as far as that can be had.

Python's signal handlers wait meanwhile, because they may raise: Ctrl-C raises KeyboardInterrupt, and a script's own
alarm whatever it likes. Raised in the middle of a question to worker processes, it would leave an answer in the pipe,
which the next step of the training would take for its own. Other threads cannot be stopped. If there are any, what was
copied is compared with the world once more, and a checkpoint in which one of them is seen to have written is not taken.

Knows nothing of runs.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from perdure.errors import CaptureError
from perdure.snapshot import ChangedWhileCopied
from perdure.state import paused_collection

_T = TypeVar("_T")
#: So often it is tried to capture a world that other threads change.
_ATTEMPTS = 3
#: Those for the use of real-time programs are left out: to look at all takes as long as to walk a small world.
_ALL = tuple(
    sorted(n for n in signal.valid_signals() if n < 32 and n not in (signal.SIGKILL, signal.SIGSTOP))
)


def undisturbed(lock: threading.RLock, capture: Callable[[bool], _T]) -> _T:
    """Call a function that captures the world.

    :param lock: held meanwhile; threads of the script that change the world can hold it too.
    :param capture: given whether other threads may change the world meanwhile. Called again if one did.
    :raises CaptureError: if one did at each attempt.
    """
    with lock:
        held = HeldSignals()
        try:
            held.hold()
            with paused_collection():
                return _attempted(capture)
        finally:
            held.release()


def _attempted(capture: Callable[[bool], _T]) -> _T:
    others = _other_threads()
    what = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(0.001)
        try:
            return capture(bool(others))
        except ChangedWhileCopied as error:
            what = str(error)
        except RuntimeError as error:
            # What Python says of a container that changes size while it is gone through.
            if not others or "during iteration" not in str(error):
                raise
            what = f"a container ({error})"
    raise CaptureError(
        f"another thread changes the world while it is captured: {what}. The threads: {', '.join(others)}. Let each "
        "hold the run's lock while it changes something: `with run.lock: ...`. Or leave it out: "
        "perdure.Run(..., skip=[...])"
    )


def _other_threads() -> list[str]:
    """The names of the other threads that run Python code, except those of Perdure and of the interpreter's tools."""
    this = threading.current_thread()
    return [
        each.name
        for each in threading.enumerate()
        if each is not this and not each.name.startswith("perdure") and type(each).__name__ not in _HARMLESS
    ]


#: Classes of threads that only draw progress bars, or wait for the end of others.
_HARMLESS = frozenset(["TMonitor", "_RefreshThread", "_ExecutorManagerThread", "HistorySavingThread"])


class HeldSignals:
    """Between `hold` and `release` handlers do not run; what was received meanwhile is handled at `release`.

    Ctrl-C a second time is not held: then somebody does not want to wait. Use it in a `try`, with `release` in its
    `finally`. Outside of the main thread, where no handler runs, it does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._received: list[int] = []

    def hold(self) -> None:
        """Let handlers wait from now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _ALL:
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                signal.signal(number, self._note)

    def release(self) -> None:
        """Put the handlers back, and let them handle what was received."""
        try:
            while self._before:
                number, handler = next(iter(self._before.items()))
                signal.signal(number, handler)
                self._before.pop(number, None)
            while self._received:
                signal.raise_signal(self._received.pop(0))
        except BaseException:
            # One of them raised. The others get their turn too.
            self.release()
            raise

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in self._received:
            self._received.remove(number)
            self._before[number](number, frame)
        elif number not in self._received:
            self._received.append(number)
