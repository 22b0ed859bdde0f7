"""What the calls do that were inserted into a script: make its training loops resumable, one phase of the run each."""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from perdure.errors import ScriptError
from perdure.run import SCRIPT_CLOCK, Rounds
from perdure.script._clock import Clock
from perdure.script._record import Record, write_record
from perdure.script._training_loops import TrainingLoop
from perdure.state import skip


class Session:
    """One process of a script.

    :param directory: of the run.
    :param record: of the run; what is added to it is made durable at once.
    :param loops: those that are made resumable, by number.
    :param every: rounds between two checkpoints.
    :param seconds: time between two checkpoints.
    :param options: of :class:`perdure.Run`.
    """

    def __init__(
        self,
        directory: str,
        record: Record,
        loops: Mapping[int, TrainingLoop],
        every: int | None,
        seconds: float | None,
        options: Mapping[str, Any],
    ) -> None:
        self.record = record
        self.every, self.seconds, self.options = every, seconds, options
        #: How many phases this process has entered.
        self.entered = 0
        self._directory = directory
        self._loops = loops
        self._process = os.getpid()
        self._phase: _Phase | None = None
        self._is_training = False
        self._models: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._clock = Clock(record.answers, self._keep)
        #: Asks the clock; see `Clock.asked`.
        self.asked = self._clock.asked

    # -- what is inserted into the script -----------------------------------------------------------------------------

    def loop(self, number: int, rounds: Iterable[Any] | None = None) -> Iterable[Any]:
        """What a loop iterates over instead.

        :param rounds: what it iterated over; None for a `while` loop.
        """
        self._clear()
        if self.is_inside:
            # A training inside another one is part of its rounds.
            return itertools.repeat(None) if rounds is None else rounds
        self._phase = _Phase(self, number, self._enter(str(self._loops[number])), rounds)
        return self._phase.go()

    def over(self, number: int, is_for_good: bool) -> None:
        """The condition of a `while` loop is false.

        :param is_for_good: whether it must not be asked again by another process, because asking may change something.
        """
        if self._is_at(number):
            assert self._phase is not None
            self._phase.end(for_good=is_for_good)

    def left(self, number: int) -> None:
        """A loop is behind the script: it is over, or was left by `break`."""
        if self._is_at(number):
            assert self._phase is not None
            self._phase.end(for_good=True)
            self._clear()

    def was_broken(self, number: int) -> bool:
        """Whether the loop that is over was left by `break`, in an earlier process."""
        return self._is_at(number) and self._phase is not None and self._phase.rounds.is_ended

    # -- libraries -------------------------------------------------------------------------------------------------

    @property
    def is_inside(self) -> bool:
        """Whether a training loop is going on, or this is another process than that of the script."""
        is_looping = self._phase is not None and not self._phase.is_left
        return is_looping or self._is_training or os.getpid() != self._process

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Inside, a training of a library is going on."""
        self._is_training = True
        try:
            yield
        finally:
            self._is_training = False

    def next_directory(self, what: str) -> str:
        """The directory for a training that this process has not begun before.

        :param what: the training, in words.
        """
        self._clear()
        return self._enter(what)

    def directory_of(self, model: Any, what: str) -> str:
        """The directory for the training calls of a model: the same one for all of them.

        :param what: the model, in words.
        """
        if model not in self._models:
            self._models[model] = self.next_directory(what)
        return self._models[model]

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close what is open; nothing else is saved."""
        self._clear(force=True)

    def _is_at(self, number: int) -> bool:
        return self._phase is not None and self._phase.number == number and os.getpid() == self._process

    def _clear(self, *, force: bool = False) -> None:
        """Close a phase that is over, or was left by `return` or an exception."""
        if self._phase is not None and (force or self._phase.is_left):
            phase, self._phase = self._phase, None
            self._clock.training = False
            phase.close()

    def _enter(self, what: str) -> str:
        """The directory of the next phase."""
        known = self.record.phases
        if self.entered < len(known) and known[self.entered] != what:
            raise ScriptError(
                f"this is phase {self.entered + 1} of the run in {self._directory}, which was\n"
                f"  {known[self.entered]}\nwhen the run began, and is now\n  {what}\n"
                "The script was edited, or does not do the same each time. Begin anew with --fresh, or undo the edit"
            )
        if self.entered == len(known):
            known.append(what)
            self._keep()
        self.entered += 1
        return os.path.join(self._directory, f"phase-{self.entered}")

    def _keep(self) -> None:
        write_record(self._directory, self.record)

    # -- for a phase -----------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, Any]:
        """What is recorded with each checkpoint of a loop."""
        return {SCRIPT_CLOCK: self._clock.readings()}

    def began(self, rounds: Rounds[Any]) -> None:
        """A loop has begun, or goes on."""
        if rounds.resumed is not None:
            readings = (rounds.resumed.counters or {}).get(SCRIPT_CLOCK)
            if isinstance(readings, Mapping):
                self._clock.go_on_from(readings)
        self._clock.training = True


skip(Session, "Perdure itself")


class _Phase:
    """One training loop while the script is in it."""

    def __init__(self, session: Session, number: int, directory: str, rounds: Iterable[Any] | None) -> None:
        self.number = number
        #: Whether the loop is not going on any more.
        self.is_left = False
        self._session = session
        self._is_over = False
        self._exit = ExitStack()
        self.rounds: Rounds[Any] = Rounds(
            rounds,
            directory,
            session.every,
            session.seconds,
            session.options,
            counters=session.counters,
        )

    def go(self) -> Iterator[Any]:
        """The rounds that remain. A loop that is left closes this first, and only then says how it was left."""
        try:
            items = self.rounds.begin(sys._getframe(1))
            assert self.rounds.run is not None
            self._exit.enter_context(self.rounds.run)
            self._exit.enter_context(self.rounds.run.guard(is_abandoned=lambda: self.is_left))
            self._session.began(self.rounds)
            self.rounds.keep_beginning()
            for item in items:
                yield item
                self.rounds.end_round()
            self.end(for_good=False)
        finally:
            self.is_left = True

    def end(self, *, for_good: bool) -> None:
        """The loop is over: take the last checkpoint, once."""
        if not self._is_over and self.rounds.run is not None:
            self._is_over = True
            self.rounds.end(for_good=for_good)

    def close(self) -> None:
        self._exit.close()
