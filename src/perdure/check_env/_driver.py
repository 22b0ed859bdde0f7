"""Steps through an environment of any kind, with actions that depend on nothing but the seed and the step.

So two processes do the same without telling each other, and one can begin where the other was. It knows how each kind
of environment is spoken to, and nothing of checkpoints.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from perdure.errors import PerdureError

#: What was said, by the name of the field ("observation", "reward", ...).
Fields = dict[str, Any]


class Driver(ABC):
    """One environment on its way.

    :param cut: reset an episode that has not ended by itself after so many steps.
    """

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        self.env = env
        self.cut = cut
        self._seed = seed
        #: How many steps were made; which episode this is, and how many steps are in it.
        self.t = self.episode = self.steps = 0
        #: Whether it has to be reset before it goes on. A list for a vector that resets nothing by itself.
        self.over: bool | list[int] = False

    def position(self) -> dict[str, Any]:
        """Where it is, as JSON."""
        return {"t": self.t, "episode": self.episode, "steps": self.steps, "over": self.over}

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from there; the environment is taken to be there already."""
        self.t, self.episode, self.steps = (position[name] for name in ("t", "episode", "steps"))
        self.over = position["over"]

    def start(self, seed: int) -> Fields:
        """Reset it for the first time."""
        self.seed(seed)
        return self.reset(seed)

    def advance(self) -> Fields:
        """One step, after a reset if one is due."""
        said: Fields = {}
        if self.over or (self.cut and self.steps >= self.cut):
            said = {f"reset {name}": value for name, value in self.reset(None).items()}
            self.episode += 1
            self.steps, self.over = 0, False
        said |= self.step()
        self.t += 1
        self.steps += 1
        return said

    def ended(self) -> bool:
        """Whether an episode has just ended."""
        return bool(self.over)

    def draw(self) -> Fields:
        """What its generators draw next: the spaces, and the environment's own."""
        drawn: Fields = {}
        for name in ("action_space", "observation_space"):
            space: Any = getattr(self.env, name, None)
            if hasattr(space, "sample"):
                drawn[f"{name}.sample()"] = space.sample()
        own = self.generator()
        if isinstance(own, np.random.Generator | np.random.RandomState):
            drawn["np_random"] = [int(own.bytes(8).hex(), 16) for _ in range(3)]
        return drawn

    def generator(self) -> Any:
        """The generator that it draws from, if it is where Gymnasium has it."""
        inner = getattr(self.env, "unwrapped", self.env)
        return getattr(inner, "_np_random", None)

    def seed(self, seed: int) -> None:
        """Seed what no reset seeds: the spaces."""
        for name in ("action_space", "observation_space"):
            space: Any = getattr(self.env, name, None)
            if hasattr(space, "seed"):
                space.seed(seed)

    def close(self) -> None:
        """Let go of what it holds."""
        close = getattr(self.env, "close", None)
        if callable(close):
            close()

    @abstractmethod
    def reset(self, seed: int | None) -> Fields:
        """Reset it."""

    @abstractmethod
    def step(self) -> Fields:
        """Choose an action and do it; sets `over`."""

    def choose(self, space: Any, salt: int = 0, mask: Any = None) -> Any:
        """An action for this step."""
        space.seed(_mixed(self._seed, self.t, salt))
        return space.sample() if mask is None else space.sample(np.asarray(mask, dtype=np.int8))


def _mixed(seed: int, t: int, salt: int) -> int:
    return (seed * 1_000_003 + t * 4_099 + salt) % (1 << 31)


def drive(env: Any, seed: int, cut: int) -> Driver:
    """The driver for an environment.

    :raises PerdureError: if it is of no known kind.
    """
    names = {f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in type(env).__mro__}
    for kinds, driver in _DRIVERS:
        if names & set(kinds):
            return driver(env, seed, cut)
    if callable(getattr(env, "recv", None)) and callable(getattr(env, "send", None)):
        return _Vector(env, seed, cut)
    if all(callable(getattr(env, name, None)) for name in ("reset", "step")) and hasattr(env, "action_space"):
        return _Single(env, seed, cut)
    raise PerdureError(
        f"expected an environment (Gymnasium, PettingZoo, dm_control, a vector of these, or anything with reset, "
        f"step and action_space), found a {type(env).__module__}.{type(env).__qualname__}"
    )


