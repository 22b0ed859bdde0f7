"""PettingZoo's environments that cannot be walked, by playing their episode again. Imports PettingZoo; no files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from gymnasium.spaces import Dict
from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper

from perdure.environments.replay import _action_check
from perdure.environments.replay._episode import Course, Episode, assign, own
from perdure.environments.replay._log import Actions, Group, Nothing
from perdure.state import register_first

_OURS = ("env", "_episode", "_before_reset")


class _Replay:
    """What both kinds have in common; beside PettingZoo's own wrapper of each kind."""

    env: Any

    def __init__(
        self,
        env: Any,
        *,
        before_reset: Callable[[Any], None] | None = None,
        skip: Sequence[str] = (),
        patience: float = 60.0,
    ) -> None:
        super().__init__(env)  # type: ignore[call-arg]
        self._before_reset = before_reset
        course = Course(
            str(env),
            lambda: {"env": self.env, "own": own(self, _OURS)},
            lambda found: assign(self, found, _OURS),
            self._begin_again,
            self._again,
            self._check,
        )
        self._episode = Episode(course, skip, patience)

    @property
    def replay_seconds(self) -> float:
        """About how many seconds it would take to resume here."""
        return self._episode.replay_seconds

    def _reset(self, seed: Any, options: Any) -> Any:
        if self._before_reset is not None:
            self._before_reset(self.env)
        return self.env.reset(seed=seed, options=options)

    def _step(self, action: Any) -> Any:
        """Step the environment, and record it."""
        self._episode.act(action)
        started = time.perf_counter()
        result = self.env.step(action)
        self._episode.acted(time.perf_counter() - started, self._seen(result), 0.0, 0)
        return result

    def _begin_again(self, seed: Any, options: Any) -> Any:
        """Reset as the recorded episode was; what was seen then."""
        raise NotImplementedError

    def _again(self, action: Any) -> tuple[Any, float, int]:
        """Step as it was recorded; what was seen then."""
        return self._seen(self.env.step(action)), 0.0, 0

    def _seen(self, result: Any) -> Any:
        """What of a step's result, or of what it led to, has to be the same again."""
        raise NotImplementedError

    def _check(self, actions: Actions) -> None:
        """Whether recorded actions are ones that the environment can be given."""
        raise NotImplementedError


class AECEpisodeReplay(_Replay, BaseWrapper):
    """`EpisodeReplay` for PettingZoo's environments in which agents act in turn.

        env = AECEpisodeReplay(multiwalker_v9.env())

    :param env: the environment; other wrappers go around.
    :param before_reset: as for `EpisodeReplay`.
    :param skip: as for `EpisodeReplay`.
    :param patience: as for `EpisodeReplay`.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Reset the environment; a new episode begins to be recorded."""
        self._episode.begin(seed, options)
        self._episode.began(self._begin_again(seed, options))

    def step(self, action: Any) -> None:
        """Step the environment for the agent whose turn it is, and record it."""
        self._step(action)

    def _begin_again(self, seed: Any, options: Any) -> Any:
        self._reset(seed, options)
        return self._seen(None)

    def _again(self, action: Any) -> tuple[Any, float, int]:
        if action is not None:
            _action_check.expect(action, self.env.action_space(self.env.agent_selection))
        return super()._again(action)

    def _seen(self, result: Any) -> Any:
        env = self.env
        agent = env.agent_selection
        observation = env.observe(agent) if agent in env.agents else None
        return [agent, env.rewards, env.terminations, env.truncations, observation]

    def _check(self, actions: Actions) -> None:
        for kind in actions.kinds:
            known = [self.env.action_space(agent) for agent in self.env.possible_agents]
            if not isinstance(kind, Nothing) and not any(_action_check.fits(kind, space) for space in known):
                raise ValueError(
                    f"expected actions of {' or '.join(sorted(set(map(str, known))))}, found others"
                )


class ParallelEpisodeReplay(_Replay, BaseParallelWrapper):
    """`EpisodeReplay` for PettingZoo's environments in which all agents act at once.

        env = ParallelEpisodeReplay(multiwalker_v9.parallel_env())

    :param env: the environment; other wrappers go around.
    :param before_reset: as for `EpisodeReplay`.
    :param skip: as for `EpisodeReplay`.
    :param patience: as for `EpisodeReplay`.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment; a new episode begins to be recorded."""
        self._episode.begin(seed, options)
        result = self._reset(seed, options)
        self._episode.began(result[0])
        return result

    def step(self, actions: dict[Any, Any]) -> Any:
        """Step the environment, and record it."""
        return self._step(actions)

    def _begin_again(self, seed: Any, options: Any) -> Any:
        return self._reset(seed, options)[0]

    def _seen(self, result: Any) -> Any:
        return result[:4]

    def _check(self, actions: Actions) -> None:
        possible = self.env.possible_agents
        for kind in actions.kinds:
            keys = kind.keys if isinstance(kind, Group) and kind.of == "dict" else [None]
            known = set(keys) <= set(possible)
            if not known or not _action_check.fits(
                kind, Dict({key: self.env.action_space(key) for key in keys})
            ):
                raise ValueError(f"expected an action for each of {possible}, found others")


for _wrapper in (AECEpisodeReplay, ParallelEpisodeReplay):
    register_first(
        _wrapper,
        capture=lambda env: env._episode.capture(),
        restore=lambda env, saved: env._episode.restore(saved),
    )
