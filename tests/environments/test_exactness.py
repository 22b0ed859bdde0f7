"""Environments go on exactly in a fresh process: a few of each family. All of them: `make environments`."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from exactness import CASES, note

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


def test_they_go_on_in_a_fresh_process(tmp_path):
    # All cases share two processes, and one test: what takes long is importing the libraries.
    assert set(QUICK) <= CASES.keys()
    for verb in ("save", "go-on"):
        subprocess.run(
            [sys.executable, "-W", "ignore", HERE / "exactness.py", verb, tmp_path, *QUICK],
            check=True,
            timeout=280,
        )
    found = {}
    for name in QUICK:
        saved, went_on = (json.loads(note(verb, name, tmp_path).read_text()) for verb in ("save", "go-on"))
        if error := saved.get("error", went_on.get("error")):
            found[name] = error
        elif went_on["digests"] != saved["digests"]:
            found[name] = "another course"
        elif name.startswith(("MuJoCo", "Atari")) and saved["added_bytes"] >= 50_000:
            found[name] = f"a checkpoint after the first adds {saved['added_bytes']:,} bytes"
        else:
            assert saved["position"]["episode"] >= 1
            assert len(set(saved["digests"])) > 20
            assert len(saved["digests"]) > 200
    assert found == {}
