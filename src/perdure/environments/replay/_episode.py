"""Records an episode while it runs and replays it in another process. Knows no library and no files.

What native code holds cannot be read, but it can be reproduced: starting from the same Python state, the same reset
and the same actions lead to the same native state. Whether they do is checked along the way, by what was observed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch

from perdure.environments.replay import _python_state
from perdure.environments.replay._log import Actions, Outcomes, Unrecordable, digest
from perdure.errors import CaptureError, NotCapturedWarning, RestoreError, SlowReplayWarning, user_level
from perdure.progress import Bar
from perdure.state import rng
from perdure.tree import Object, State, write_path

#: The cost of a replay is estimated every so many steps.
_ESTIMATED_EVERY = 256
#: Draws from the process's generators are looked for in the first steps of an episode, and in the first episodes.
_WATCHED_STEPS, _WATCHED_EPISODES = 16, 2


#: What must be equal when a step is replayed: the observation, the reward, and as a number whether the episode ended.
StepOutcome: TypeAlias = tuple[Any, float, int]


class ReplayTarget(Protocol):
    """An environment's wrapper, as the episode that it records and replays needs it."""

    def _replay_name(self) -> str:
        """What messages call the environment."""
        ...

    def _replay_advice(self) -> str:
        """How a replay could take less time."""
        ...

    def _replay_parts(self) -> dict[str, Any]:
        """The live objects whose Python state belongs to the episode, by name; "own" are the wrapper's attributes."""
        ...

    def _assign_own_state(self, found: Mapping[str, Any]) -> None:
        """Take the part "own" after it was restored."""
        ...

    def _replay_reset(self, seed: Any, options: Any) -> Any:
        """Reset without recording; returns the first observation."""
        ...

    def _replay_step(self, action: Any) -> StepOutcome:
        """Step without recording."""
        ...

    def _check_actions(self, actions: Actions) -> None:
        """Raise ValueError if recorded actions are not of the action space."""
        ...

    def _without_frames(self) -> contextlib.AbstractContextManager[None] | None:
        """What skips the drawing of frames that nobody sees, or None."""
        ...


@dataclass
class _Recording:
    """Everything since the last reset.

    :param before: the Python state right before the reset; None if there was no reset yet.
    :param first: the digest of the first observation.
    """

    before: State | None = None
    first: int = 0
    actions: Actions = field(default_factory=Actions)
    outcomes: Outcomes = field(default_factory=Outcomes)


