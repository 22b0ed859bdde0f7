"""The same command twice: at the same time, after the run is finished, or where it cannot find the run again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import uuid
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import perdure
from perdure.errors import LockedError
from perdure.run import _process_record, _same_command
from perdure.run._console import shown

NOW = datetime.now()


def opened(directory: Path) -> list[str]:
    """What is warned of when a run is begun."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with perdure.Run(directory) as run:
            assert list(run.steps(perdure.World(x=1), 1)) == [0]
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("name", "stable"),
    [
        (f"CartPole-v1__ppo__1__{int(time.time())}", "CartPole-v1__ppo__1"),
        (f"{int(time.time())}_walker", "walker"),
        (f"run-{time.time_ns()}-s3", "run-s3"),
        (f"{int(time.time() * 1000)}", "name-of-the-experiment"),
        (NOW.strftime("ppo_%Y%m%d_%H%M%S"), "ppo"),
        (NOW.strftime("%Y%m%d%H%M%S"), "name-of-the-experiment"),
        (NOW.strftime("%Y-%m-%dT%H:%M:%S-sac"), "sac"),
        (NOW.strftime("%Y.%m.%d/%H-%M-%S"), "name-of-the-experiment"),
        (NOW.strftime("%d-%m-%Y_ant"), "ant"),
        (NOW.strftime("%m-%d-%Y %H.%M td3"), "td3"),
        (NOW.strftime("%b%d_%H-%M-%S_myhost"), "myhost"),
        (NOW.strftime("dqn_%d%b"), "dqn"),
        ((NOW - timedelta(days=1)).strftime("utc_%Y-%m-%d_%H-%M"), "utc"),
        (f"a2c-{uuid.uuid4()}", "a2c"),
        (f"{uuid.uuid4().hex}", "name-of-the-experiment"),
        (f"x_{uuid.uuid1()}", "x"),
    ],
    ids=[f"form {number}" for number in range(16)],
)  # fmt: skip
def test_a_directory_that_is_never_found_again_is_told(tmp_path: Path, name: str, stable: str) -> None:
    told = _same_command.never_found_again(str(tmp_path / name / "perdure"))
    assert told is not None
    assert "the same command will use another directory next time" in told
    remedy = re.search(r'perdure\.Run\("(.*)"\)', told)
    assert remedy is not None
    assert remedy[1].endswith(os.path.join(stable, *Path(name).parts[1:], "perdure"))
    assert _same_command.never_found_again(os.path.abspath(remedy[1])) is None


def test_it_is_told_at_the_users_line_until_there_is_something_to_go_on_with(tmp_path: Path) -> None:
    name = f"walker-{int(time.time())}"
    (told,) = opened(tmp_path / name)
    assert told.startswith(f"the name of {shown(str(tmp_path / name))} holds the time")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with perdure.Run(tmp_path / name) as run:
            assert run.resume(perdure.World(x=1)) is not None


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1__ppo__1",
        "seed-1234567890",
        "1500000000",
        "20150101-baseline",
        "v2_2024-05-06",
        "Humanoid-v4_3000000_0.0003",
        "lr0.00030_b256",
        "mar10runner",
        "12345678901234567890123456789012",
        "d41d8cd98f00b204e9800998ecf8427e",
        "1e6-steps-2026",
        "step_010203",
    ],
)  # fmt: skip
def test_other_numbers_are_no_time(tmp_path: Path, name: str) -> None:
    assert _same_command.never_found_again(str(tmp_path / name)) is None


def test_a_time_that_stands_in_the_command_or_the_script_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"exp-{int(time.time())}"
    monkeypatch.setattr(sys, "argv", ["train.py", f"--out={tmp_path / name}"])
    assert opened(tmp_path / name) == []
    script = tmp_path / "train.py"
    script.write_text(
        f"import perdure\nwith perdure.Run({str(tmp_path / name)!r} + 'b') as run:\n"
        "    run.resume(perdure.World(x=1))\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(script.read_text(), str(script), "exec"), {})


def test_earlier_runs_of_the_name_are_named(tmp_path: Path) -> None:
    first, second = (tmp_path / f"walker__{int(time.time()) - age}" for age in (100, 0))
    opened(first)
    (told,) = opened(second)
    assert f"1 earlier run(s) of that name are there, the last one in {shown(str(first))}" in told


def test_a_second_job_is_told_how_to_be_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (held, tell), (released, release) = os.pipe(), os.pipe()
    holder = os.fork()
    if not holder:
        perdure.Run(tmp_path / "run")
        os.write(tell, b"x")
        os.read(released, 1)
        os._exit(0)
    os.read(held, 1)
    with pytest.raises(LockedError, match=rf"written by process {holder} .*SLURM_ARRAY_TASK_ID"):
        perdure.Run(tmp_path / "run", lock_timeout=0.01)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    with pytest.raises(LockedError, match=f"written by process {holder} .*each task needs a dir") as caught:
        perdure.Run(tmp_path / "run", lock_timeout=0.01)
    remedy = re.search(r'perdure\.Run\((f".*")\)', str(caught.value))
    assert remedy is not None
    perdure.Run(eval(remedy[1])).close()
    assert (tmp_path / "run-7").is_dir()
    os.write(release, b"x")
    os.waitpid(holder, 0)
    perdure.Run(tmp_path / "run").close()


def test_who_opens_a_run_twice_in_one_process_is_told(tmp_path: Path) -> None:
    """Unless the same thread does it, which takes the run over (tests/run/test_interrupted.py)."""
    opened, close = threading.Event(), threading.Event()

    def hold() -> None:
        with perdure.Run(tmp_path / "run"):
            opened.set()
            close.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait(60)
    try:
        with pytest.raises(LockedError, match=r"this process itself .*run\.close\(\)"):
            perdure.Run(tmp_path / "run", lock_timeout=0.01)
    finally:
        close.set()
        thread.join()
    perdure.Run(tmp_path / "run").close()


def test_the_next_task_of_an_array_is_told_that_it_goes_on_with_anothers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for task, expected in (("1", False), ("1", False), ("2", True)):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        _process_record._this_process.cache_clear()
        with perdure.Run(tmp_path / "run") as run:
            world = perdure.World(x=1)
            run.resume(world)
            run.checkpoint(world, 1)
        said = "goes on with the run of task 1" in capfd.readouterr().err
        assert said == expected
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    _process_record._this_process.cache_clear()
    assert _same_command.task() == {}


def test_a_finished_run_says_so_and_how_to_begin_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"

    def train(total: int) -> list[int]:
        with perdure.Run(directory) as run:
            return list(run.steps(perdure.World(x=1), total))

    assert train(2) == [0, 1]
    assert "finished" not in capfd.readouterr().err
    assert train(2) == []
    said = capfd.readouterr().err
    assert "this run is finished: all 2 steps are done. To train longer, ask for more; to begin anew" in said
    assert train(3) == [2]
    remedy = re.search(r"rm -r (\S+)", said)
    assert remedy is not None
    subprocess.run(["rm", "-r", remedy[1]], check=True, cwd=Path.cwd())
    assert train(2) == [0, 1]
