"""`perdure check-env`, called as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli", "check-env", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        timeout=240,
    )


def test_an_exact_one_in_wrappers_and_a_vector(tmp_path):
    wrapper = 'gymnasium.wrappers:FrameStackObservation={"stack_size": 3}'
    done = command("CartPole-v1", "--wrapper", wrapper, "--vector", "sync:2", "--steps", "30", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["exact"] is True
    assert report["name"] == "CartPole-v1 + FrameStackObservation in sync:2"
    assert report["bytes"] > 0


def test_one_of_a_users_own_that_is_not(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    done = command("mine.py:Mine", "--steps", "20", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT EXACT" in done.stdout
    assert "the class attribute mine.Mine.count" in done.stdout


def test_one_that_cannot_be_made(tmp_path):
    done = command("NoSuchEnvironment-v1", cwd=tmp_path)
    assert done.returncode == 2
    assert "doesn't exist" in done.stdout
    for wrong in (["mine.py:Mine"], ["CartPole-v1", "--kwargs", "[1]"], ["CartPole-v1", "--vector", "all"]):
        done = command(*wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("perdure: ")
