"""With `grace=`, a training leaves in time from an evaluation and from a long update, and ends exactly."""

import os
import signal
import time

import pytest
from harness import HERE, MODULES, UNSEEDED, _environment, _starter, differences, launch


@pytest.mark.parametrize("name", ["sb3", "tianshou"])
def test_it_leaves_in_time_from_where_there_is_no_safe_point(tmp_path, name):
    assert launch("grace_cases", name, tmp_path / "whole", LONG="").returncode == 0
    (tmp_path / "said").mkdir()
    starter = _starter(MODULES["grace_cases"], 0)
    process = starter.start(
        HERE / "grace_cases.py",
        name,
        tmp_path / "left",
        where=tmp_path / "said",
        environment=_environment(SLOW="1"),
    )
    process.says("slow")
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    # By SIGALRM if the machine is so busy that the interpreter does not come to its end in time.
    assert process.wait() in (128 + signal.SIGTERM, -signal.SIGALRM), process.errors
    assert time.monotonic() - began < 60  # without grace it would be 90 seconds
    again = launch("grace_cases", name, tmp_path / "left", LONG="")
    assert again.returncode == 0, again.stderr
    assert "going on at step" in again.stderr
    assert differences(tmp_path / "whole", tmp_path / "left", ignore=UNSEEDED) == []
