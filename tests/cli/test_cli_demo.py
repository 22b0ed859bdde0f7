import builtins
import os
import signal
import sys
import time

import pytest
from cli_support import perdure_command, process

pytest.importorskip("gymnasium")


def lock_holder(run):
    try:
        return int((run / ".lock").read_text().split('"pid": ')[1].split(",")[0])
    except (OSError, LookupError, ValueError):
        return None


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_training_ends_like_one_that_was_left_alone(tmp_path):
    child = process("demo", "--steps", 2000, "--kills", 2, "--directory", tmp_path / "demo")
    output, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (0, ""), output
    assert 1 <= output.count("  killed") <= 2
    # Two kills may fall on one start, if the second comes before the process is heard of.
    assert 1 <= output.count("started again from here") <= 2
    assert "IDENTICAL" in output
    for part in ("weights", "optimizer", "replay buffer", "environments", "random generators", "best score"):
        (line,) = [line for line in output.splitlines() if part in line]
        assert line.split()[-1] == "identical"
    assert "\x1b" not in output
    assert (
        perdure_command("verify", tmp_path / "demo" / "killed", tmp_path / "demo" / "uninterrupted").exit_code
        == 0
    )
    again = perdure_command("demo", "--directory", tmp_path / "demo")
    assert again.exit_code == 2
    assert "not empty" in again.stderr


def test_a_demo_that_goes_wrong_says_so_and_where(tmp_path):
    child = process(
        "demo", "--steps", 1500, "--kills", 1, "--directory", tmp_path / "demo", PERDURE_DEMO_SABOTAGE="rng"
    )
    output, _ = child.communicate(timeout=120)
    assert child.returncode == 1, output
    assert "IDENTICAL" not in output
    assert "DIFFERENT" in output
    assert "  rng.numpy['state']" in output or "  agent.0.weight: " in output
    assert "perdure show" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path, number):
    demo = tmp_path / "demo"
    child = process("demo", "--steps", 100_000, "--kills", 0, "--directory", demo)
    runs = [demo / "killed", demo / "uninterrupted"]
    until = time.monotonic() + 60
    while None in (pids := [lock_holder(run) for run in runs]) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(alive, pids))
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    # Nobody ends them after SIGKILL; they leave by themselves when nobody listens any more.
    until = time.monotonic() + (60 if number == signal.SIGKILL else 0)
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_without_gymnasium_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = perdure_command("demo")
    assert result.exit_code == 2
    assert 'pip install "perdure[gymnasium]"' in result.stderr


def test_the_command_line_does_not_need_gymnasium(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name.partition(".")[0] == "gymnasium":
            raise ModuleNotFoundError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in [name for name in sys.modules if name.startswith("perdure.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    import perdure.cli.demonstration  # noqa: F401
