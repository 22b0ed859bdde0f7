"""The part that all wrappers which replay episodes have in common. Knows no library and no files."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.environments.replay._episode import Episode, StepOutcome
from perdure.environments.replay._log import Actions
from perdure.state import register_first, unassignable


class ReplayWrapper:
    """Records an environment's episode; comes before a library's own wrapper class among the bases.

    It is the `ReplayTarget` of its episode.
    """

    env: Any
    #: Attributes that are not the wrapper's state: the environment, which is captured by itself, the episode, and
    #: what the script has passed.
    _not_state: frozenset[str] = frozenset({"env", "_episode", "_before_reset"})

    def __init__(
        self,
        env: Any,
        *,
        before_reset: Callable[[Any], None] | None = None,
        skip: Sequence[str] = (),
        warn_after: float = 60.0,
    ) -> None:
        super().__init__(env)  # type: ignore[call-arg]
        self._before_reset = before_reset
        self._episode = Episode(self, skip, warn_after)

    @property
    def replay_seconds(self) -> float:
        """About how many seconds resuming here would take: the number of steps times their mean duration."""
        return self._episode.replay_seconds

    # -- recording -------------------------------------------------------------------------------------------

    def _recorded_reset(self, seed: Any, options: Any) -> Any:
        self._episode.begin(seed, options)
        result = self._reset(seed, options)
        self._episode.began(self._first_observation(result))
        return result

    def _recorded_step(self, action: Any) -> Any:
        episode = self._episode
        episode.act(action)
        started = time.perf_counter()
        result = self._step(action)
        episode.acted(time.perf_counter() - started, self._outcome(result))
        return result

    # -- what subclasses may do otherwise ----------------------------------------------------------------------

    def _reset(self, seed: Any, options: Any) -> Any:
        """Reset the environment."""
        if self._before_reset is not None:
            self._before_reset(self.env)
        return self.env.reset(seed=seed, options=options)

    def _step(self, action: Any) -> Any:
        """Step the environment."""
        return self.env.step(action)

    def _first_observation(self, result: Any) -> Any:
        """What must be equal when a reset is replayed."""
        return result[0]

    def _outcome(self, result: Any) -> StepOutcome:
        """What must be equal when a step is replayed."""
        raise NotImplementedError

    def _own_state(self) -> dict[str, Any]:
        """The wrapper's own attributes."""
        return {name: value for name, value in vars(self).items() if name not in self._not_state}

    # -- `ReplayTarget` ----------------------------------------------------------------------------------------

    def _replay_name(self) -> str:
        return str(self.env)

    def _replay_advice(self) -> str:
        return "shorter episodes take less"

    def _replay_parts(self) -> dict[str, Any]:
        return {"env": self.env, "own": self._own_state()}

    def _assign_own_state(self, found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            # The names come from a file.
            own = type(name) is str and name not in self._not_state
            if own and unassignable(type(self), name, vars(self)) is None:
                vars(self)[name] = value

    def _replay_reset(self, seed: Any, options: Any) -> Any:
        return self._first_observation(self._reset(seed, options))

    def _replay_step(self, action: Any) -> StepOutcome:
        return self._outcome(self._step(action))

    def _check_actions(self, actions: Actions) -> None:
        raise NotImplementedError

    def _without_frames(self) -> contextlib.AbstractContextManager[None] | None:
        return None


register_first(
    ReplayWrapper,
    capture=lambda wrapper: wrapper._episode.capture(),
    restore=lambda wrapper, saved: wrapper._episode.restore(saved),
)
