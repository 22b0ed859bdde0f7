"""The rules for a library's classes are imported when one of them is met, and those of other libraries are not."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

from perdure.state._registry import _RULES

HANDLERS = "perdure.environments.handlers."
CAPTURE = """
import json, sys
import gymnasium as gym
import perdure
{setup}
perdure.state.capture(perdure.World(env=env))
print(json.dumps([name for name in sys.modules if name.startswith("perdure.environments.handlers.")]))
"""
ANY = {"get_set_state", "native_handles"}


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ('env = gym.make("CartPole-v1"); env.reset(seed=1)', {*ANY, "gymnasium", "_toy_text"}),
        ("env = [1, 2.0]", set()),
        (
            'env = gym.make("Hopper-v5")',
            {*ANY, "gymnasium", "_toy_text", "mujoco", "_camera", "_mujoco_model"},
        ),
    ],
    ids=["CartPole", "no environment", "MuJoCo"],
)
def test_only_the_rules_of_libraries_in_the_world_are_imported(setup, expected):
    done = subprocess.run(
        [sys.executable, "-c", CAPTURE.format(setup=setup)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name.removeprefix(HANDLERS) for name in found} == expected


def test_rules_import_none_of_the_libraries_they_are_for():
    modules = {module for modules in _RULES.values() for module in modules if module.startswith(HANDLERS)}
    program = (
        f"import importlib, sys; [importlib.import_module(name) for name in {sorted(modules)}]; "
        "print(*{'gymnasium', 'mujoco', 'pygame', 'ale_py', 'pettingzoo', 'minigrid', 'Box2D'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_module_of_rules_is_there():
    for modules in _RULES.values():
        for module in modules:
            if module != "perdure.integrations.torchrl":
                importlib.import_module(module)