class _Single(Driver):
    """Gymnasium's interface, and its predecessor's with four values."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._space = copy.deepcopy(env.action_space)

    def reset(self, seed: int | None) -> Fields:
        said = self.env.reset() if seed is None or not _takes_seed(self.env) else self.env.reset(seed=seed)
        return _named(("observation", "info"), said)

    def step(self) -> Fields:
        said = self.env.step(self.choose(self._space))
        if len(said) == 5:
            self.over = bool(said[2] or said[3])
            return _named(("observation", "reward", "terminated", "truncated", "info"), said)
        self.over = bool(said[2])
        return _named(("observation", "reward", "done", "info"), said)


def _takes_seed(env: Any) -> bool:
    try:
        parameters = inspect.signature(env.reset).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.name == "seed" or each.kind is each.VAR_KEYWORD for each in parameters)


def _named(names: Sequence[str], said: Any) -> Fields:
    if isinstance(said, tuple) and len(said) == len(names):
        return dict(zip(names, said, strict=True))
    return {names[0]: said}


class _Vector(_Single):
    """Gymnasium's vectors. Those that do not reset by themselves are given the mask of what has ended."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        self._by_mask = "disabled" in str(getattr(mode, "value", mode)).lower()
        self._any = False
        inner = env
        while "env" in vars(inner):
            inner = vars(inner)["env"]
        # EnvPool's spaces are those of one environment, and it takes no integers but these.
        self._pool = any(base.__module__.startswith("envpool.") for base in type(inner).__mro__)

    def step(self) -> Fields:
        if self._pool:
            actions = np.stack([self.choose(self._space, index) for index in range(self._count())])
            if np.issubdtype(actions.dtype, np.integer):
                actions = actions.astype(np.int32)
        else:
            actions = self.choose(self._space)
        said = self.env.step(actions)
        done = np.asarray(said[2]) | np.asarray(said[3])
        self._any = bool(done.any())
        self.episode += self._any
        if self._any:
            self.steps = 0
        self.over = np.flatnonzero(done).tolist() if self._by_mask else False
        return _named(("observation", "reward", "terminated", "truncated", "info"), said)

    def _count(self) -> int:
        found = getattr(self.env, "num_envs", None)
        return len(self.env) if found is None else int(found)

    def reset(self, seed: int | None) -> Fields:
        if not self._by_mask or not isinstance(self.over, list):
            return super().reset(seed)
        mask = np.zeros(self.env.num_envs, dtype=np.bool_)
        mask[self.over] = True
        return _named(("observation", "info"), self.env.reset(options={"reset_mask": mask}))

    def ended(self) -> bool:
        return self._any


class _StableBaselines(Driver):
    """Stable-Baselines3's vectors, which reset by themselves."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._space = copy.deepcopy(env.action_space)
        self._any = False

    def seed(self, seed: int) -> None:
        super().seed(seed)
        self.env.seed(seed)

    def reset(self, seed: int | None) -> Fields:
        return {"observation": self.env.reset()}

    def step(self) -> Fields:
        actions = np.stack([self.choose(self._space, index) for index in range(self.env.num_envs)])
        said = self.env.step(actions)
        self._any = bool(np.any(said[2]))
        self.episode += self._any
        if self._any:
            self.steps = 0
        return _named(("observation", "reward", "done", "info"), said)

    def ended(self) -> bool:
        return self._any

    def generator(self) -> Any:
        return None


class _Tianshou(Driver):
    """Tianshou's vectors. As its collectors do, what has ended is reset before the next step."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._spaces = [copy.deepcopy(space) for space in env.action_space]

    def seed(self, seed: int) -> None:
        self.env.seed(seed)

    def reset(self, seed: int | None) -> Fields:
        which = self.over if isinstance(self.over, list) and self.over else None
        return _named(("observation", "info"), self.env.reset(which))

    def step(self) -> Fields:
        actions = [self.choose(space, index) for index, space in enumerate(self._spaces)]
        said = self.env.step(np.stack(actions))
        done = np.asarray(said[2]) | np.asarray(said[3])
        self.over = np.flatnonzero(done).tolist()
        return _named(("observation", "reward", "terminated", "truncated", "info"), said)

    def draw(self) -> Fields:
        return {"action_space.sample()": [space.sample() for space in self.env.action_space]}


