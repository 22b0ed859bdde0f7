"""Environments in Ray's actors (Tianshou's RayVectorEnv). Ray is large, so these run where it is installed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from test_vector_environments import goes_on
from vector_cases import in_actors

from perdure.environments import Resumable
from perdure.environments.subprocess import _trainer_side
from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, diff, restore

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def session():
    yield
    ray.shutdown()


def environments(wrap=Resumable, n=2, name="CartPole-v1"):
    return in_actors([lambda: wrap(gym.make(name))] * n)


def test_they_go_on_in_a_fresh_process(tmp_path):
    goes_on(tmp_path, ["tianshou,CartPole-v1,ray", "tianshou,Pendulum-v1,ray,wrapped"])


def test_unwrapped_environments_are_refused_with_the_line_that_helps():
    envs = environments(wrap=lambda env: env)
    envs.reset()
    with pytest.raises(CaptureError, match=r"environment\(s\) 0, 1 of 2 .*RayVectorEnv\(.*Resumable\("):
        capture({"envs": envs})
    envs.step(np.zeros(2, np.int64))


def test_an_actor_that_died_is_named():
    envs = environments()
    envs.reset()
    capture({"envs": envs})
    ray.kill(envs.workers[1].env)
    with pytest.raises(CaptureError, match=r"environment 1: its actor is gone"):
        capture({"envs": envs})


def test_an_actor_that_hangs_is_named_and_ended(monkeypatch):
    envs = environments()
    envs.reset()
    capture({"envs": envs})
    monkeypatch.setattr(_trainer_side, "PATIENCE", 0.0)
    with pytest.raises(CaptureError, match=r"environment 0: it gave no answer within 0 s and was ended"):
        capture({"envs": envs})


def test_another_environment_is_refused_before_anything_is_changed():
    envs, fresh = environments(), environments(name="Acrobot-v1")
    for each in (envs, fresh):
        each.reset()
        each.step(np.zeros(2, np.int64))
    saved, before = capture({"envs": envs}), capture({"envs": fresh})
    with pytest.raises(RestoreError, match=r"nothing was changed:\n(.*\n)*.*envs\.processes\[1\]\.env\.env"):
        restore(saved, {"envs": fresh})
    assert diff(before, capture({"envs": fresh}), ignore=()) == []
    fresh.step(np.zeros(2, np.int64))
