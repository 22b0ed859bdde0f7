"""Engines of killed trainers are ended, and nothing else is: with real processes and a real SIGKILL."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure.environments.replay import _orphans

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")

TRAINER = """
import subprocess, sys
from perdure.environments.replay import _orphans
engine = subprocess.Popen([sys.argv[1], "120"])
assert _orphans.note(["anengine"]) == [engine.pid]
print(engine.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    engine = tmp_path / "anengine"
    shutil.copy(shutil.which("sleep"), engine)
    started = []

    def trainer():
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(engine)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append((process, int(process.stdout.readline())))
        return started[-1]

    yield trainer
    for process, pid in started:
        process.kill()
        process.wait()
        process.stdin.close(), process.stdout.close()
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pid):
    for _ in range(200):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def kill(process):
    process.kill()
    process.wait()


def test_only_engines_of_dead_trainers_are_ended(place):
    (dead, stray), (alive, used) = place(), place()
    assert _orphans.end_strays(["anengine"]) == []
    kill(dead)
    assert is_alive(stray)
    assert _orphans.end_strays(["another"]) == []
    assert is_alive(stray)
    kill(place()[0])
    (notes,) = (path for path in _orphans.directory().glob(f"{alive.pid}-*"))
    ended = _orphans.end_strays(["anengine"])
    assert stray not in ended or gone(stray)
    assert used not in ended
    assert is_alive(used)
    assert notes.exists()


def test_a_process_that_got_the_number_later_is_not_ended(place):
    trainer, stray = place()
    kill(trainer)
    (path,) = _orphans.directory().glob("*.json")
    about = json.loads(path.read_text())
    ((pid, started),) = about["engines"]
    assert pid == stray
    path.write_text(json.dumps({**about, "engines": [[pid, started - 1]]}))
    assert _orphans.end_strays(["anengine"]) == []
    assert is_alive(stray)
    assert not path.exists()


@pytest.mark.parametrize("which", [0, 1], ids=["another boot", "another container"])
def test_numbers_of_another_machine_mean_nothing_here(place, which):
    trainer, stray = place()
    kill(trainer)
    (path,) = _orphans.directory().glob("*.json")
    about = json.loads(path.read_text())
    about["world"][which] = "another"
    path.write_text(json.dumps(about))
    assert _orphans.end_strays(["anengine"]) == []
    assert is_alive(stray)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"world": ["", ""], "owner": [1], "engines": []}',
     '{"world": ["", ""], "owner": ["1", 2], "engines": [[1, 2]]}', "[" * 10_000],
)  # fmt: skip
def test_a_damaged_note_is_passed_over(place, text):
    trainer, stray = place()
    kill(trainer)
    (_orphans.directory() / "0-0.json").write_text(text)
    assert _orphans.end_strays(["anengine"]) == [stray]
    assert gone(stray)


def test_notes_that_others_can_write_are_not_believed(place):
    trainer, stray = place()
    kill(trainer)
    _orphans.directory().chmod(0o777)
    assert _orphans.directory() is None
    assert _orphans.end_strays(["anengine"]) == []
    assert is_alive(stray)
