"""Steps through an environment of any kind, with actions that depend on nothing but the seed and the step number.

So two processes do the same without communicating, and one can begin where the other was. It knows how to call each
kind of environment, and nothing of checkpoints.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from perdure.errors import PerdureError
from perdure.state import base_names, dotted_name, module_of

#: What an environment returned, by name ("observation", "reward", ...).
Fields: TypeAlias = dict[str, Any]
#: Where a driver is, as JSON.
Position: TypeAlias = dict[str, Any]

_RESET = ("observation", "info")
_STEP = ("observation", "reward", "terminated", "truncated", "info")
_STEP_WITH_DONE = ("observation", "reward", "done", "info")


class Driver(ABC):
    """Steps through one environment, resetting it when an episode ends.

    :param cut: reset an episode that has not ended by itself after this many steps; 0 for never.
    """

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        self.env = env
        self.cut = cut
        self._seed = seed
        #: How many steps were made, the number of this episode, and how many steps are in it.
        self.t = self.episode = self.steps = 0
        #: Whether it must be reset before the next step; for a vector that does not reset by itself, which ones.
        self.over: bool | list[int] = False

    def position(self) -> Position:
        """Where it is."""
        return {"t": self.t, "episode": self.episode, "steps": self.steps, "over": self.over}

    def go_to(self, position: Position) -> None:
        """Continue from a position; the environment is assumed to be there already."""
        self.t, self.episode, self.steps = (position[name] for name in ("t", "episode", "steps"))
        self.over = position["over"]

    def start(self, seed: int) -> Fields:
        """Seed everything and reset the environment for the first time."""
        self.seed_spaces(seed)
        return self.reset(seed)

    def advance(self) -> Fields:
        """Make one step, after a reset if one is due."""
        returned: Fields = {}
        if self.over or (self.cut and self.steps >= self.cut):
            returned = {f"reset {name}": value for name, value in self.reset(None).items()}
            self.episode += 1
            self.steps, self.over = 0, False
        returned |= self.step()
        self.t += 1
        self.steps += 1
        return returned

    def ended(self) -> bool:
        """Whether the last step ended an episode."""
        return bool(self.over)

    def draw(self) -> Fields:
        """What the spaces and the environment's own generator draw next."""
        drawn = {f"{name}.sample()": space.sample() for name, space in self.spaces().items()}
        own = self.generator()
        if isinstance(own, np.random.Generator | np.random.RandomState):
            drawn["np_random"] = own.bytes(24).hex()
        return drawn

    def spaces(self) -> Mapping[str, Any]:
        """The spaces that can be sampled, by name."""
        found = {name: getattr(self.env, name, None) for name in ("action_space", "observation_space")}
        return {name: space for name, space in found.items() if hasattr(space, "sample")}

    def generator(self) -> Any:
        """The generator that the environment draws from, if it is where Gymnasium has it."""
        return getattr(getattr(self.env, "unwrapped", self.env), "_np_random", None)

    def seed_spaces(self, seed: int) -> None:
        """Seed what no reset seeds."""
        for index, space in enumerate(self.spaces().values()):
            space.seed(seed + index)

    def close(self) -> None:
        """Release what the environment holds."""
        if callable(close := getattr(self.env, "close", None)):
            close()

    @abstractmethod
    def reset(self, seed: int | None) -> Fields:
        """Reset the environment."""

    @abstractmethod
    def step(self) -> Fields:
        """Choose an action and make a step; sets `over`."""

    def choose(self, space: Any, index: int = 0, mask: Any = None) -> Any:
        """The action for this step.

        :param space: a copy of the action space, which is seeded here.
        :param index: of the agent or environment.
        :param mask: which actions are allowed; None for all.
        """
        space.seed(_mixed(self._seed, self.t, index))
        return space.sample() if mask is None else space.sample(np.asarray(mask, dtype=np.int8))


def _mixed(seed: int, t: int, index: int) -> int:
    return (seed * 1_000_003 + t * 4_099 + index) % (1 << 31)


def _named(names: Sequence[str], returned: Any) -> Fields:
    if isinstance(returned, tuple) and len(returned) == len(names):
        return dict(zip(names, returned, strict=True))
    return {names[0]: returned}


