"""Environments go on exactly in a fresh process: a few of each family. All of them: `make environments`."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
from environment_cases import CASES

HERE = pathlib.Path(__file__).parent
QUICK = (
    "classic/CartPole-v1",
    "toy-text/FrozenLake-v1",
    "mujoco/HalfCheetah-v5 cleanrl",
    "mujoco/Ant-v5",
    "mujoco/Humanoid-v5",
    "atari/Breakout cleanrl",
    "atari/SpaceInvaders frameskip 2 to 5",
    "minigrid/MiniGrid-Dynamic-Obstacles-8x8-v0",
    "pettingzoo classic/leduc_holdem_v4",
    "mpe/simple_spread_v3",
    "butterfly/knights_archers_zombies",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Both processes' notes. All cases share the two processes: what takes long is importing the libraries."""
    where = tmp_path_factory.mktemp("exactness")
    for verb in ("save", "go-on"):
        subprocess.run(
            [sys.executable, "-W", "ignore", HERE / "exactness.py", verb, where, *QUICK],
            check=True,
            timeout=280,
            env={**os.environ, "EXACTNESS_STEPS": os.environ.get("EXACTNESS_STEPS", "500")},
        )
    return where


def test_the_cases_are_there():
    assert set(QUICK) <= CASES.keys()


@pytest.mark.parametrize("name", QUICK)
def test_goes_on_in_a_fresh_process(name, directory):
    saved, went_on = (
        json.loads((directory / f"{verb} {name.replace('/', '-')}.json").read_text())
        for verb in ("save", "go-on")
    )
    assert "error" not in saved, saved["error"]
    assert "error" not in went_on, went_on["error"]
    assert saved["at"][0] >= 1  # in a later episode than the first
    assert len(saved["digests"]) >= 500
    assert went_on["digests"] == saved["digests"]


@pytest.mark.parametrize("name", [name for name in QUICK if name.startswith(("mujoco", "atari"))])
def test_a_simulator_adds_little_to_a_checkpoint(name, directory):
    saved = json.loads((directory / f"save {name.replace('/', '-')}.json").read_text())
    assert saved["added_bytes"] < 50_000
