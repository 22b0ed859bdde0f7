"""Gymnasium: environments, wrappers, spaces and vectors go on in mid-episode, bit for bit."""

from __future__ import annotations

import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode
from state_support import transported

from perdure.state import capture, restore

CLASSIC = [
    "CartPole-v0",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "Acrobot-v1",
]
TOY = [
    "Blackjack-v1",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "CliffWalkingSlippery-v1",
    "Taxi-v4",
]
BEFORE, AFTER = 230, 250


def without_clock(value):
    """What an environment said, less the time that passed; comparable bit for bit."""
    if isinstance(value, dict):
        return {key: without_clock(each) for key, each in value.items() if key not in ("t", "_t")}
    if isinstance(value, tuple | list):
        return [without_clock(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [without_clock(each) for each in value.ravel().tolist()]
    if isinstance(value, np.ndarray | np.generic):
        return (str(value.dtype), value.shape, value.tobytes())
    return (type(value).__name__, repr(value))


def run(env, steps, vector=False):
    """What an agent that acts at random sees, across the ends of episodes."""
    seen = []
    for _ in range(steps):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        seen.append(without_clock((obs, reward, terminated, truncated, info)))
        if not vector and (terminated or truncated):
            seen.append(without_clock(env.reset()))
    return seen


def goes_on(make, vector=False):
    env = make()
    env.reset(seed=1)
    env.action_space.seed(2)
    run(env, BEFORE, vector)
    state = transported(capture({"env": env}))
    fresh = make()
    fresh.reset(seed=3)
    fresh.action_space.seed(4)
    run(fresh, 7, vector)
    assert restore(state, {"env": fresh}).exact
    assert run(fresh, AFTER, vector) == run(env, AFTER, vector)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", CLASSIC + TOY)
def test_every_environment_goes_on(name):
    goes_on(lambda: gym.make(name))


def test_an_environment_that_was_never_reset():
    env = gym.make("CartPole-v1")
    state = transported(capture({"env": env}))
    fresh = gym.make("CartPole-v1")
    fresh.reset(seed=1)
    restore(state, {"env": fresh})
    assert fresh.unwrapped._np_random is None
    assert fresh.unwrapped.state is None


class Doubled(gym.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.seen = 0

    def observation(self, observation):
        self.seen += 1
        return observation * self.seen


def stack_of_statistics(env):
    return wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(env, 37), buffer_length=5)


WRAPPED = {
    "statistics": ("CartPole-v1", stack_of_statistics),
    "normalized observations": ("Pendulum-v1", wrappers.NormalizeObservation),
    "normalized rewards": ("Pendulum-v1", wrappers.NormalizeReward),
    "stacked frames": ("CartPole-v1", lambda env: wrappers.FrameStackObservation(env, 4)),
    "stacked frames from zero": (
        "CartPole-v1",
        lambda env: wrappers.FrameStackObservation(env, 3, padding_type="zero"),
    ),
    "transformed": (
        "Pendulum-v1",
        lambda env: wrappers.TransformObservation(env, lambda obs: obs * 2, env.observation_space),
    ),
    "transformed reward": (
        "Pendulum-v1",
        lambda env: wrappers.TransformReward(env, lambda reward: reward / 8),
    ),
    "autoreset": ("CartPole-v1", wrappers.Autoreset),
    "clipped": ("Pendulum-v1", wrappers.ClipAction),
    "rescaled": ("Pendulum-v1", lambda env: wrappers.RescaleAction(env, -1.0, 1.0)),
    "sticky": ("CartPole-v1", lambda env: wrappers.StickyAction(env, 0.3)),
    "sticky for long": ("CartPole-v1", lambda env: wrappers.StickyAction(env, 0.3, (1, 4))),
    "delayed": ("CartPole-v1", lambda env: wrappers.DelayObservation(env, 2)),
    "aware of time": ("Pendulum-v1", lambda env: wrappers.TimeAwareObservation(env, flatten=False)),
    "several steps": ("Pendulum-v1", lambda env: wrappers.MaxAndSkipObservation(env, 3)),
    "flattened": ("Blackjack-v1", wrappers.FlattenObservation),
    "of another dtype": ("Pendulum-v1", lambda env: wrappers.DtypeObservation(env, np.float64)),
    "discretized": ("Pendulum-v1", lambda env: wrappers.DiscretizeAction(env, 5)),
    "of the user": ("Pendulum-v1", Doubled),
    "deep": (
        "Pendulum-v1",
        lambda env: wrappers.NormalizeReward(
            wrappers.NormalizeObservation(
                wrappers.FrameStackObservation(
                    wrappers.TimeAwareObservation(
                        stack_of_statistics(wrappers.RescaleAction(env, -1.0, 1.0))
                    ),
                    2,
                )
            )
        ),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_go_on(name):
    base, wrap = WRAPPED[name]
    goes_on(lambda: wrap(gym.make(base)))


def test_the_clock_of_an_episode_is_left_out():
    env = wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))
    env.reset(seed=1)
    state = capture({"env": env})
    fresh = wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))
    fresh.reset(seed=2)
    before = fresh.episode_start_time
    report = restore(state, {"env": fresh})
    assert ("env.episode_start_time", "a moment of this process's clock") in report.skipped
    assert fresh.episode_start_time == before