class Episode:
    """The episode since the last reset.

    :param target: the wrapper that records it.
    :param skip: paths of the environment's Python state to leave alone.
    :param warn_after: warn once replaying would take more than this many seconds.
    """

    def __init__(self, target: ReplayTarget, skip: Sequence[str], warn_after: float) -> None:
        self._target = target
        self._skip = tuple(skip)
        self._warn_after = warn_after
        self._recording = _Recording()
        #: Why this episode cannot be replayed, or None.
        self._problem: str | None = None
        self._seconds = 0.0
        self._timed = 0
        self._episodes = 0
        self._watched = 0
        self._generators: dict[str, Any] | None = None

    def __len__(self) -> int:
        return self._recording.outcomes.count

    # -- recording -------------------------------------------------------------------------------------------

    def begin(self, seed: Any, options: Any) -> None:
        """Record that a reset follows."""
        parts = {**self._target._replay_parts(), "call": {"seed": seed, "options": options}}
        self._recording, self._problem = _Recording(), None
        try:
            self._recording.before, left = _python_state.take(parts, self._skip, generators=True)
            wrong = [path for path in map(write_path, left) if path.startswith("call")]
            if wrong:
                self._problem = f"the options of its last reset cannot be recorded ({wrong[0]})"
        except CaptureError as error:
            self._problem = str(error)
        self._episodes += 1
        self._watched = 0 if self._episodes <= _WATCHED_EPISODES else _WATCHED_STEPS

    def began(self, observation: Any) -> None:
        """Record that the reset is done."""
        self._recording.first = digest(observation)

    def act(self, action: Any) -> None:
        """Record that a step with this action follows."""
        if self._problem is None:
            try:
                self._recording.actions.append(action)
            except Unrecordable as error:
                self._problem = f"an action of this episode cannot be recorded: {error}"
        if self._watched < _WATCHED_STEPS:
            self._watched += 1
            self._generators = rng.get_state()

    def acted(self, seconds: float, outcome: StepOutcome) -> None:
        """Record that the step is done."""
        observation, reward, ended = outcome
        self._recording.outcomes.append(digest(observation, ended), reward)
        self._seconds += seconds
        self._timed += 1
        if self._timed % _ESTIMATED_EVERY == 0 and self.replay_seconds > self._warn_after:
            self._warn_of_cost()
        if self._generators is not None:
            self._warn_of_draws()

    @property
    def replay_seconds(self) -> float:
        """About how long a replay of the episode takes, estimated from the mean duration of a step."""
        return len(self._recording.actions) * self._seconds / self._timed if self._timed else 0.0

    def _warn_of_cost(self) -> None:
        warnings.warn(
            f"{self._target._replay_name()}: resuming here would take about {self.replay_seconds:.0f} s, because "
            f"the {len(self._recording.actions)} steps since the last reset would be replayed "
            f"({self._target._replay_advice()}; warn_after=... says when to warn)",
            SlowReplayWarning,
            stacklevel=user_level(),
        )
        self._warn_after = float("inf")

    def _warn_of_draws(self) -> None:
        before, self._generators = self._generators, None
        drawn = _drawn(before, rng.get_state())
        if drawn:
            self._watched, self._episodes = _WATCHED_STEPS, _WATCHED_EPISODES
            warnings.warn(
                f"{self._target._replay_name()}: its steps draw from the process's generators ({', '.join(drawn)}). "
                "They can only be replayed if nothing else draws from these between its steps; let it draw from its "
                "own generator (self.np_random)",
                NotCapturedWarning,
                stacklevel=user_level(),
            )

    # -- state -----------------------------------------------------------------------------------------------

    def capture(self) -> dict[str, Any]:
        """Everything that is needed to be here again.

        :raises ValueError: if the episode cannot be replayed.
        """
        recording = self._recording
        if self._problem is not None:
            raise ValueError(self._problem)
        if len(recording.actions) != recording.outcomes.count:
            raise ValueError("its last step raised an error. Reset it first")
        self._target._check_actions(recording.actions)
        now, _ = _python_state.take(self._target._replay_parts(), self._skip)
        return {
            "before": recording.before,
            "now": now,
            "first": recording.first,
            "actions": recording.actions.written(),
            "outcomes": recording.outcomes.written(),
        }

    def restore(self, saved: Any) -> None:
        """Bring the environment to where a captured episode was.

        :raises RestoreError: if the capture does not fit, or the environment behaves differently this time.
        """
        recording, now = self._read(saved)
        self._check_kind(now)
        self._problem = "restoring it has failed"
        if recording.before is not None:
            self._replay(recording, recording.before)
        # What was changed from outside since the reset: the action space's generator, a level of difficulty.
        parts = self._target._replay_parts()
        _python_state.put(now, parts, self._skip)
        self._target._assign_own_state(parts["own"])
        self._recording, self._problem = recording, None

    def _read(self, saved: Any) -> tuple[_Recording, State]:
        """The recording that `capture` returned, and the Python state at the capture."""
        try:
            before, now, first = saved["before"], saved["now"], saved["first"]
            if not isinstance(now, State) or not isinstance(before, State | None) or type(first) is not int:
                raise TypeError("expected the states at the reset and now")
            actions = Actions.read(saved["actions"])
            outcomes = Outcomes.read(saved["outcomes"], len(actions))
            self._target._check_actions(actions)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise RestoreError(
                f"{self._target._replay_name()}: the checkpoint has no episode that can be replayed: {error}"
            ) from error
        before = None if before is None else _python_state.kept(before)
        return _Recording(before, first, actions, outcomes), _python_state.kept(now)

    def _check_kind(self, saved: State) -> None:
        """Check, wrapper by wrapper, that it is the same environment; nothing is changed."""
        live, _ = _python_state.take(self._target._replay_parts(), self._skip)
        ours, theirs = live.root.fields.get("env"), saved.root.fields.get("env")
        while isinstance(ours, Object) or isinstance(theirs, Object):
            found = [node.type if isinstance(node, Object) else "nothing" for node in (theirs, ours)]
            if found[0] != found[1]:
                raise RestoreError(
                    f"{self._target._replay_name()}: the checkpoint has a {found[0]}, the script a {found[1]}"
                )
            ours, theirs = ours.fields.get("env"), theirs.fields.get("env")  # type: ignore[union-attr]

    def _replay(self, recording: _Recording, before: State) -> None:
        target, count, step = self._target, len(recording.actions), 0
        call: dict[str, Any] = {"seed": None, "options": None}
        report = _python_state.put(before, {**target._replay_parts(), "call": call}, self._skip)
        outcomes = recording.outcomes.digests.rows.tolist(), recording.outcomes.rewards.rows.tolist()
        steps = zip(recording.actions, *outcomes, strict=True)
        try:
            if digest(target._replay_reset(call["seed"], call["options"])) != recording.first:
                raise _Different("after the reset the observation differs")
            undrawn = target._without_frames() if count > 1 else None
            with contextlib.ExitStack() as drawing:
                if undrawn is not None:
                    drawing.enter_context(undrawn)
                for step, (action, seen, earned) in enumerate(_shown(steps, count, target._replay_name()), 1):
                    if step == count:
                        drawing.close()
                    observation, reward, ended = target._replay_step(action)
                    if (undrawn is None or step == count) and digest(observation, ended) != seen:
                        raise _Different(f"after step {step} of {count} the observation differs")
                    if np.float64(reward).tobytes() != np.float64(earned).tobytes():
                        raise _Different(
                            f"after step {step} of {count} the reward is {reward!r}, it was {earned!r}"
                        )
        except _Different as different:
            raise self._diverged(different, report.problems(5)) from None
        except RestoreError:
            raise
        except Exception as error:
            raise RestoreError(
                f"{target._replay_name()}: replaying its episode failed in step {step} of {count}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _diverged(self, different: _Different, problems: str) -> RestoreError:
        more = f"\nNot put back, because it did not fit:\n{problems}" if problems else ""
        return RestoreError(
            f"{self._target._replay_name()}: it behaves differently when it is replayed: {different}. Its reset keeps "
            "something of earlier episodes that Python does not see (give it before_reset=...), it draws from a "
            f"generator that is never seeded, or its library is another version than when the run was saved{more}"
        )


class _Different(Exception):
    """A replay leads elsewhere than the episode did; the message says where they part."""


def _drawn(before: Any, after: Any) -> list[str]:
    changed = {
        "random": before["python"] != after["python"],
        "numpy.random": _numpy_bits(before["numpy"]) != _numpy_bits(after["numpy"]),
        "torch": not torch.equal(before["torch"], after["torch"]),
    }
    return [name for name, drew in changed.items() if drew]


def _numpy_bits(state: Any) -> tuple[Any, ...]:
    # NumPy draws normal numbers in pairs and sets the second aside. Drawing that one changes only `has_gauss`.
    inner = state["state"]
    return inner["pos"], inner["key"].tobytes(), state["has_gauss"], state["gauss"]


def _shown(steps: Iterator[Any], count: int, name: str) -> Iterator[Any]:
    """The steps, with a progress bar once they have taken a while, or with one line if there is no terminal."""
    with Bar(f"{name}: replaying {count} steps", unit="steps", log=True, hidden=not _is_main()) as bar:
        for number, step in enumerate(steps, 1):
            yield step
            bar.update(number, count)


def _is_main() -> bool:
    return multiprocessing.parent_process() is None
