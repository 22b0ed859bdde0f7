"""Environments of one's own: plain ones unasked, others by the methods they have, or by a few lines."""

from __future__ import annotations

import ctypes
import sys
import types
from collections import deque

import gymnasium as gym
import numpy as np
import pytest
from environment_support import transported

import perdure
from perdure.errors import CaptureError, NotCapturedWarning, RestoreError
from perdure.state import capture, restore


class Plain(gym.Env):
    """Nothing but attributes of every kind."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def __init__(self):
        self.where = np.zeros(2)
        self.trail = deque(maxlen=5)
        self.visits = {}
        self.other = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.where = self.np_random.normal(size=2)
        self.trail.clear()
        self.other = self.np_random.spawn(1)[0]
        return self.where.copy(), {}

    def step(self, action):
        self.where += (action - 1) * self.other.random()
        self.trail.append(float(self.where.sum()))
        cell = tuple(np.floor(self.where).astype(int).tolist())
        self.visits[cell] = self.visits.get(cell, 0) + 1
        info = {"visits": dict(self.visits), "trail": list(self.trail)}
        return self.where.copy(), float(self.where.sum()), len(self.visits) % 9 == 8, False, info


class Engine:
    """A simulator whose state lies in memory that no walk sees."""

    def __init__(self):
        self.memory = (ctypes.c_double * 2)(0.0, 1.0)

    def advance(self, force):
        self.memory[1] += force
        self.memory[0] += self.memory[1]
        return self.memory[0]


class Native(gym.Env):
    """Tells its state, all of it but the counter and the generator, which the walk sees."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def __init__(self):
        self.engine = Engine()
        self.count = 0
        self.last = np.zeros(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.engine = Engine()
        return np.zeros(1), {}

    def step(self, action):
        self.count += 1
        self.last = np.array([self.engine.advance(action - 1 + self.np_random.normal())])
        return self.last.copy(), self.count * 1.5, self.count % 50 == 0, False, {}

    def get_state(self):
        return list(self.engine.memory)

    def set_state(self, state):
        self.engine.memory[:] = state


class Remaking(Native):
    """Makes its engine anew, forgets its counter and rounds what it saw last."""

    def set_state(self, state):
        self.engine = Engine()
        self.engine.memory[:] = state
        self.count = 0
        self.last = np.zeros(1, np.float32)
        self._np_random = np.random.default_rng(0)


class Behind(Native):
    """Keeps its engine behind a number, as C libraries do."""

    ENGINES: dict[int, Engine] = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.engine = len(self.ENGINES)
        self.ENGINES[self.engine] = Engine()

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.ENGINES[self.engine] = Engine()
        return np.zeros(1), {}

    def step(self, action):
        self.count += 1
        return np.array([self.ENGINES[self.engine].advance(action - 1)]), 0.0, False, False, {}

    def get_state(self):
        return {"engine": self.engine, "memory": list(self.ENGINES[self.engine].memory)}

    def set_state(self, state):
        self.ENGINES[self.engine].memory[:] = state["memory"]


def run(env, steps, start=0):
    seen = []
    for step in range(start, start + steps):
        obs, reward, terminated, truncated, info = env.step(step * 7 % 3)
        seen.append((obs.tobytes(), reward, terminated, repr(info)))
        if terminated or truncated:
            seen.append(env.reset()[0].tobytes())
    return seen


def goes_on(make):
    Behind.ENGINES.clear()
    env = make()
    env.reset(seed=1)
    run(env, 70)
    state = transported(capture({"env": env}))
    expected = run(env, 500, 70)
    Behind.ENGINES.clear()  # as in another process, where the numbers begin again
    fresh = make()
    fresh.reset(seed=2)
    run(fresh, 3)
    assert restore(state, {"env": fresh}).exact
    assert run(fresh, 500, 70) == expected


def test_plain_ones_go_on_unasked():
    goes_on(Plain)


@pytest.mark.parametrize("cls", [Native, Remaking, Behind])
def test_ones_that_tell_their_state_go_on(cls):
    goes_on(cls)
    goes_on(lambda: gym.wrappers.NormalizeObservation(gym.wrappers.TimeLimit(cls(), 40)))


def test_what_a_pair_forgets_is_put_right():
    env = Remaking()
    env.reset(seed=1)
    run(env, 20)
    state = transported(capture({"env": env}))
    fresh = Remaking()
    fresh.reset(seed=2)
    generator = fresh.np_random
    restore(state, {"env": fresh})
    assert fresh.count == 20
    assert fresh.last.dtype == np.float64
    assert fresh.np_random is generator
    assert fresh.np_random.bit_generator.state == env.np_random.bit_generator.state


class OtherEngine:
    def __init__(self, memory):
        self.memory = memory


class Swapping(Native):
    """Its pair puts another thing where the walk has an engine."""

    def set_state(self, state):
        self.engine = OtherEngine((ctypes.c_double * 2)(*state))


def test_what_cannot_be_put_right_is_said():
    env = Swapping()
    env.reset(seed=1)
    run(env, 20)
    state = transported(capture({"env": env}))
    fresh = Swapping()
    fresh.reset(seed=2)
    with pytest.warns(NotCapturedWarning, match=r"env\.engine"):
        restore(state, {"env": fresh})


class TwoArguments(Native):
    def set_state(self, qpos, qvel):
        raise AssertionError("no state of ours")


class Seldom(Native):
    def get_state(self, which):
        raise AssertionError("no state of ours")


class Keyword(Native):
    def set_state(self, state, *, strict):
        raise AssertionError("no state of ours")


class NotYet(Native):
    def get_state(self):
        raise NotImplementedError


class Nothing(Native):
    def get_state(self):
        return None


class Unusable(Native):
    def get_state(self):
        return self.engine.memory


@pytest.mark.parametrize("cls", [TwoArguments, Seldom, Keyword, NotYet, Nothing, Unusable])
def test_other_methods_by_these_names_are_none(cls):
    env = cls()
    env.reset(seed=1)
    with pytest.raises(CaptureError, match=r"env\.engine\.memory"):
        capture({"env": env})


def test_methods_of_a_wrapper_are_none():
    class Around(gym.Wrapper):
        def get_state(self):
            return 1

        def set_state(self, state):
            raise AssertionError("no state of ours")

    env = Around(Plain())
    env.reset(seed=1)
    restore(transported(capture({"env": env})), {"env": env})


def test_what_is_covered_is_only_what_lies_below():
    env = Native()
    env.reset(seed=1)
    with pytest.raises(CaptureError, match=r"1 part\(s\).*\n.*engine\.memory"):
        capture({"engine": env.engine, "env": env})


def test_a_few_lines_register_a_handler():
    class Machine(Engine):
        pass

    class Registered(gym.Env):
        def __init__(self):
            self.machine = Machine()

    perdure.register(
        Machine,
        capture=lambda machine: list(machine.memory),
        restore=lambda machine, saved: machine.memory.__setitem__(slice(None), saved),
    )
    env, fresh = Registered(), Registered()
    env.machine.advance(2.5)
    restore(transported(capture({"env": env})), {"env": fresh})
    assert fresh.machine.advance(1.0) == env.machine.advance(1.0)


# -- simulators behind a number ------------------------------------------------------------------------------


@pytest.fixture
def bullet(monkeypatch):
    """A module by the name of pybullet: what is refused is the use of it, whatever is in it."""
    module = types.ModuleType("pybullet")
    monkeypatch.setitem(sys.modules, "pybullet", module)
    return module


def test_pybullet_is_refused_with_the_remedy(bullet, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "p", bullet, raising=False)

    class Bullet(gym.Env):
        client = 0

    env = Bullet()
    with pytest.raises(CaptureError, match=r"pybullet, behind a number.*EpisodeReplay"):
        capture({"env": gym.wrappers.TimeLimit(env, 9)})

    class Telling(Bullet):
        def get_state(self):
            return 1.0

        def set_state(self, state):
            pass

    restore(transported(capture({"env": Telling()})), {"env": Telling()})


def test_a_program_without_pybullet_is_not_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "pybullet", raising=False)
    capture({"env": Plain()})


