"""Signals that ask a training to leave: the first one asks for a checkpoint at the next safe point, after which the
process exits; the same one again ends it at once.

Handlers belong to the process, so all runs of a process share them: they are put in place when the first run begins to
listen, and the former ones are back when the last one ends. Knows no files and no run.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Literal

from perdure.errors import Preempted

#: Which signals ask a run to leave: "auto", or their names or numbers.
Signals = Literal["auto"] | Iterable["str | int"]

#: These only announce that the end is near: SIGTERM often follows, which then is no second signal. SLURM sends the
#: first two (`--signal=USR1@60`), as do submitit, LSF and Grid Engine; SIGXCPU comes when processor time is used up.
_ANNOUNCEMENTS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Variables of launchers that pass a signal on which the process may have got already.
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "OMPI_COMM_WORLD_SIZE", "PMI_RANK")
#: Under such a launcher, what comes within so many seconds of a signal is the same order once more.
_SAME_ORDER = 5.0
_OUTPUTS = (1, 2)

#: What was in place before, for each signal that is listened to.
_before: dict[signal.Signals, Any] = {}
#: Those who listen, from the first to the last.
_listening: list[Interrupts] = []
_lock = threading.RLock()
_owner = os.getpid()
_terminals: list[int] = []


def numbers_of(signals: Signals) -> tuple[signal.Signals, ...]:
    """The signals that are meant.

    :raises ValueError: if one is no signal of this system, or none that can be handled.
    """
    if signals == "auto":
        return (*_ORDERS, *_ANNOUNCEMENTS)
    given = list(signals) if isinstance(signals, Iterable) and not isinstance(signals, str) else [signals]
    found = []
    for each in given:
        try:
            name = each.upper() if isinstance(each, str) else ""
            number = (
                signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
                if isinstance(each, str)
                else signal.Signals(each)
            )
        except (KeyError, ValueError, TypeError):
            number = None
        if number is None or number in (signal.SIGKILL, signal.SIGSTOP):
            raise ValueError(
                f'signals: expected "auto", or a list of signals that a process can handle, such as ["SIGTERM", '
                f'"SIGUSR1"]; found {each!r:.80}'
            )
        found.append(number)
    return tuple(dict.fromkeys(found))


class Interrupts:
    """Inside, a first signal is noted instead of obeyed. It may be entered again inside, also by another thread.

    Only the main thread can put handlers in place; where another one enters first, `deaf` tells that.

    :param signals: see :data:`Signals`.
    :raises ValueError: if they are none.
    """

    def __init__(self, signals: Signals = "auto") -> None:
        self.numbers = numbers_of(signals)
        #: The signal that was received since this was entered.
        self.received: signal.Signals | None = None
        #: Called once, inside a signal handler, with the first signal that is received.
        self.when_asked: Callable[[signal.Signals], None] | None = None
        #: Whether a signal means that there is no time left: then it raises `Preempted` where the training is.
        self.is_over: Callable[[], bool] = lambda: False
        #: Whether the training has ended and nobody has said so: an exception has left it, and a notebook keeps that.
        self.is_abandoned: Callable[[], bool] = lambda: False
        self._since = 0.0
        self._depth = 0

    @property
    def deaf(self) -> bool:
        """Whether signals are not noticed, because only another thread than the main one has entered."""
        return bool(self.numbers) and not any(number in _before for number in self.numbers)

    @property
    def entered(self) -> bool:
        """Whether somebody is inside."""
        return self._depth > 0

    def __enter__(self) -> Interrupts:
        with _lock:
            if self._depth == 0:
                self.received = None
                _listening.append(self)
            self._depth += 1
            if threading.current_thread() is threading.main_thread():
                _put_in_place(self.numbers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            if self._depth == 0:  # it was ended by force
                return
            self._depth -= 1
            if self._depth == 0:
                self.end()

    def end(self) -> None:
        """Listen no more, whoever is inside."""
        with _lock:
            self._depth = 0
            for each in [each for each in _listening if each is self or each.is_abandoned()]:
                each._depth = 0
                _listening.remove(each)
            if not _listening:
                _put_back()

    def hear(self, number: signal.Signals) -> bool:
        """Note a signal; returns whether it is something new."""
        first = self.received is None
        if not first and (self.received not in _ANNOUNCEMENTS or number in _ANNOUNCEMENTS):
            return False
        self.received = number
        self._since = time.monotonic()
        if first and self.when_asked is not None:
            self.when_asked(number)
        return True

    def has_heard(self, number: signal.Signals) -> bool:
        """Whether a signal says nothing new, as opposed to telling that somebody is impatient."""
        # One hangup may arrive several times: from the system, the shell, and a service manager after SIGTERM.
        if number == signal.SIGHUP or number in _ANNOUNCEMENTS:
            return True
        passed_on = any(name in os.environ for name in _LAUNCHERS)
        return passed_on and time.monotonic() - self._since < _SAME_ORDER


def _put_in_place(numbers: Iterable[signal.Signals]) -> None:
    global _owner
    if not _before:
        _owner = os.getpid()
        _terminals[:] = [fd for fd in _OUTPUTS if os.isatty(fd)]
        # Before the interpreter's own: at its end it sends SIGTERM to workers, which must not think that we listen.
        atexit.register(_put_back)
    caught = _caught_by_others()
    for number in numbers:
        found = signal.getsignal(number)
        if number in _before and found != _note:
            del _before[number]  # somebody has taken our handler away since
        # A signal that the process ignores, for example under nohup, stays ignored.
        if number in _before or found == signal.SIG_IGN:
            continue
        # What the script does at a mere announcement is of use to it, in Python or in C, as by
        # `faulthandler.register(signal.SIGUSR1)`. An order to end is another matter: SDL, which pygame draws with,
        # takes SIGTERM and SIGINT for itself and ends nothing.
        if number not in _ORDERS and (callable(found) or number in caught):
            continue
        _before[number] = signal.SIG_DFL if found is None else found
        signal.signal(number, _note)


def _put_back() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # then `_note` does what the former handlers do
    while _before:
        number = next(iter(_before))
        if signal.getsignal(number) == _note:
            signal.signal(number, _before[number])
        del _before[number]
    atexit.unregister(_put_back)


def _caught_by_others() -> set[int]:
    """The signals that have handlers as the system sees it, where it tells."""
    try:
        with open("/proc/self/status") as status:
            mask = next((int(line.split()[1], 16) for line in status if line.startswith("SigCgt")), 0)
    except (OSError, ValueError, IndexError):
        return set()
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def _after_fork() -> None:
    global _lock
    # Another thread may have held it. A forked child has nobody who listens.
    _lock = threading.RLock()
    _listening.clear()
    _put_back()


os.register_at_fork(after_in_child=_after_fork)


def _note(number: int, frame: FrameType | None) -> None:
    received = signal.Signals(number)
    if received == signal.SIGHUP and os.getpid() == _owner:
        _leave_terminal()
    if abandoned := next((each for each in _listening if each.is_abandoned()), None):
        abandoned.end()
    concerned = [each for each in _listening if received in each.numbers]
    if os.getpid() != _owner or not concerned:
        _obey(received, frame)
        return
    if any(each.received is not None and each.is_over() for each in concerned):
        raise Preempted(128 + received)
    news = [each.hear(received) for each in concerned]
    if any(news):
        # Written as bytes: a signal may interrupt a print, and text streams are not re-entrant. Standard error may be
        # closed, which must not become an error in the training.
        with suppress(OSError, ValueError):
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ is not None else 2,
                f"\nperdure: {received.name} received: saving a checkpoint at the next safe point, then exiting "
                "(send it again to exit at once)\n".encode(),
            )
    elif not all(each.has_heard(received) for each in concerned):
        _obey(received, frame)


def _obey(number: signal.Signals, frame: FrameType | None) -> None:
    """Do what the signal would do without us."""
    handler = _before.get(number, signal.SIG_DFL)
    if not _listening and (there := signal.getsignal(number)) != _note:
        handler = there
    # A notebook's stop button must not end the kernel, with all that is in its memory.
    if callable(handler) and (not _listening or (number == signal.SIGINT and is_interactive())):
        handler(number, frame)
        return
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def is_interactive() -> bool:
    """Whether a person types what this process runs, as in a notebook."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or "ipykernel" in sys.modules


def _leave_terminal() -> None:
    """Discard further output if the terminal is gone: a print would raise an error in the middle of a step."""
    for fd in _terminals:
        if not os.isatty(fd):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, fd)
            os.close(nowhere)
