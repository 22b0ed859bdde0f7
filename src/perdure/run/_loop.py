"""`loop`: makes a training loop resumable by one line. The variables that it needs are found, and are the world."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from types import FrameType
from typing import Any, Generic, TypeVar, overload

from perdure import arguments
from perdure.errors import PerdureError
from perdure.run._console import say
from perdure.run._generators import check_generators
from perdure.run._record import PART
from perdure.run._run import Run
from perdure.run.loops import LoopVariables, find_loop
from perdure.state import skip
from perdure.store import CheckpointInfo

Item = TypeVar("Item")


@overload
def loop(
    rounds: Iterable[Item],
    directory: str | os.PathLike[str],
    *,
    every: int | None = ...,
    seconds: float | None = ...,
    **options: Any,
) -> Loop[Item]: ...
@overload
def loop(
    rounds: Callable[[], object],
    directory: str | os.PathLike[str],
    *,
    every: int | None = ...,
    seconds: float | None = ...,
    **options: Any,
) -> Loop[int]: ...
def loop(
    rounds: Iterable[Any] | Callable[[], object],
    directory: str | os.PathLike[str],
    *,
    every: int | None = None,
    seconds: float | None = None,
    **options: Any,
) -> Loop[Any]:
    """Loop over `rounds` so that the loop survives being killed: run the same script again, and it goes on.

        for iteration in perdure.loop(range(1, 1001), "runs/ppo", every=10):
            ...

    Before the first round it looks at the source of the loop. Every variable that a later round, or what follows the
    loop, may read before it is assigned is saved, with all that can be reached from it. A new process of the script
    builds everything as usual. When it reaches the loop, the variables get the values of the newest checkpoint, and the
    rounds that are done are skipped. A finished loop runs no round, and what follows it sees the same variables.

    A `while` loop becomes a `for` loop over its condition, which is asked before each round:

        for _ in perdure.loop(lambda: step < 100_000, "runs/sac"):
            ...

    Checkpoints are taken between two rounds: when a multiple of `every` rounds is done, when `seconds` have passed
    since the last one (every ten minutes if neither is given), when SIGTERM, SIGHUP or Ctrl-C was received (then the
    process exits with :class:`perdure.Preempted`), and after the last round.

    :param rounds: what to loop over: a range, a list, or anything else that gives the same elements in every process;
        or a condition, a function without arguments.
    :param directory: of the run; created if it does not exist. One loop and one process at a time use it.
    :param every: take a checkpoint when a multiple of so many rounds is done.
    :param seconds: take one so many seconds after the last.
    :param options: other options of :class:`perdure.Run`: `keep`, `skip`, `on_error`, …
    :returns: an iterator over the elements that remain, or over 0, 1, 2, … for a condition. Its `run` is the
        :class:`perdure.Run`.
    :raises PerdureError: if the source of the loop cannot be read, or its variables cannot be set.
    :raises CaptureError: if a variable cannot be captured; it lists which, and the remedies.
    :raises RestoreError: if the checkpoint does not fit what the script built; nothing was changed then.
    """
    if not isinstance(rounds, Iterable) and not callable(rounds):
        raise TypeError(
            "perdure.loop: expected something to loop over, such as range(1000), or a condition, such as "
            f"`lambda: step < 1000`; found a {type(rounds).__name__}"
        )
    every, seconds = arguments.cadence(every, seconds)
    return Loop(Rounds(rounds, arguments.local_path(directory, "directory"), every, seconds, options))


class Loop(Iterator[Item]):
    """What `loop` returns: an iterator over the rounds that remain."""

    def __init__(self, rounds: Rounds[Item]) -> None:
        self._rounds = rounds
        self._going = rounds.go()

    def __next__(self) -> Item:
        return next(self._going)

    @property
    def run(self) -> Run | None:
        """The run, from the first round on: for `run.report_score`, say. None before."""
        return self._rounds.run


skip(Loop, "the loop itself")


class Rounds(Generic[Item]):
    """The rounds of one loop in this process, for what goes through them: `loop`, and `perdure run`.

    It does not know the `Loop`: one that is left by `break` or an error is freed at once, and the run is closed.

    :param rounds: what to loop over, a condition, or None for rounds without end.
    :param counters: called at each checkpoint; gives further counters to record, as JSON.
    """

    def __init__(
        self,
        rounds: Iterable[Item] | Callable[[], object] | None,
        directory: str | os.PathLike[str],
        every: int | None,
        seconds: float | None,
        options: Mapping[str, Any],
        *,
        counters: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.run: Run | None = None
        #: Where the loop stands, as "train.py:120".
        self.place = ""
        #: The checkpoint that the loop goes on from; None if it begins.
        self.resumed: CheckpointInfo | None = None
        self._rounds = rounds
        self._directory = directory
        self._every = every
        self._seconds = seconds
        self._options = options
        self._counters = counters
        self._done = self._began = 0

    def go(self) -> Iterator[Item]:
        """Go through the rounds that remain; the run is closed when they are over or left."""
        items = self.begin(sys._getframe(1))
        assert self.run is not None
        with self.run, self.run.guard():
            for item in items:
                yield item
                self.end_round()
            self.end()

    def begin(self, frame: FrameType | None) -> Iterator[Item]:
        """Open the run and bring the variables of the loop to where it is.

        :param frame: of the loop, which stands at its head; or of what is called by it.
        :returns: the rounds that remain.
        :raises PerdureError: if the loop cannot be seen, or its variables cannot be set.
        """
        place = find_loop(frame)
        if place is None:
            raise PerdureError(
                "perdure.loop finds the variables that it has to save in the source of the `for` loop around it, and "
                "there is none that it can read here. Write it as `for x in perdure.loop(...):` in a file or a "
                "notebook, or keep the variables in a perdure.World and loop over Run.steps"
            )
        check_generators(self._rounds)
        self._world = world = _World(LoopVariables(place))
        self.place = world.place
        self.run = run = Run(self._directory, **self._options)
        try:
            found = run.find_checkpoint(world.parts)
            done = 0 if found is None else found.step
            # What the script iterates over is brought to its place first: that may draw from the generators, which
            # are restored after it.
            items = _remaining(self._rounds, done)
            resumed = run.resume(world.parts)
            while (
                resumed is not None and resumed.step != done
            ):  # the newest checkpoint turned out to be damaged
                done = resumed.step
                items = _remaining(self._rounds, done)
                resumed = run.resume(world.parts)
            run._script_state.leave_to_loop(place)
            world.write_back()
        except BaseException:
            run.close()
            raise
        say(world.described())
        self.resumed, self._done, self._began = resumed, done, done
        return iter(()) if self.is_ended else items

    @property
    def is_ended(self) -> bool:
        """Whether an earlier process left the loop by `break`."""
        return self.resumed is not None and bool((self.resumed.counters or {}).get(_ENDED))

    def keep_beginning(self) -> None:
        """Take a checkpoint before the first round, unless there is one.

        It tells at once what no checkpoint can hold. And what the script has written and drawn until here is the same
        after a kill in the first rounds.
        """
        assert self.run is not None
        if self.resumed is None:
            self.run.checkpoint(self._world.read(), 0, counters=self._counters(), wait=False)

    def end_round(self) -> None:
        """A round is done: take a checkpoint if one is due, and exit if a signal asked to."""
        assert self.run is not None
        self._done += 1
        counters: dict[str, Any] = {}

        def refresh() -> None:
            self._world.read()
            counters.update(self._counters())

        self.run.safe_point(self._world.parts, self._done, self._every, self._seconds, counters, refresh)

    def end(self, *, for_good: bool = False) -> None:
        """The loop is over: take the last checkpoint.

        :param for_good: whether no later process is to look for further rounds, because the script left the loop.
        """
        assert self.run is not None
        if for_good and self.is_ended:
            return
        if for_good or self._done > self._began or self.run.last is None:
            counters = {**self._counters(), **({_ENDED: True} if for_good else {})}
            self.run.checkpoint(self._world.read(), self._done, counters=counters)


#: The counter that tells that the script has left the loop.
_ENDED = "left"


def _remaining(rounds: Iterable[Any] | Callable[[], object] | None, done: int) -> Iterator[Any]:
    """What is left of some rounds."""
    if rounds is None:
        return count(done)
    if not isinstance(rounds, Iterable):
        return _while(rounds, done)
    if isinstance(rounds, range | list | tuple):
        if done > len(rounds):
            raise _shorter(len(rounds), done)
        return iter(rounds[done:])
    items = iter(rounds)
    for number in range(done):
        try:
            next(items)
        except StopIteration:
            raise _shorter(number, done) from None
    return items


def _while(condition: Callable[[], object], done: int) -> Iterator[int]:
    for number in count(done):
        if not condition():
            return
        yield number


def _shorter(length: int, done: int) -> PerdureError:
    return PerdureError(
        f"perdure.loop: the run has done {done} rounds, and the script now has {length} to loop over. Loop over at "
        "least as many as before, or begin a new run in another directory"
    )


class _World:
    """The variables of a loop as the parts of a world."""

    def __init__(self, variables: LoopVariables) -> None:
        self._variables = variables
        #: The parts by name; `resume` writes into this dict.
        self.parts: dict[str, Any] = {}
        self._built = dict(self.read())

    def read(self) -> dict[str, Any]:
        """Take the variables as they are now."""
        found = {_part_name(name): value for name, value in self._variables.read().items()}
        for name in self.parts.keys() - found.keys():
            del self.parts[name]
        self.parts.update(found)
        return self.parts

    def write_back(self) -> None:
        """Bind the variables that restoring replaced: numbers, strings, and what else cannot be changed in place."""
        missing = object()
        self._variables.write(
            {
                _variable_name(name): value
                for name, value in self.parts.items()
                if self._built.get(name, missing) is not value
            }
        )

    @property
    def place(self) -> str:
        """The file and the line of the loop."""
        return self._variables.place

    def described(self) -> str:
        """One line: which loop, which variables."""
        names = ", ".join(map(_variable_name, self.parts))
        return f"{self._variables.place}: the loop carries {len(self.parts)} variables: {names}"


def _part_name(variable: str) -> str:
    return f"{variable}_" if variable.rstrip("_") == PART else variable


def _variable_name(part: str) -> str:
    return part[:-1] if part.rstrip("_") == PART else part
