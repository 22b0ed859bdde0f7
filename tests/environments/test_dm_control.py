"""dm_control: the model is state too, and stale sizes must not crash. Needs an older MuJoCo than Gymnasium takes, so it
runs in an environment of its own (`make environments`) and is skipped elsewhere."""

from __future__ import annotations

import os

import numpy as np
import pytest
from environment_support import transported

from perdure.state import capture, restore

os.environ.setdefault("MUJOCO_GL", "disable")
suite = pytest.importorskip("dm_control.suite", exc_type=Exception)


def load(domain, task, **options):
    try:
        env = suite.load(
            domain, task, task_kwargs={"random": 5, "time_limit": 0.6}, environment_kwargs=options
        )
    except AttributeError as error:
        pytest.skip(f"this MuJoCo is too new for this dm_control: {error}")
    env.reset()
    return env


def run(env, steps, seed):
    seen, actions = [], np.random.default_rng(seed)
    spec = env.action_spec()
    for _ in range(steps):
        said = env.step(actions.uniform(spec.minimum, spec.maximum, spec.shape))
        observation = [(name, value.tobytes()) for name, value in sorted((said.observation or {}).items())]
        seen.append((said.step_type, said.reward, said.discount, repr(observation)))
    return seen


@pytest.mark.parametrize(
    ("domain", "task", "options"),
    [
        ("cheetah", "run", {}),
        ("cheetah", "run", {"legacy_step": False}),
        ("humanoid", "walk", {}),
        ("quadruped", "run", {}),
        ("finger", "spin", {}),
        ("manipulator", "bring_ball", {}),
        ("manipulator", "bring_ball", {"legacy_step": False}),
        ("stacker", "stack_2", {}),
    ],
    ids=repr,
)
def test_tasks_go_on_from_many_moments(domain, task, options):
    env, other = load(domain, task, **options), load(domain, task, **options)
    for moment in range(8):
        run(env, 17, moment)
        run(other, 5 * moment, 99)
        restore(transported(capture({"env": env})), {"env": other})
        # Across the end of an episode.
        assert run(other, 70, moment) == run(env, 70, moment)


def test_the_target_of_the_manipulator_lies_in_the_model():
    env, other = load("manipulator", "bring_ball"), load("manipulator", "bring_ball")
    other.reset()
    places = [each.physics.model.body_pos.copy() for each in (env, other)]
    assert not np.array_equal(*places)  # or this would test nothing
    restore(transported(capture({"env": env})), {"env": other})
    assert np.array_equal(other.physics.model.body_pos, places[0])
    assert np.array_equal(other.physics.named.model.body_pos._field, places[0])


def test_the_names_of_rows_are_left_out():
    env = load("cheetah", "run")
    state = capture({"env": env})
    assert len([path for path, _ in state.leaves() if path.startswith("env.")]) < 60
