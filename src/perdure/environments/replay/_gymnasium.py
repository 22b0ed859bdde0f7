"""`EpisodeReplay` for Gymnasium's environments. Imports gymnasium; knows no files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from perdure.environments.handlers import box2d, nethack
from perdure.environments.replay import _action_check, _orphans
from perdure.environments.replay._episode import StepOutcome
from perdure.environments.replay._log import Actions
from perdure.environments.replay._wrapper import ReplayWrapper
from perdure.state import base_names

#: Wrappers that neither keep nor change what they see.
_BLIND = (
    gymnasium.wrappers.TimeLimit,
    gymnasium.wrappers.OrderEnforcing,
    gymnasium.wrappers.PassiveEnvChecker,
)
#: Environments whose episodes cannot be replayed without `before_reset`: why, what to give, and its effect.
_NEED_BEFORE_RESET = {
    **dict.fromkeys(
        box2d.SHARED_WORLD,
        (
            "keeps one physics world for all its episodes, so no episode can be replayed without those before it",
            "fresh_world",
            "each episode then has its own world (later episodes differ in their last bits from those without it)",
        ),
    ),
    nethack.NLE: (
        "seeds each game from the operating system's entropy",
        "seeded_game",
        "each game is then seeded from the environment's own generator",
    ),
}
#: The process names of engines that outlive their trainer, by the package of their environments.
_ENGINES = {"vizdoom": ("vizdoom",)}


class EpisodeReplay(ReplayWrapper, gymnasium.Wrapper):
    """Makes it possible to capture an environment in mid-episode although its state lies in native code.

        env = EpisodeReplay(gymnasium.make("LunarLander-v3"))
        env = EpisodeReplay(gymnasium.make("BipedalWalker-v3"), before_reset=fresh_world)

    Put it directly around the environment that `gymnasium.make` returns; other wrappers go around it and are captured
    as usual. It keeps a copy of what Python sees of the environment right before each reset, and every action since. To
    restore the environment, it puts the copy back and replays the reset and the actions; each observation and each
    reward must be what it was. So restoring takes as long as the episode took (see `replay_seconds`), and is exact if
    the environment does the same again when it is given the same generators and actions.

    :param env: the environment, which is replayed with all wrappers inside it.
    :param before_reset: called with the environment before each reset, both when it is recorded and when it is
        replayed, to make anew what the reset itself does not, such as `fresh_world`. It may draw from the
        environment's own generator (`env.unwrapped.np_random`), which already has the reset's seed.
    :param skip: paths of the environment's Python state to leave alone, with `*` and `?` as wildcards: numbers that
        stand for something in native code and mean nothing in another process ("env*.client_id").
    :param warn_after: warn (`SlowReplayWarning`) once replaying the episode would take more than this many seconds.
    :raises ValueError: if the environment is known to need `before_reset`.
    """

    _not_state = ReplayWrapper._not_state | {"_engines"}

    def __init__(
        self,
        env: Any,
        *,
        before_reset: Callable[[Any], None] | None = None,
        skip: Sequence[str] = (),
        warn_after: float = 60.0,
    ) -> None:
        super().__init__(env, before_reset=before_reset, skip=skip, warn_after=warn_after)
        names = self._base_names()
        for name in names:
            if before_reset is None and name in _NEED_BEFORE_RESET:
                why, remedy, effect = _NEED_BEFORE_RESET[name]
                raise ValueError(
                    f"{self._replay_name()} {why}. Use EpisodeReplay(env, "
                    f"before_reset=perdure.environments.{remedy}): {effect}"
                )
        packages = (name.partition(".")[0] for name in names)
        self._engines = next((_ENGINES[package] for package in packages if package in _ENGINES), ())
        if self._engines:
            _orphans.end_strays(self._engines)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and begin to record a new episode."""
        if seed is None:
            # Else the generator would be made in the middle of the reset, from the operating system's entropy.
            _ = getattr(self.env.unwrapped, "np_random", None)
        return self._recorded_reset(seed, options)  # type: ignore[no-any-return]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment and record it."""
        return self._recorded_step(action)  # type: ignore[no-any-return]

    def _reset(self, seed: Any, options: Any) -> Any:
        if self._before_reset is not None and seed is not None:
            self.env.unwrapped.np_random = gymnasium.utils.seeding.np_random(seed)[0]
        result = super()._reset(seed, options)
        if self._engines:
            # Not earlier: the first reset is what starts one.
            _orphans.note(self._engines)
        return result

    def _outcome(self, result: Any) -> StepOutcome:
        return result[0], result[1], bool(result[2]) + 2 * bool(result[3])

    def _replay_name(self) -> str:
        spec = getattr(self.env.unwrapped, "spec", None)
        return str(spec.id) if spec is not None else type(self.env.unwrapped).__qualname__

    def _check_actions(self, actions: Actions) -> None:
        _action_check.check(actions, self.env.action_space)

    def _without_frames(self) -> contextlib.AbstractContextManager[None] | None:
        if box2d.CAR_RACING in self._base_names() and _is_blind(self.env):
            return box2d.without_frames(self.env)
        return None

    def _base_names(self) -> list[str]:
        return base_names(type(self.env.unwrapped))


def _is_blind(env: Any) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if type(env) not in _BLIND:
            return False
        env = env.env
    return True