# -- creatures that only came into being while the episode ran -----------------------------------------------

GAME = """
import gymnasium as gym
class World(gym.Env):
    def __init__(self):
        self.creatures = []
"""
CREATURES = """
class Zombie:
    def __init__(self, place):
        self.place = place
"""


@pytest.fixture
def game(monkeypatch):
    found = {}
    for name, text in {
        "game": "",
        "game.world": GAME,
        "game.src.creatures": CREATURES,
        "games": CREATURES,
    }.items():
        found[name] = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, found[name])
        exec(text, vars(found[name]))
    return found


def test_creatures_of_the_environments_package_are_made_again(game):
    env, fresh = game["game.world"].World(), game["game.world"].World()
    env.creatures = [game["game.src.creatures"].Zombie(n) for n in range(3)]
    restore(transported(capture({"env": env})), {"env": fresh})
    assert [(type(each), each.place) for each in fresh.creatures] == [
        (type(env.creatures[0]), n) for n in range(3)
    ]


def test_creatures_of_other_packages_are_not(game):
    env, fresh = game["game.world"].World(), game["game.world"].World()
    env.creatures = [game["games"].Zombie(1)]
    with pytest.raises(RestoreError, match="Zombie that was created while running"):
        restore(transported(capture({"env": env})), {"env": fresh})
    assert fresh.creatures == []


def test_creatures_of_a_package_that_the_world_uses_are_made(game):
    class Thing:
        pass

    Thing.__module__ = "game.world"
    env, fresh = Thing(), Thing()
    env.creatures, fresh.creatures = [game["game.src.creatures"].Zombie(1)], []
    restore(transported(capture({"env": env})), {"env": fresh})
    assert type(fresh.creatures[0]) is game["game.src.creatures"].Zombie


def test_creatures_of_another_package_are_not(game):
    class Thing:
        pass

    Thing.__module__ = "another_game.world"
    env, fresh = Thing(), Thing()
    env.creatures, fresh.creatures = [game["game.src.creatures"].Zombie(1)], []
    with pytest.raises(RestoreError, match="Zombie that was created while running"):
        restore(transported(capture({"env": env})), {"env": fresh})