def _step_fields(returned: Any) -> Fields:
    return _named(_STEP if len(returned) == 5 else _STEP_WITH_DONE, returned)


def _done(fields: Fields) -> Any:
    """Whether an episode ended, for each environment of a vector."""
    if "done" in fields:
        return np.asarray(fields["done"])
    return np.asarray(fields["terminated"]) | np.asarray(fields["truncated"])


class _Single(Driver):
    """Gymnasium's interface, and its predecessor's, whose steps return four values."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._space = copy.deepcopy(env.action_space)

    def reset(self, seed: int | None) -> Fields:
        seeded = seed is not None and _takes_seed(self.env)
        return _named(_RESET, self.env.reset(seed=seed) if seeded else self.env.reset())

    def step(self) -> Fields:
        fields = _step_fields(self.env.step(self.choose(self._space)))
        self.over = bool(_done(fields))
        return fields


def _takes_seed(env: Any) -> bool:
    try:
        parameters = inspect.signature(env.reset).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.name == "seed" or each.kind is each.VAR_KEYWORD for each in parameters)


class _Vector(_Single):
    """Vectors. Most of them reset what has ended by themselves."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._ended = False

    def step(self) -> Fields:
        fields = _step_fields(self.env.step(self.actions()))
        done = _done(fields)
        self._ended = bool(done.any())
        if self._ended:
            self.after_end(np.flatnonzero(done).tolist())
        return fields

    def actions(self) -> Any:
        """The actions for this step."""
        return self.choose(self._space)

    def after_end(self, which: list[int]) -> None:
        """Episodes have just ended in some environments, which have been reset, or will be in the next step."""
        self.episode += 1
        self.steps = 0

    def ended(self) -> bool:
        return self._ended


class _Gymnasium(_Vector):
    """Gymnasium's vectors. Those that do not reset by themselves are given a mask of what has ended."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        self._by_mask = "disabled" in str(getattr(mode, "value", mode)).lower()

    def after_end(self, which: list[int]) -> None:
        super().after_end(which)
        if self._by_mask:
            self.over = which

    def reset(self, seed: int | None) -> Fields:
        if not isinstance(self.over, list):
            return super().reset(seed)
        mask = np.isin(np.arange(self.env.num_envs), self.over)
        return _named(_RESET, self.env.reset(options={"reset_mask": mask}))


class _EnvPool(_Gymnasium):
    """EnvPool's pools, whose spaces are those of one environment, and which take no integers but 32-bit ones."""

    def actions(self) -> Any:
        count = getattr(self.env, "num_envs", None) or len(self.env)
        actions = np.stack([self.choose(self._space, index) for index in range(count)])
        return actions.astype(np.int32) if np.issubdtype(actions.dtype, np.integer) else actions


class _StableBaselines(_Vector):
    """Stable-Baselines3's vectors."""

    def seed_spaces(self, seed: int) -> None:
        super().seed_spaces(seed)
        self.env.seed(seed)

    def reset(self, seed: int | None) -> Fields:
        return {"observation": self.env.reset()}

    def actions(self) -> Any:
        return np.stack([self.choose(self._space, index) for index in range(self.env.num_envs)])

    def generator(self) -> Any:
        return None


class _Tianshou(_Vector):
    """Tianshou's vectors. As its collectors do, what has ended is reset before the next step."""

    def spaces(self) -> Mapping[str, Any]:
        return {f"action_space[{index}]": space for index, space in enumerate(self.env.action_space)}

    def seed_spaces(self, seed: int) -> None:
        self.env.seed(seed)

    def reset(self, seed: int | None) -> Fields:
        return _named(_RESET, self.env.reset(self.over or None))

    def actions(self) -> Any:
        return np.stack([self.choose(space, index) for index, space in enumerate(self._space)])

    def after_end(self, which: list[int]) -> None:
        self.over = which

    def generator(self) -> Any:
        return None


