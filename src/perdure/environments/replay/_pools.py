"""Pools of environments in native code (EnvPool, ALE's AtariVectorEnv), by playing again what was done with them.

A pool can be made and stepped, and nothing more: what is in it can neither be read nor written. It is made anew, with
its seed, and plays the same actions. That takes as long as it has been in use; a barrier sets a bound. Imports
gymnasium; knows no files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from gymnasium.vector.utils import batch_space

from perdure.environments.replay import _action_check
from perdure.environments.replay._episode import Course, Episode, assign, own
from perdure.state import register_first

_OURS = ("env", "_episode", "_make", "_unused", "_rewards")
_SPACES = ("observation_space", "action_space", "single_observation_space", "single_action_space")


class _Lap:
    """What was done with the pools, up to the one in use."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: How many pools there were before this one.
        self.number = 0
        #: Whether it has been reset.
        self.begun = False
        #: Whether the next step begins another one.
        self.over = False


class PoolReplay(VectorWrapper):
    """Makes a pool of environments in native code one that can be captured at any step.

        envs = PoolReplay(lambda seed: envpool.make("Pong-v5", env_type="gymnasium", num_envs=8, seed=seed), seed=1)
        envs = PoolReplay(lambda seed: AtariVectorEnv("pong", num_envs=8), seed=1, barrier=50_000)

    On restoring, the pool is made anew and given every action that it was given since it was made; what was observed
    must be what it was. So restoring takes as long as the pool was in use (see `replay_seconds`), and the actions are
    kept: 4 bytes for each step of each environment of Pong, say.

    With a `barrier` there is a bound to both: after that many steps all episodes are truncated, and the next step
    begins new ones in a new pool, whose seed follows from the first one. That happens at the same steps whether the
    run is killed or not and wherever checkpoints are taken; but it is another run than without a barrier.

    :param make: makes the pool, given a seed; in synchronous mode (all environments at each step). Other wrappers go
        around the `PoolReplay`. What has no seed when it is made is given it by its first reset.
    :param seed: of the first pool.
    :param barrier: after how many steps a pool is replaced by a new one; None for never.
    :param patience: there is a `SlowReplayWarning` once playing again would take more than this many seconds.
    :raises ValueError: if the pool does not give all environments at each step, or has another way of beginning
        episodes than at the next step (`AutoresetMode.NEXT_STEP`) and a barrier.
    """

    env: Any

    def __init__(
        self, make: Callable[[int], Any], seed: int, *, barrier: int | None = None, patience: float = 60.0
    ) -> None:
        if barrier is not None and barrier < 1:
            raise ValueError(f"barrier: expected a number of steps, found {barrier}")
        self._lap = _Lap(seed)
        self._make = make
        #: The seed with which the pool in use was made, as long as it has not been used.
        self._unused: int | None = seed
        super().__init__(make(seed))
        size = getattr(self.env, "batch_size", None) or getattr(self.env, "config", {}).get("batch_size")
        if size not in (None, self.num_envs):
            raise ValueError(
                f"{type(self.env).__name__}: it gives {size} of {self.num_envs} environments at a time, whichever are "
                "ready first: that is another course each time. Make it with batch_size=num_envs"
            )
        mode = self.env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if barrier is not None and mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"barrier: expected a pool in the mode {AutoresetMode.NEXT_STEP}, found {mode}")
        self.barrier = barrier
        # Those that the user has seeded outlive the pool.
        for name in _SPACES:
            setattr(self, name, getattr(self.env, name))
        self._rewards: Any = np.zeros(self.num_envs)
        advice = "barrier=... sets a bound" if barrier is None else "a smaller barrier sets a lower bound"
        self._episode = Episode(
            Course(
                type(self.env).__name__,
                lambda: {"own": own(self, _OURS)},
                lambda found: assign(self, found, _OURS),
                lambda seed, options: self._renew(seed)[0],
                self._again,
                self._check,
                advice=advice,
            ),
            (),
            patience,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes in all environments, in a new pool unless nothing was done with the one there is.

        :param seed: from here on instead of the one that the `PoolReplay` was given.
        :raises ValueError: if there are options: only all environments together are reset.
        """
        if options or not isinstance(seed, int | None):
            raise ValueError("a PoolReplay is reset as a whole, with one seed and no options")
        lap = self._lap
        if seed is not None:
            lap.seed, lap.number = seed, 0
        elif lap.begun:
            lap.number += 1
        lap.begun, lap.over = True, False
        return self._begin()

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments, and record it. After a barrier, the actions are ignored and new episodes begin."""
        lap = self._lap
        if lap.over:
            lap.over = False
            lap.number += 1
            observations, infos = self._begin()
            none = np.zeros(self.num_envs, np.bool_)
            return observations, np.zeros_like(self._rewards), none, none.copy(), infos
        self._episode.act(actions)
        started = time.perf_counter()
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        seen = [observations, rewards, terminations, truncations]
        self._episode.acted(time.perf_counter() - started, seen, 0.0, 0)
        self._rewards = rewards
        if self.barrier is not None and len(self._episode) >= self.barrier:
            lap.over = True
            truncations = truncations | ~terminations
        return observations, rewards, terminations, truncations, infos

    @property
    def replay_seconds(self) -> float:
        """About how many seconds it would take to resume here; the mean time of a step by the number of steps."""
        return self._episode.replay_seconds

    def _seed(self) -> int:
        lap = self._lap
        if lap.number == 0:
            return lap.seed
        return int(np.random.SeedSequence([lap.seed, lap.number]).generate_state(1)[0]) >> 1

    def _begin(self) -> tuple[Any, dict[str, Any]]:
        seed = self._seed()
        self._episode.begin(seed, None)
        result = self._renew(seed)
        self._episode.began(result[0])
        return result

    def _renew(self, seed: int) -> tuple[Any, dict[str, Any]]:
        if type(seed) is not int:
            raise ValueError(f"expected the seed of a pool, found {seed!r:.80}")
        if self._unused != seed:
            self.env.close()
            self.env = self._make(seed)
        self._unused = None
        # EnvPool's are seeded when they are made, and warn of a seed that comes later.
        seeded = "seed" in getattr(self.env, "config", ())
        return self.env.reset() if seeded else self.env.reset(seed=seed)  # type: ignore[no-any-return]

    def _again(self, actions: Any) -> tuple[Any, float, int]:
        result = self.env.step(actions)
        self._rewards = result[1]
        return list(result[:4]), 0.0, 0

    def _check(self, actions: Any) -> None:
        _action_check.check(actions, batch_space(self.single_action_space, self.num_envs))


register_first(
    PoolReplay,
    capture=lambda pool: pool._episode.capture(),
    restore=lambda pool, saved: pool._episode.restore(saved),
)
