"""`EpisodeReplay` for pools of environments in native code (EnvPool, ALE's AtariVectorEnv).

A pool can be made and stepped, and nothing more: its environments can be neither read nor written. So it is made anew
with its seed and replays its actions, which takes as long as it has been in use, unless that is bounded. Imports
gymnasium; knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space

from perdure.environments.replay import _action_check
from perdure.environments.replay._episode import StepOutcome
from perdure.environments.replay._log import Actions
from perdure.environments.replay._wrapper import ReplayWrapper

_SPACES = ("observation_space", "action_space", "single_observation_space", "single_action_space")


class PoolGeneration:
    """Which of the pools, one after the other, is in use.

    :param seed: of the first pool.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: How many pools there were before this one.
        self.number = 0
        #: Whether it has been reset.
        self.begun = False
        #: Whether the next step begins another one.
        self.over = False

    def pool_seed(self) -> int:
        """The seed of the pool in use."""
        if self.number == 0:
            return self.seed
        return int(np.random.SeedSequence([self.seed, self.number]).generate_state(1)[0]) >> 1


class PoolReplay(ReplayWrapper, VectorWrapper):
    """Makes it possible to capture a pool of environments in native code at any step.

        envs = PoolReplay(lambda seed: envpool.make("Pong-v5", env_type="gymnasium", num_envs=8, seed=seed), seed=1)
        envs = PoolReplay(lambda seed: AtariVectorEnv("pong", num_envs=8), seed=1, max_replay_steps=50_000)

    To restore it, the pool is made anew and replays every action since it was made; each observation must be what it
    was. So restoring takes as long as the pool has been in use (see `replay_seconds`), and all actions are kept: for
    Pong 4 bytes for each step of each environment.

    `max_replay_steps` bounds both: after that many steps all episodes are truncated, and the next step begins new ones
    in a new pool, whose seed follows from the first one. This happens at the same steps whether or not the run is
    killed, and wherever checkpoints are taken; but the run differs from one without `max_replay_steps`.

    :param make: makes the pool, given a seed; in synchronous mode (all environments at each step). Other wrappers go
        around the `PoolReplay`. A pool that takes no seed when it is made gets it from its first reset.
    :param seed: of the first pool.
    :param max_replay_steps: after how many steps a pool is replaced by a new one; None for never.
    :param warn_after: warn (`SlowReplayWarning`) once replaying the pool would take more than this many seconds.
    :raises ValueError: if the pool does not return all environments at each step; or if there is a `max_replay_steps`
        and the pool does not begin new episodes at the next step (`AutoresetMode.NEXT_STEP`).
    """

    _not_state = ReplayWrapper._not_state | {"_make", "_unused", "_rewards"}

    def __init__(
        self,
        make: Callable[[int], Any],
        seed: int,
        *,
        max_replay_steps: int | None = None,
        warn_after: float = 60.0,
    ) -> None:
        if max_replay_steps is not None and max_replay_steps < 1:
            raise ValueError(f"max_replay_steps: expected a positive number, found {max_replay_steps}")
        self._generation = PoolGeneration(seed)
        self._make = make
        #: The seed with which the pool in use was made, as long as it has not been used.
        self._unused: int | None = seed
        super().__init__(make(seed), warn_after=warn_after)
        size = getattr(self.env, "batch_size", None) or getattr(self.env, "config", {}).get("batch_size")
        if size not in (None, self.num_envs):
            raise ValueError(
                f"{type(self.env).__name__}: it returns {size} of {self.num_envs} environments at a time, those that "
                "are ready first, which differ from run to run. Make it with batch_size=num_envs"
            )
        mode = self.env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if max_replay_steps is not None and mode != AutoresetMode.NEXT_STEP:
            raise ValueError(
                f"max_replay_steps: expected a pool in the mode {AutoresetMode.NEXT_STEP}, found {mode}"
            )
        self.max_replay_steps = max_replay_steps
        # The spaces that the user has seeded outlive the pool.
        for name in _SPACES:
            setattr(self, name, getattr(self.env, name))
        self._rewards: Any = np.zeros(self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in all environments, in a new pool unless the present one has not been used.

        :param seed: used from here on instead of the one that the `PoolReplay` was given.
        :raises ValueError: if there are options: all environments can only be reset together.
        """
        if options or not isinstance(seed, int | None):
            raise ValueError("a PoolReplay is reset as a whole, with one seed and no options")
        generation = self._generation
        if seed is not None:
            generation.seed, generation.number = seed, 0
        elif generation.begun:
            generation.number += 1
        generation.begun, generation.over = True, False
        return self._recorded_reset(generation.pool_seed(), None)  # type: ignore[no-any-return]

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments and record it. At the end of a pool, actions are ignored and new episodes begin."""
        generation = self._generation
        if generation.over:
            generation.over = False
            generation.number += 1
            observations, infos = self._recorded_reset(generation.pool_seed(), None)
            none = np.zeros(self.num_envs, np.bool_)
            return observations, np.zeros_like(self._rewards), none, none.copy(), infos
        observations, rewards, terminations, truncations, infos = self._recorded_step(actions)
        if self.max_replay_steps is not None and len(self._episode) >= self.max_replay_steps:
            generation.over = True
            truncations = truncations | ~terminations
        return observations, rewards, terminations, truncations, infos

    def _reset(self, seed: Any, options: Any) -> Any:
        if type(seed) is not int:
            raise ValueError(f"expected the seed of a pool, found {seed!r:.80}")
        if self._unused != seed:
            self.env.close()
            self.env = self._make(seed)
        self._unused = None
        # EnvPool's pools are seeded when they are made, and warn about a seed that comes later.
        seeded = "seed" in getattr(self.env, "config", ())
        return self.env.reset() if seeded else self.env.reset(seed=seed)

    def _step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._rewards = result[1]
        return result

    def _outcome(self, result: Any) -> StepOutcome:
        return list(result[:4]), 0.0, 0

    def _replay_name(self) -> str:
        return type(self.env).__name__

    def _replay_advice(self) -> str:
        if self.max_replay_steps is None:
            return "max_replay_steps=... sets a bound"
        return "a smaller max_replay_steps sets a lower bound"

    def _replay_parts(self) -> dict[str, Any]:
        return {"own": self._own_state()}

    def _check_actions(self, actions: Actions) -> None:
        _action_check.check(actions, batch_space(self.single_action_space, self.num_envs))
