"""`EpisodeReplay` for PettingZoo's environments. Imports PettingZoo; knows no files."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Dict
from pettingzoo.utils.wrappers import BaseParallelWrapper, BaseWrapper

from perdure.environments.replay import _action_check
from perdure.environments.replay._episode import StepOutcome
from perdure.environments.replay._log import Actions, Group, Nothing
from perdure.environments.replay._wrapper import ReplayWrapper


class AECEpisodeReplay(ReplayWrapper, BaseWrapper):
    """`EpisodeReplay` for PettingZoo's environments in which agents act in turn.

        env = AECEpisodeReplay(multiwalker_v9.env())

    :param env: the environment; other wrappers go around.
    :param before_reset: as for `EpisodeReplay`.
    :param skip: as for `EpisodeReplay`.
    :param warn_after: as for `EpisodeReplay`.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Reset the environment and begin to record a new episode."""
        self._recorded_reset(seed, options)

    def step(self, action: Any) -> None:
        """Step the environment for the agent whose turn it is, and record it."""
        self._recorded_step(action)

    def _first_observation(self, result: Any) -> Any:
        env = self.env
        agent = env.agent_selection
        observation = env.observe(agent) if agent in env.agents else None
        return [agent, env.rewards, env.terminations, env.truncations, observation]

    def _outcome(self, result: Any) -> StepOutcome:
        return self._first_observation(result), 0.0, 0

    def _replay_step(self, action: Any) -> StepOutcome:
        if action is not None:
            _action_check.expect(action, self.env.action_space(self.env.agent_selection))
        return super()._replay_step(action)

    def _check_actions(self, actions: Actions) -> None:
        spaces = [self.env.action_space(agent) for agent in self.env.possible_agents]
        for kind in actions.kinds:
            if not isinstance(kind, Nothing) and not any(_action_check.fits(kind, space) for space in spaces):
                raise ValueError(
                    f"expected actions of {' or '.join(sorted(set(map(str, spaces))))}, found others"
                )


class ParallelEpisodeReplay(ReplayWrapper, BaseParallelWrapper):
    """`EpisodeReplay` for PettingZoo's environments in which all agents act at once.

        env = ParallelEpisodeReplay(multiwalker_v9.parallel_env())

    :param env: the environment; other wrappers go around.
    :param before_reset: as for `EpisodeReplay`.
    :param skip: as for `EpisodeReplay`.
    :param warn_after: as for `EpisodeReplay`.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment and begin to record a new episode."""
        return self._recorded_reset(seed, options)

    def step(self, actions: dict[Any, Any]) -> Any:
        """Step the environment and record it."""
        return self._recorded_step(actions)

    def _outcome(self, result: Any) -> StepOutcome:
        return result[:4], 0.0, 0

    def _check_actions(self, actions: Actions) -> None:
        possible = self.env.possible_agents
        for kind in actions.kinds:
            keys = kind.keys if isinstance(kind, Group) and kind.of == "dict" else [None]
            known = set(keys) <= set(possible)
            if not known or not _action_check.fits(
                kind, Dict({key: self.env.action_space(key) for key in keys})
            ):
                raise ValueError(f"expected an action for each of {possible}, found others")
