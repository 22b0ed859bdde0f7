"""What cannot be walked is played again: in a fresh process, in mid-episode, it goes on bit for bit."""

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


def process(what, case, directory):
    done = subprocess.run(
        [sys.executable, str(HERE / "replay_cases.py"), what, case, str(directory)],
        env={**os.environ, "PYTHONHASHSEED": "1" if what == "record" else "2"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def state(directory):
    with Store.open(directory) as store:
        return store.latest().state


def goes_on(case, directory):
    recorded = process("record", case, directory)
    resumed = process("resume", case, directory)
    assert list(resumed) == [str(at) for at in recorded["at"]]
    for at in recorded["at"]:
        following = resumed[str(at)]
        expected = recorded["seen"][at : at + len(following)]
        first = next(
            (n for n, pair in enumerate(zip(following, expected, strict=True)) if len(set(pair)) > 1), None
        )
        assert first is None, f"resumed at step {at}, another course from step {first} on"
    last = [str(each) for each in diff(state(directory / f"{case}-end"), state(directory / f"{case}-resumed-end"),
                                       ignore=(*CLOCKS, "*episode_start_time"))]  # fmt: skip
    assert last == []


@pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="needs box2d")
@pytest.mark.parametrize("case", ["lunar", "wrapped", "wraps", "bipedal", "racing"])
def test_box2d(case, tmp_path):
    goes_on(case, tmp_path)
