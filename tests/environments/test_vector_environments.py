"""Vector environments go on in a fresh process, bit for bit: in mid-episode, and right after an episode's end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("vector_cases.py")

#: In one process, which costs more to start than any of them to run.
KINDS = [
    "gym,CartPole-v1,async,next_step,shared",
    "gym,Pendulum-v1,async,same_step,unshared",
    "gym,CartPole-v1,async,disabled,unshared",
    "gym,Pair,async,next_step,unshared",
    "gym,Pendulum-v1,async,next_step,shared,wrapped",
    "gym,Pair,async,disabled,shared,uncopied",
    "gym,CartPole-v1,sync,next_step,shared,wrapped",
    "sb3,Pendulum-v1,subproc,fork,wrapped",
    "sb3,CartPole-v1,dummy,wrapped",
    "tianshou,CartPole-v1,subproc",
    "tianshou,Pendulum-v1,shmem,wrapped",
    "tianshou,CartPole-v1,dummy,wrapped",
    # vector_matrix.py goes through every kind of vector with each of these.
    # Its workers import everything anew, as all do where something (TorchRL, say) has changed how Python starts them.
    "gym,HalfCheetah-v5,async,next_step,shared,spawn",
    "sb3,Breakout,subproc,fork",
    "tianshou,HalfCheetah-v5,subproc",
]


def run(job, directory, kinds):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), job, str(directory), *kinds],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env={
            **os.environ,
            "PYTHONPATH": ":".join(filter(None, sys.path)),
            "PYTHONHASHSEED": "7" if job == "write" else "8",
            "NUMBA_DISABLE_JIT": "1",
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def goes_on(directory, kinds):
    written, read = run("write", directory, kinds), run("read", directory, kinds)
    for kind in kinds:
        for where in ("within", "ended"):
            ours, theirs = written[kind][where], read[kind][where]
            assert len(ours) == len(theirs) >= 60
            # A digest that is always the same would compare nothing.
            assert len(set(ours)) > 0.8 * len(ours)
            assert (kind, where, [at for at, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]][
                :5
            ]) == (kind, where, [])  # fmt: skip


@pytest.mark.timeout(600)
def test_they_go_on_in_a_fresh_process(tmp_path):
    goes_on(tmp_path, KINDS)
