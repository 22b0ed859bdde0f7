"""A training on a played-again environment that is killed several times ends as the one that was not."""

import importlib.util
import os
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest
from prepared_process import Starter

from perdure.state import CLOCKS, diff
from perdure.store import Store

HERE = Path(__file__).parent


@pytest.fixture
def train(tmp_path):
    """Runs one process of a training; how it ended, and what it said."""
    starter = Starter("torch._dynamo", "gymnasium")

    def train(name, directory, fuse=0):
        where = Path(tempfile.mkdtemp(dir=tmp_path))
        environment = {**os.environ, "FUSE": str(fuse)}
        script = HERE / "replay_training.py"
        process = starter.start(script, name, directory, where=where, environment=environment)
        return process.wait(), process.output + process.errors

    yield train
    starter.close()


def expect_the_same_end(train, name, tmp_path):
    code, said = train(name, tmp_path / "whole")
    assert code == 0, said
    for fuse in (333, 201):
        code, said = train(name, tmp_path / "killed", fuse)
        assert code == -signal.SIGKILL, said
    code, said = train(name, tmp_path / "killed")
    assert code == 0, said
    assert re.search("going on at step (300|450)", said)  # the last one may not have been durable yet
    states = []
    for directory in ("whole", "killed"):
        with Store.open(tmp_path / directory) as store:
            checkpoint = store.latest()
        assert checkpoint.info.step == 700
        states.append(checkpoint.state)
    ignore = (*CLOCKS, "*episode_start_time", "*observation_space._np_random*")
    assert [str(each) for each in diff(*states, ignore=ignore)] == []


@pytest.mark.skipif(importlib.util.find_spec("Box2D") is None, reason="box2d is not installed")
def test_lunar_lander(train, tmp_path):
    expect_the_same_end(train, "lander", tmp_path)


@pytest.mark.environments
@pytest.mark.skipif(importlib.util.find_spec("vizdoom") is None, reason="vizdoom is not installed")
def test_doom_and_no_engine_is_left_over(train, tmp_path):
    before = engines()
    expect_the_same_end(train, "doom", tmp_path)
    # The last process ends its own; those of the killed ones were ended by the ones that followed.
    deadline = time.monotonic() + 20
    while engines() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert engines() - before == set()


def engines():
    """The processes of VizDoom's engine that are alive."""
    found = set()
    for path in Path("/proc").iterdir():
        try:
            name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")[0::1]
        except (OSError, ValueError):
            continue
        if path.name.isdigit() and name == "vizdoom" and rest.split()[0] not in "ZX":
            found.add(int(path.name))
    return found
