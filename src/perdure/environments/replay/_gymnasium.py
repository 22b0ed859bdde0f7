"""Gymnasium environments that cannot be walked, by playing their episode again. Imports gymnasium; knows no files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium

from perdure.environments.handlers import box2d, nethack
from perdure.environments.replay import _action_check, _orphans
from perdure.environments.replay._episode import Course, Episode, assign, own
from perdure.state import register_first

_OURS = ("env", "_episode", "_before_reset", "_engines")
#: Wrappers that neither keep nor change what they see.
_BLIND = (
    gymnasium.wrappers.TimeLimit,
    gymnasium.wrappers.OrderEnforcing,
    gymnasium.wrappers.PassiveEnvChecker,
)


#: Environments none of whose episodes can be played again by itself: why, and what helps.
_DEPENDENT = {
    **dict.fromkeys(
        box2d.SHARED_WORLD,
        (
            "keeps one physics world for all its episodes, so that none of them can be played again without those "
            "before it",
            "fresh_world",
            "each episode then has a world of its own (later episodes differ in their last bits from those without it)",
        ),
    ),
    nethack.NLE: (
        "seeds each game from the operating system's entropy",
        "seeded_game",
        "each game is then seeded from the environment's own generator",
    ),
}
#: Engines that outlive their trainer, by the module of their environments: the names of their processes.
_ENGINES = {"vizdoom": ("vizdoom",)}


class EpisodeReplay(gymnasium.Wrapper):
    """Makes an environment whose state lies in native code one that can be captured in mid-episode.

        env = EpisodeReplay(gymnasium.make("LunarLander-v3"))
        env = EpisodeReplay(gymnasium.make("BipedalWalker-v3"), before_reset=fresh_world)

    Put it directly around the environment that `gymnasium.make` gives; other wrappers go around it and are captured as
    they are. It keeps what Python sees of the environment right before each reset, and every action since. On
    restoring, that is put back, and the reset and the actions are played again; each observation and each reward must
    be what it was. So restoring takes as long as the episode took (see `replay_seconds`), and it is exact if the
    environment, given the same generators and actions, does the same again.

    :param env: the environment. What is inside of it is what is played again.
    :param before_reset: called with the environment before each reset, in the first course of the run and when it is
        played again: for what the reset itself does not make anew, such as `fresh_world`. It may draw from the
        environment's own generator (`env.unwrapped.np_random`), which has been given the reset's seed by then.
    :param skip: paths of the environment's Python side to leave alone, with `*` and `?` as wildcards: numbers that
        stand for something in native code and mean nothing in another process ("env*.client_id").
    :param patience: there is a `SlowReplayWarning` once playing the episode again would take more than this many
        seconds.
    :raises ValueError: if the environment is known not to be exact without `before_reset`.
    """

    def __init__(
        self,
        env: Any,
        *,
        before_reset: Callable[[Any], None] | None = None,
        skip: Sequence[str] = (),
        patience: float = 60.0,
    ) -> None:
        super().__init__(env)
        known = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(env.unwrapped).__mro__}
        for dependent in known & _DEPENDENT.keys():
            if before_reset is None:
                why, remedy, effect = _DEPENDENT[dependent]
                raise ValueError(
                    f"{_name(env)} {why}. Use EpisodeReplay(env, before_reset=perdure.environments.{remedy}): {effect}"
                )
        self._before_reset = before_reset
        self._engines = next(
            (_ENGINES[name] for cls in known if (name := cls.partition(".")[0]) in _ENGINES), ()
        )
        if self._engines:
            _orphans.end_strays(self._engines)
        quick = partial(box2d.without_frames, env) if box2d.CAR_RACING in known and _is_blind(env) else None
        self._episode = Episode(
            Course(
                _name(env),
                lambda: {"env": self.env, "own": own(self, _OURS)},
                lambda found: assign(self, found, _OURS),
                lambda seed, options: self._reset(seed, options)[0],
                self._step,
                self._check,
                quick,
            ),
            skip,
            patience,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; a new episode begins to be recorded."""
        if seed is None:
            # It would be made in mid-reset, from the operating system's entropy.
            _ = getattr(self.env.unwrapped, "np_random", None)
        self._episode.begin(seed, options)
        observation, info = self._reset(seed, options)
        self._episode.began(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment, and record it."""
        episode = self._episode
        episode.act(action)
        started = time.perf_counter()
        result = self.env.step(action)
        episode.acted(
            time.perf_counter() - started, result[0], result[1], bool(result[2]) + 2 * bool(result[3])
        )
        return result  # type: ignore[no-any-return]

    @property
    def replay_seconds(self) -> float:
        """About how many seconds it would take to resume here; the mean time of a step by the number of steps."""
        return self._episode.replay_seconds

    def _reset(self, seed: Any, options: Any) -> tuple[Any, dict[str, Any]]:
        if self._before_reset is not None:
            if seed is not None:
                self.env.unwrapped.np_random = gymnasium.utils.seeding.np_random(seed)[0]
            self._before_reset(self.env)
        result = self.env.reset(seed=seed, options=options)
        if self._engines:
            # Not before: the first reset is what starts one.
            _orphans.note(self._engines)
        return result  # type: ignore[no-any-return]

    def _step(self, action: Any) -> tuple[Any, float, int]:
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, bool(terminated) + 2 * bool(truncated)

    def _check(self, actions: Any) -> None:
        _action_check.check(actions, self.env.action_space)


def _name(env: Any) -> str:
    spec = getattr(env.unwrapped, "spec", None)
    return str(spec.id) if spec is not None else type(env.unwrapped).__qualname__


def _is_blind(env: Any) -> bool:
    while isinstance(env, gymnasium.Wrapper):
        if type(env) not in _BLIND:
            return False
        env = env.env
    return True


register_first(
    EpisodeReplay,
    capture=lambda env: env._episode.capture(),
    restore=lambda env, saved: env._episode.restore(saved),
)