def test_what_only_sounds_like_a_clock_is_state():
    class Market(gym.Env):
        def __init__(self):
            self.start_time = 0
            self.t_start = time.time()

    saved, live = Market(), Market()
    saved.start_time, saved.t_start = 17, 5.0
    restore(capture({"env": saved}), {"env": live})
    assert (live.start_time, live.t_start) == (17, 5.0)


SPACES = {
    "Box": lambda: gym.spaces.Box(-1, 1, (3,), np.float32),
    "unbounded Box": lambda: gym.spaces.Box(-np.inf, np.inf, (2, 2)),
    "Discrete": lambda: gym.spaces.Discrete(7, start=-2),
    "MultiDiscrete": lambda: gym.spaces.MultiDiscrete([3, 4, 5]),
    "MultiBinary": lambda: gym.spaces.MultiBinary((2, 3)),
    "Text": lambda: gym.spaces.Text(8),
    "Dict": lambda: gym.spaces.Dict(a=gym.spaces.Discrete(3), b=gym.spaces.Dict(c=gym.spaces.Box(0, 1))),
    "Tuple": lambda: gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.MultiBinary(2))),
    "Sequence": lambda: gym.spaces.Sequence(gym.spaces.Box(0, 1), stack=True),
    "Graph": lambda: gym.spaces.Graph(gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(4)),
    "OneOf": lambda: gym.spaces.OneOf((gym.spaces.Discrete(3), gym.spaces.Box(0, 1))),
}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("used", [True, False])
def test_spaces_go_on(kind, used):
    def draw(space):
        return repr([space.sample() for _ in range(20)])

    space, fresh = SPACES[kind](), SPACES[kind]()
    space.seed(1)
    draw(space)
    if used:
        draw(fresh)
    restore(transported(capture({"space": space})), {"space": fresh})
    assert draw(fresh) == draw(space)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_vectors_go_on(mode, name):
    def make():
        # With a limit, so that episodes end everywhere; of different length.
        limits = (11, 17, 23)
        envs = [lambda limit=limit: wrappers.TimeLimit(gym.make(name), limit) for limit in limits]
        return gym.wrappers.vector.RecordEpisodeStatistics(
            gym.vector.SyncVectorEnv(envs, autoreset_mode=mode)
        )

    if mode is AutoresetMode.DISABLED:
        goes_on(lambda: ResetByMask(make()), vector=True)
    else:
        goes_on(make, vector=True)


class ResetByMask(gym.vector.VectorWrapper):
    """Resets what has ended by itself, as the mode without automatic resets asks for."""

    def step(self, actions):
        obs, rewards, terminated, truncated, info = super().step(actions)
        done = terminated | truncated
        if done.any():
            obs, _ = self.env.reset(options={"reset_mask": done})
        return obs, rewards, terminated, truncated, info


def test_vector_wrappers_go_on():
    def make():
        envs = gym.make_vec("Pendulum-v1", num_envs=3, vectorization_mode="sync")
        return gym.wrappers.vector.NormalizeReward(gym.wrappers.vector.NormalizeObservation(envs))

    goes_on(make, vector=True)


def test_a_functional_vector_goes_on():
    def make():
        return gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="vector_entry_point")

    goes_on(make, vector=True)
