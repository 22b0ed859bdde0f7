"""Environments of every kind can be built from a spec and stepped through, twice in the same way."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from perdure.check_env import env_spec
from perdure.check_env._driver import drive
from perdure.check_env._outputs import first_difference, leaves

VECTORS = (
    "sync",
    "async",
    "sb3-dummy",
    "sb3-subproc",
    "tianshou-dummy",
    "tianshou-subproc",
    "tianshou-shmem",
)
#: Its workers are fresh interpreters, which cost seconds each.
SPAWNED = "sb3-subproc"
KINDS = {
    **{
        vector: ("CartPole-v1", {"vector": f"{vector}:{1 if vector == SPAWNED else 2}"}) for vector in VECTORS
    },
    "in turns": ("pettingzoo.classic.tictactoe_v3", {}),
    "parallel": ("mpe2.simple_spread_v3", {"kwargs": {"parallel": True, "max_cycles": 9}}),
    "Gymnasium": ("FrozenLake-v1", {}),
}


def outputs(env, options):
    driver = drive(env_spec(env, **options).make(1), 1, cut=15)
    try:
        found = [driver.start(1), *(driver.advance() for _ in range(60)), driver.draw()]
        return driver.episode, [leaves(each) for each in found]
    finally:
        driver.close()


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_are_equal_and_have_resets(kind):
    env, options = KINDS[kind]
    (episodes, first), (_, second) = outputs(env, options), outputs(env, options)
    assert episodes >= 3
    assert len({str(each) for each in first}) > 20
    assert [first_difference(*pair) for pair in zip(first, second, strict=True)] == [None] * len(first)


class Pool(gym.vector.VectorWrapper):
    """Like EnvPool's: its space is that of one environment, and it takes 32-bit integers alone."""

    def __init__(self):
        super().__init__(gym.make_vec("CartPole-v1", 3, "sync"))
        self.action_space = self.single_action_space

    def step(self, actions):
        assert actions.dtype == np.int32
        assert actions.shape == (3,)
        return super().step(actions)


def test_a_pool_is_given_one_action_for_each_environment(monkeypatch):
    monkeypatch.setattr(gym.vector.SyncVectorEnv, "__module__", "envpool.cartpole")
    for env in (Pool(), gym.wrappers.vector.NormalizeObservation(Pool())):
        driver = drive(env, 1, cut=15)
        driver.start(1)
        for _ in range(40):
            driver.advance()
        assert driver.episode >= 2
