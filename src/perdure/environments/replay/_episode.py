"""An episode that is recorded while it runs and played again in another process. Knows no library and no files.

What native code holds cannot be read; but it can be brought about again: with everything that Python sees as it was
right before the reset, the same reset and the same actions lead to the same state. That this is so is checked on the
way, by what was observed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from perdure.environments.replay import _python_state
from perdure.environments.replay._log import Actions, Outcomes, Unrecordable, digest
from perdure.errors import CaptureError, NotCapturedWarning, RestoreError, SlowReplayWarning
from perdure.progress import Bar
from perdure.state import rng, unassignable
from perdure.tree import Object, State, write_path

_ASKED_EVERY = 256
_WATCHED_EPISODES, _WATCHED_STEPS = 2, 16


def own(wrapper: Any, others: Sequence[str]) -> dict[str, Any]:
    """The attributes of a wrapper, but for some."""
    return {name: value for name, value in vars(wrapper).items() if name not in others}


def assign(wrapper: Any, found: Any, others: Sequence[str]) -> None:
    """Give a wrapper the attributes that `own` found, where they may be given to it."""
    for name, value in found.items():
        if (
            type(name) is str
            and name not in others
            and unassignable(type(wrapper), name, vars(wrapper)) is None
        ):
            vars(wrapper)[name] = value


@dataclass(frozen=True)
class Course:
    """What an episode needs to know of its environment.

    :param name: for messages.
    :param parts: the live objects whose Python side is state, by name.
    :param assign: takes the part `own` after it was restored: the attributes of the wrapper itself.
    :param reset: from a seed and options to the first observation.
    :param step: from an action to the observation, the reward, and a number that says whether the episode ended.
    :param check: raises ValueError where recorded actions are not of the action space.
    :param advice: what to do where that takes too long.
    :param quick: what may be left out while many steps are played whose observations nobody sees, or None.
    """

    name: str
    parts: Callable[[], dict[str, Any]]
    assign: Callable[[Any], None]
    reset: Callable[[Any, Any], Any]
    step: Callable[[Any], tuple[Any, float, int]]
    check: Callable[[Actions], None]
    quick: Callable[[], contextlib.AbstractContextManager[None]] | None = None
    advice: str = "shorter episodes take less"


class Episode:
    """What happened since the last reset.

    :param course: the environment.
    :param skip: paths of the environment's Python side to leave alone.
    :param patience: how many seconds playing it again may take before there is a warning.
    """

    def __init__(self, course: Course, skip: Sequence[str], patience: float) -> None:
        self._course = course
        self._skip = tuple(skip)
        self._patience = patience
        #: Why this episode cannot be played again, or None.
        self._problem: str | None = None
        self._before: State | None = None
        self._first = 0
        self._actions = Actions()
        self._outcomes = Outcomes()
        self._seconds = 0.0
        self._timed = 0
        self._episodes = 0
        self._watched = 0
        self._generators: dict[str, Any] | None = None

    def __len__(self) -> int:
        return self._outcomes.count

    # -- recording -------------------------------------------------------------------------------------------

    def begin(self, seed: Any, options: Any) -> None:
        """A reset follows."""
        parts = {**self._course.parts(), "call": {"seed": seed, "options": options}}
        self._before, self._problem = None, None
        try:
            self._before, left = _python_state.take(parts, self._skip, generators=True)
            wrong = [path for path in map(write_path, left) if path.startswith("call")]
            if wrong:
                self._problem = f"the options of its last reset cannot be kept ({wrong[0]})"
        except CaptureError as error:
            self._problem = str(error)
        self._actions, self._outcomes = Actions(), Outcomes()
        self._episodes += 1
        self._watched = 0 if self._episodes <= _WATCHED_EPISODES else _WATCHED_STEPS

    def began(self, observation: Any) -> None:
        """The reset is done."""
        self._first = digest(observation)

    def act(self, action: Any) -> None:
        """A step with this action follows."""
        if self._problem is None:
            try:
                self._actions.append(action)
            except Unrecordable as error:
                self._problem = f"an action of this episode cannot be kept: {error}"
        if self._watched < _WATCHED_STEPS:
            self._watched += 1
            self._generators = rng.get_state()

    def acted(self, seconds: float, observation: Any, reward: Any, ended: int) -> None:
        """The step is done."""
        self._outcomes.append(digest(observation, ended), reward)
        self._seconds += seconds
        self._timed += 1
        if self._timed % _ASKED_EVERY == 0 and self.replay_seconds > self._patience:
            self._warn_of_cost()
        if self._generators is not None:
            self._warn_of_draws()

    @property
    def replay_seconds(self) -> float:
        """About how long it takes to play the episode again, judged by how long its steps took."""
        return len(self._actions) * self._seconds / self._timed if self._timed else 0.0

    def _warn_of_cost(self) -> None:
        warnings.warn(
            f"{self._course.name}: {len(self._actions)} steps have been taken since the last reset; to resume here "
            f"would take about {self.replay_seconds:.0f} s, because they are played again ({self._course.advice}; "
            "patience=... says how long is too long)",
            SlowReplayWarning,
            stacklevel=4,
        )
        self._patience = float("inf")

    def _warn_of_draws(self) -> None:
        before, self._generators = self._generators, None
        drawn = _drawn(before, rng.get_state())
        if drawn:
            self._watched, self._episodes = _WATCHED_STEPS, _WATCHED_EPISODES
            warnings.warn(
                f"{self._course.name}: its steps draw from the process's generators ({', '.join(drawn)}). They can "
                "only be played again if nothing else draws from them between its steps; let it draw from its own "
                "generator (self.np_random)",
                NotCapturedWarning,
                stacklevel=4,
            )

    # -- state -----------------------------------------------------------------------------------------------

    def capture(self) -> dict[str, Any]:
        """All that is needed to be here again.

        :raises ValueError: if it cannot be played again.
        """
        if self._problem is not None:
            raise ValueError(self._problem)
        if len(self._actions) != self._outcomes.count:
            raise ValueError("its last step raised an error. Reset it first")
        self._course.check(self._actions)
        now, _ = _python_state.take(self._course.parts(), self._skip)
        return {
            "before": self._before,
            "now": now,
            "first": self._first,
            "actions": self._actions.written(),
            "outcomes": self._outcomes.written(),
        }

    def restore(self, saved: Any) -> None:
        """Be where a captured episode was.

        :raises RestoreError: if it does not fit, or the environment takes another course this time.
        """
        before, now, first, actions, outcomes = self._read(saved)
        self._check_kind(now)
        self._problem = "it was restored by half"
        if before is not None:
            self._play(before, first, actions, outcomes)
        # What was changed from outside since the reset: the action space's generator, a level of difficulty.
        parts = self._course.parts()
        _python_state.put(now, parts, self._skip)
        self._course.assign(parts["own"])
        self._before, self._first, self._actions, self._outcomes = before, first, actions, outcomes
        self._problem = None

    def _read(self, saved: Any) -> tuple[State | None, State, int, Actions, Outcomes]:
        try:
            before, now, first = saved["before"], saved["now"], saved["first"]
            if not isinstance(now, State) or not isinstance(before, State | None) or type(first) is not int:
                raise TypeError("expected the states at the reset and now")
            actions = Actions.read(saved["actions"])
            outcomes = Outcomes.read(saved["outcomes"], len(actions))
            self._course.check(actions)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise RestoreError(
                f"{self._course.name}: the checkpoint has no episode that can be played again: {error}"
            ) from error
        return (
            None if before is None else _python_state.kept(before),
            _python_state.kept(now),
            first,
            actions,
            outcomes,
        )

    def _check_kind(self, saved: State) -> None:
        """Check that it is the same environment, wrapper by wrapper; nothing is changed."""
        live, _ = _python_state.take(self._course.parts(), self._skip)
        ours, theirs = live.root.fields.get("env"), saved.root.fields.get("env")
        while isinstance(ours, Object) or isinstance(theirs, Object):
            found = [node.type if isinstance(node, Object) else "nothing" for node in (theirs, ours)]
            if found[0] != found[1]:
                raise RestoreError(
                    f"{self._course.name}: the checkpoint has a {found[0]}, the script a {found[1]}"
                )
            ours, theirs = ours.fields.get("env"), theirs.fields.get("env")  # type: ignore[union-attr]

    def _play(self, before: State, first: int, actions: Actions, outcomes: Outcomes) -> None:
        call: dict[str, Any] = {"seed": None, "options": None}
        report = _python_state.put(before, {**self._course.parts(), "call": call}, self._skip)
        expected = zip(outcomes.digests.rows.tolist(), outcomes.rewards.rows.tolist(), strict=True)
        count = len(actions)
        step = 0
        try:
            if digest(self._course.reset(call["seed"], call["options"])) != first:
                raise self._diverged("after the reset the observation differs", report.problems(5))
            with contextlib.ExitStack() as stack:
                quick = self._course.quick is not None and count > 1
                if quick:
                    leave = stack.enter_context(contextlib.ExitStack())
                    leave.enter_context(self._course.quick())  # type: ignore[misc]
                pairs = zip(actions, expected, strict=True)
                for step, (action, (seen, earned)) in enumerate(_shown(pairs, count, self._course.name), 1):
                    if quick and step == count:
                        quick = False
                        leave.close()
                    observation, reward, ended = self._course.step(action)
                    if not quick and digest(observation, ended) != seen:
                        raise self._diverged(
                            f"after step {step} of {count} the observation differs", report.problems(5)
                        )
                    if _bits(reward) != _bits(earned):
                        found = f"after step {step} of {count} the reward is {reward!r}, it was {earned!r}"
                        raise self._diverged(found, report.problems(5))
        except RestoreError:
            raise
        except Exception as error:
            raise RestoreError(
                f"{self._course.name}: it failed when its episode was played again, in step {step} of {count}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _diverged(self, what: str, problems: str) -> RestoreError:
        more = f"\nNot put back, because it did not fit:\n{problems}" if problems else ""
        return RestoreError(
            f"{self._course.name}: it does not take the course it took before: {what}. Its reset keeps something of "
            "earlier episodes that Python does not see (give it before_reset=...), it draws from a generator that no "
            "one seeds, or its library is another version than when the run was saved" + more
        )


def _bits(reward: float) -> bytes:
    return np.float64(reward).tobytes()


def _drawn(before: Any, after: Any) -> list[str]:
    numpy = before["numpy"]["state"], after["numpy"]["state"]
    changed = {
        "random": before["python"] != after["python"],
        "numpy.random": numpy[0]["pos"] != numpy[1]["pos"]
        or not np.array_equal(numpy[0]["key"], numpy[1]["key"]),
        "torch": not torch.equal(before["torch"], after["torch"]),
    }
    return [name for name, drew in changed.items() if drew]


def _shown(steps: Iterator[Any], count: int, name: str) -> Iterator[Any]:
    """The steps, with a progress bar once they have taken a while; one line where there is no terminal."""
    with Bar(f"{name}: playing {count} steps again", unit="steps", log=True, hidden=not _is_main()) as bar:
        for number, step in enumerate(steps, 1):
            yield step
            bar.update(number, count)


def _is_main() -> bool:
    return multiprocessing.parent_process() is None
