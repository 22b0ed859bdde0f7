"""Python's signal handlers wait while the world is walked and copied, because they may raise: Ctrl-C raises
KeyboardInterrupt, and a script's own alarm whatever it likes. Raised in the middle of a question to worker processes,
it would leave an answer in the pipe, which the next step of the training would take for its own.

Knows nothing of runs.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

#: Those for the use of real-time programs are left out: to look at all takes as long as to walk a small world.
_ALL = tuple(
    sorted(n for n in signal.valid_signals() if n < 32 and n not in (signal.SIGKILL, signal.SIGSTOP))
)


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
