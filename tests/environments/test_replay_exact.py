"""What cannot be walked is played again: in a fresh process, in mid-episode, it goes on bit for bit.

The tests marked `environments` take long or need packages that only they need: `pytest -m environments` runs them.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.state import CLOCKS, diff
from perdure.store import Store

HERE = Path(__file__).parent
QUICK = ("lunar", "wrapped", "wraps", "bipedal", "racing", "pool_sync", "pool_sync_bounded")
#: What each of the others needs.
LONG = {
    **dict.fromkeys(
        ("lunar_wind", "lunar_continuous", "hardcore", "racing_long", "racing_discrete"), ("Box2D", "pygame")
    ),
    **dict.fromkeys(("multiwalker", "multiwalker_parallel"), ("Box2D", "pettingzoo", "pygame")),
    "bullet": ("pybullet",),
    **dict.fromkeys(("doom_basic", "doom_center", "doom_home"), ("vizdoom",)),
    "nethack": ("nle",),
    **dict.fromkeys(
        ("pool_cartpole", "pool_cartpole_bounded", "pool_pong", "pool_cheetah", "pool_lunar"), ("envpool",)
    ),
    **dict.fromkeys(("atari_breakout", "atari_pong_bounded"), ("ale_py",)),
}


def process(what, cases, directory):
    done = subprocess.run(
        [sys.executable, str(HERE / "replay_cases.py"), what, ",".join(cases), str(directory)],
        env={**os.environ, "PYTHONHASHSEED": "1" if what == "record" else "2"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def state(directory):
    with Store.open(directory) as store:
        return store.latest().state


def expect_the_same(case, recorded, resumed, directory):
    assert list(resumed) == [str(at) for at in recorded["at"]]
    for at in recorded["at"]:
        following = resumed[str(at)]
        expected = recorded["seen"][at : at + len(following)]
        pairs = enumerate(zip(following, expected, strict=True))
        first = next((number for number, pair in pairs if len(set(pair)) > 1), None)
        assert first is None, f"{case} resumed at step {at}, another course from step {first} on"
    ends = (state(directory / f"{case}-end"), state(directory / f"{case}-resumed-end"))
    assert [str(each) for each in diff(*ends, ignore=(*CLOCKS, "*episode_start_time"))] == []


def test_they_go_on_bit_for_bit(tmp_path):
    # All quick ones in two processes, and in one test: what takes long is importing the libraries.
    recorded, resumed = (process(what, QUICK, tmp_path) for what in ("record", "resume"))
    for case in QUICK:
        assert len(next(iter(resumed[case].values()))) >= (60 if case == "racing" else 500), case
        expect_the_same(case, recorded[case], resumed[case], tmp_path)


@pytest.mark.environments
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", LONG)
def test_every_environment_goes_on_bit_for_bit(case, tmp_path):
    absent = [name for name in LONG[case] if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed")
    recorded = process("record", [case], tmp_path)
    resumed = process("resume", [case], tmp_path)
    expect_the_same(case, recorded[case], resumed[case], tmp_path)
