"""`perdure check-env`, called as a user calls it."""

from __future__ import annotations

import json
import sys

from click.testing import CliRunner

from perdure.cli import main

MINE = '''
import gymnasium as gym

class Mine(gym.Env):
    """State in its class."""
    observation_space = action_space = gym.spaces.Discrete(1000)
    count = 0

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        Mine.count += 1
        return Mine.count, 0.0, Mine.count % 9 == 0, False, {}
'''


def test_an_exact_one_in_wrappers_and_a_vector(prepared):
    wrapper = 'gymnasium.wrappers:FrameStackObservation={"stack_size": 3}'
    arguments = [
        "check-env",
        "CartPole-v1",
        "--wrapper",
        wrapper,
        "--vector",
        "sync:2",
        "--steps",
        "30",
        "--json",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["exact"] is True
    assert report["name"] == "CartPole-v1 + FrameStackObservation in sync:2"
    assert report["bytes"] > 0


def test_one_of_a_users_own_that_is_not(prepared, tmp_path, monkeypatch):
    # The README's call of the command is made in real processes (tests/examples).
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MINE)
    done = CliRunner().invoke(main, ["check-env", "mine.py:Mine", "--steps", "20"])
    assert done.exit_code == 1, done.output
    assert "NOT EXACT" in done.stdout
    assert "the class attribute mine.Mine.count" in done.stdout


def test_one_that_cannot_be_made(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def make():\n    raise ValueError('there is no such room')\n")
    done = CliRunner().invoke(main, ["check-env", "broken.py:make"])
    assert done.exit_code == 2
    assert "could not be checked" in done.output
    assert "there is no such room" in done.output
    for wrong in (["gone.py:Mine"], ["CartPole-v1", "--kwargs", "[1]"], ["CartPole-v1", "--vector", "all"]):
        done = CliRunner().invoke(main, ["check-env", *wrong])
        assert done.exit_code == 2
        assert done.stderr.startswith("perdure: ")
