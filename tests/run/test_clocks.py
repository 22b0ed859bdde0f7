"""Moments from which a script counts time: the time in which nobody trained does not count."""

from __future__ import annotations

import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordEpisodeStatistics

import perdure
from perdure.run import _clocks


class Clock:
    """Shows what it is set to."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clocks(monkeypatch):
    """The clocks of this process, in the hands of the test."""
    made = {name: Clock(clock()) for name, clock in _clocks._CLOCKS.items()}
    monkeypatch.setattr(_clocks, "_CLOCKS", made)
    monkeypatch.setattr(_clocks, "_BEGAN", {name: clock.now for name, clock in made.items()})
    attributes = {
        name: (attribute, made[clock.__name__]) for name, (attribute, clock) in _clocks._ATTRIBUTES.items()
    }
    monkeypatch.setattr(_clocks, "_ATTRIBUTES", attributes)

    def advance(seconds):
        for name in _clocks._BEGAN:
            clock = made[name]
            clock.now += int(seconds * 1e9) if name.endswith("_ns") else seconds

    made["advance"] = advance
    return made


def test_time_is_counted_without_the_time_in_which_nobody_trained(tmp_path, clocks):
    def build():
        env = RecordEpisodeStatistics(gym.make("CartPole-v1"))
        env.reset(seed=1)
        env.episode_start_time = clocks["perf_counter"]()
        made = perdure.World(env=env, start_time=clocks["time"](), t0=clocks["time_ns"](), start_epsilon=1.0)
        return made

    world = build()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        clocks["advance"](40.0)
        run.checkpoint(world, 1)
    clocks["advance"](100_000.0)
    world = build()
    clocks["advance"](3.0)
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
    assert clocks["time"]() - world.start_time == pytest.approx(40)
    assert clocks["time_ns"]() - world.t0 == pytest.approx(40e9)
    assert clocks["perf_counter"]() - world.env.episode_start_time == pytest.approx(40)
    assert world.start_epsilon == 1.0, "a number that is no moment is restored as it is"


def test_the_moments_of_several_environments(tmp_path, clocks):
    class Envs:
        def __init__(self):
            self.envs = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")

    def build():
        made = gym.wrappers.vector.RecordEpisodeStatistics(
            gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
        )
        made.reset(seed=1)
        now = clocks["perf_counter"]()
        made.episode_start_times = np.array([now, now - 7])
        return perdure.World(envs=made)

    world = build()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        clocks["advance"](5.0)
        run.checkpoint(world, 1)
    clocks["advance"](1000.0)
    world = build()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
    assert clocks["perf_counter"]() - world.envs.episode_start_times == pytest.approx([5, 12])


def test_what_a_forged_checkpoint_says_of_the_clock_does_no_harm(tmp_path):
    world = perdure.World(start_time=time.time(), name="x")
    found = _clocks.Clocks()
    for forged in (
        [],
        "x",
        {"start_time time": -1},
        {"start_time time": "x"},
        {"name time": 3},
        {"_ x": 1},
        {"a": None},
    ):
        before = dict(world.parts())
        found.go_on(world, forged)
        assert world.parts() == before
