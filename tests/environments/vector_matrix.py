"""Every kind of vector environment with every option: `python -m pytest tests/environments/vector_matrix.py`.

Too much for every run of the tests, which take a part of it (test_vector_environments.py).
"""

import sys
from pathlib import Path

import pytest
from test_vector_environments import goes_on

sys.path.insert(0, str(Path(__file__).parent.parent / "survival"))

from harness import UNSEEDED, differences, killed, uninterrupted

#: Everything with everything, and workers that are started afresh and import what they need by themselves.
NAMES = ("CartPole-v1", "Pendulum-v1", "Pair")
MODES = ("next_step", "same_step", "disabled")
FULL = [
    [
        f"gym,{name},async,{mode},{memory},{more}"
        for name in NAMES
        for mode in MODES
        for memory in ("shared", "unshared")
        for more in ("", "uncopied")
    ],
    [f"gym,{name},sync,{mode}" for name in NAMES for mode in MODES],
    [f"gym,{name},{kind},next_step,shared,wrapped" for name in NAMES[:2] for kind in ("sync", "async")],
    [
        "gym,CartPole-v1,async,next_step,shared,spawn",
        "gym,Pendulum-v1,async,same_step,unshared,spawn",
        "gym,HalfCheetah-v5,async,next_step,shared,spawn",
        "gym,Breakout,async,next_step,unshared,spawn",
    ],
    [f"sb3,{name},subproc,{start}" for name in NAMES for start in ("fork", "forkserver", "spawn")],
    [f"sb3,{name},{kind},wrapped" for name in NAMES[:2] for kind in ("dummy", "subproc,forkserver")],
    [
        f"tianshou,{name},{kind}{more}"
        for name in NAMES
        for kind in ("dummy", "subproc", "subproc,shared", "shmem")
        for more in ("", ",wrapped")
        if (name, more) != ("Pair", ",wrapped")
    ],
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kinds", FULL, ids=lambda kinds: f"{kinds[0]} and {len(kinds) - 1} more")
def test_every_kind_goes_on_in_a_fresh_process(kinds, tmp_path, monkeypatch):
    monkeypatch.setenv("VECTOR_STEPS", "300")
    goes_on(tmp_path, kinds)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("script", "name"),
    [("sb3_cases", "subproc"), ("tianshou_cases", "subproc"), ("tianshou_cases", "experiment_subproc"),
     ("loop_cases", "asynchronous")],
)  # fmt: skip
def test_trainings_that_are_killed_again_and_again_end_as_uninterrupted(script, name, tmp_path):
    steps = uninterrupted(script, name, tmp_path / "whole")
    killed(script, name, tmp_path / "killed", steps, kills=4)
    assert differences(tmp_path / "whole", tmp_path / "killed", ignore=UNSEEDED) == []
