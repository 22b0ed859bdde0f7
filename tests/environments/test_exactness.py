"""Environments go on exactly in a fresh process: a few of each family. All of them: `make environments`."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from exactness import CASES

HERE = pathlib.Path(__file__).parent
QUICK = (
    "classic/CartPole-v1",
    "toy text/FrozenLake-v1",
    "MuJoCo/HalfCheetah-v5 as in CleanRL",
    "MuJoCo/Ant-v5",
    "MuJoCo/Humanoid-v5 as in CleanRL",
    "Atari/Breakout as in CleanRL",
    "Atari/SpaceInvaders frameskip 2 to 5",
    "MiniGrid/MiniGrid-Dynamic-Obstacles-8x8-v0",
    "PettingZoo classic/leduc_holdem_v4",
    "MPE2/simple_spread_v3 parallel",
    "butterfly/knights_archers_zombies_v11 parallel",
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
    assert saved["position"]["episode"] >= 1  # in a later episode than the first
    assert len(saved["digests"]) > 200
    assert went_on["digests"] == saved["digests"]


@pytest.mark.parametrize("name", [name for name in QUICK if name.startswith(("MuJoCo", "Atari"))])
def test_a_simulator_adds_little_to_a_checkpoint(name, directory):
    saved = json.loads((directory / f"save {name.replace('/', '-')}.json").read_text())
    assert saved["added_bytes"] < 50_000