class _Turns(Driver):
    """PettingZoo's environments in which agents take turns. A step is one agent's."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._spaces: dict[str, Any] = {}

    def seed(self, seed: int) -> None:
        for index, agent in enumerate(self.env.possible_agents):
            self.env.action_space(agent).seed(seed + index)

    def reset(self, seed: int | None) -> Fields:
        self.env.reset(seed=seed)
        return {"agents": list(self.env.agents)}

    def step(self) -> Fields:
        agent = self.env.agent_selection
        said = self.env.last()
        action = None
        if not (said[2] or said[3]):
            mask = _mask(said[0], said[4])
            action = self.choose(self._space_of(agent), mask=mask)
        self.env.step(action)
        self.over = not self.env.agents
        names = ("observation", "reward", "terminated", "truncated", "info")
        return {"agent": agent, **_named(names, said)}

    def _space_of(self, agent: str) -> Any:
        if agent not in self._spaces:
            self._spaces[agent] = copy.deepcopy(self.env.action_space(agent))
        return self._spaces[agent]

    def draw(self) -> Fields:
        agents = self.env.possible_agents
        drawn: Fields = {
            f"action_space({agent}).sample()": self.env.action_space(agent).sample() for agent in agents
        }
        own = getattr(self.env.unwrapped, "np_random", None)
        if isinstance(own, np.random.Generator | np.random.RandomState):
            drawn["np_random"] = own.bytes(24).hex()
        return drawn


def _mask(observation: Any, info: Any) -> Any:
    for place in (observation, info):
        if isinstance(place, dict) and place.get("action_mask") is not None:
            return place["action_mask"]
    return None


class _Parallel(_Turns):
    """PettingZoo's environments in which all agents act at once."""

    def reset(self, seed: int | None) -> Fields:
        return _named(("observation", "info"), self.env.reset(seed=seed))

    def step(self) -> Fields:
        agents = list(self.env.agents)
        actions = {agent: self.choose(self._space_of(agent), index) for index, agent in enumerate(agents)}
        said = self.env.step(actions)
        self.over = not self.env.agents
        return _named(("observation", "reward", "terminated", "truncated", "info"), said)


class _DeepMind(Driver):
    """The interface of dm_env, which is dm_control's."""

    def __init__(self, env: Any, seed: int, cut: int) -> None:
        super().__init__(env, seed, cut)
        self._spec = env.action_spec()

    def reset(self, seed: int | None) -> Fields:
        return self._said(self.env.reset())

    def step(self) -> Fields:
        spec = self._spec
        chance = np.random.Generator(np.random.PCG64(_mixed(self._seed, self.t, 0)))
        low, high = (
            np.broadcast_to(np.clip(bound, -1e3, 1e3), spec.shape) for bound in (spec.minimum, spec.maximum)
        )
        if np.issubdtype(spec.dtype, np.integer):
            action = chance.integers(low, high, endpoint=True).astype(spec.dtype)
        else:
            action = chance.uniform(low, high).astype(spec.dtype)
        moment = self.env.step(action)
        self.over = bool(moment.last())
        return self._said(moment)

    def _said(self, moment: Any) -> Fields:
        return {
            "observation": moment.observation,
            "reward": moment.reward,
            "discount": moment.discount,
            "step type": int(moment.step_type),
        }

    def generator(self) -> Any:
        return getattr(getattr(self.env, "task", None), "_random", None)


_DRIVERS: tuple[tuple[tuple[str, ...], type[Driver]], ...] = (
    (("gymnasium.VectorEnv",), _Vector),
    (("stable_baselines3.VecEnv",), _StableBaselines),
    (("tianshou.BaseVectorEnv", "tianshou.VectorEnvWrapper"), _Tianshou),
    (("pettingzoo.AECEnv",), _Turns),
    (("pettingzoo.ParallelEnv",), _Parallel),
    (("dm_env.Environment",), _DeepMind),
)