class _Turns(Driver):
    """PettingZoo's environments in which agents take turns. A step is one agent's."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._copies: dict[str, Any] = {}

    def spaces(self) -> Mapping[str, Any]:
        agents = self.env.possible_agents
        return {f"action_space({agent})": self.env.action_space(agent) for agent in agents}

    def generator(self) -> Any:
        return getattr(self.env.unwrapped, "np_random", None)

    def reset(self, seed: int | None) -> Fields:
        self.env.reset(seed=seed)
        return {"agents": list(self.env.agents)}

    def step(self) -> Fields:
        agent = self.env.agent_selection
        fields = _named(_STEP, self.env.last())
        action = None
        if not (fields["terminated"] or fields["truncated"]):
            action = self.choose(self._copy_of_space(agent), mask=_action_mask(fields))
        self.env.step(action)
        self.over = not self.env.agents
        return {"agent": agent, **fields}

    def _copy_of_space(self, agent: str) -> Any:
        if agent not in self._copies:
            self._copies[agent] = copy.deepcopy(self.env.action_space(agent))
        return self._copies[agent]


def _action_mask(fields: Fields) -> Any:
    for place in (fields["observation"], fields["info"]):
        if isinstance(place, dict) and place.get("action_mask") is not None:
            return place["action_mask"]
    return None


class _Parallel(_Turns):
    """PettingZoo's environments in which all agents act at once."""

    def reset(self, seed: int | None) -> Fields:
        return _named(_RESET, self.env.reset(seed=seed))

    def step(self) -> Fields:
        agents = enumerate(list(self.env.agents))
        actions = {agent: self.choose(self._copy_of_space(agent), index) for index, agent in agents}
        fields = _named(_STEP, self.env.step(actions))
        self.over = not self.env.agents
        return fields


class _DeepMind(Driver):
    """The interface of dm_env, which is dm_control's."""

    def reset(self, seed: int | None) -> Fields:
        return self._fields(self.env.reset())

    def step(self) -> Fields:
        spec = self.env.action_spec()
        generator = np.random.Generator(np.random.PCG64(_mixed(self._seed, self.t, 0)))
        low, high = (
            np.broadcast_to(np.clip(bound, -1e3, 1e3), spec.shape) for bound in (spec.minimum, spec.maximum)
        )
        if np.issubdtype(spec.dtype, np.integer):
            action = generator.integers(low, high, endpoint=True).astype(spec.dtype)
        else:
            action = generator.uniform(low, high).astype(spec.dtype)
        return self._fields(self.env.step(action))

    def _fields(self, time_step: Any) -> Fields:
        self.over = bool(time_step.last())
        return {
            "observation": time_step.observation,
            "reward": time_step.reward,
            "discount": time_step.discount,
            "step type": int(time_step.step_type),
        }

    def generator(self) -> Any:
        return getattr(getattr(self.env, "task", None), "_random", None)


#: The driver for what derives from a class, by the package and the name of that class.
_DRIVERS: Mapping[str, type[Driver]] = {
    "gymnasium.VectorEnv": _Gymnasium,
    "stable_baselines3.VecEnv": _StableBaselines,
    "tianshou.BaseVectorEnv": _Tianshou,
    "tianshou.VectorEnvWrapper": _Tianshou,
    "pettingzoo.AECEnv": _Turns,
    "pettingzoo.ParallelEnv": _Parallel,
    "dm_env.Environment": _DeepMind,
}


def drive(env: Any, seed: int, cut: int) -> Driver:
    """The driver for an environment.

    :raises PerdureError: if it is of no known kind.
    """
    if _is_pool(env):
        return _EnvPool(env, seed, cut)
    names = {f"{module_of(base).partition('.')[0]}.{base.__qualname__}" for base in type(env).__mro__}
    for name, driver in _DRIVERS.items():
        if name in names:
            return driver(env, seed, cut)
    if all(callable(getattr(env, name, None)) for name in ("reset", "step")) and hasattr(env, "action_space"):
        return _Single(env, seed, cut)
    raise PerdureError(
        "expected an environment (Gymnasium, PettingZoo, dm_control, a vector of these, or anything with reset, step "
        f"and action_space), found a {dotted_name(type(env))}"
    )


def _is_pool(env: Any) -> bool:
    """Whether it is one of EnvPool's pools, in any wrappers."""
    while "env" in (own := getattr(env, "__dict__", {})):
        env = own["env"]
    return any(name.startswith("envpool.") for name in base_names(type(env)))
