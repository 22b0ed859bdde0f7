import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cli_support import HARMFUL, make_run, perdure_command, process

import perdure
from perdure.cli.output import age, clean, score, size

EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202e\x9b31m\r\x08"


def test_nothing_from_a_file_can_command_the_terminal(tmp_path):
    run = make_run(
        tmp_path / "a\x1b[31m[bold]", tags=[EVIL], metrics={EVIL: EVIL}, counters={EVIL: {EVIL: [EVIL]}}
    )
    with perdure.Run(tmp_path / "b") as other:
        other.checkpoint({"part": {EVIL: EVIL, 1: EVIL.encode()}}, 1)
    for arguments in (
        ["ls", tmp_path],
        ["ls", run],
        ["show", run],
        ["show", tmp_path / "b", "--tree"],
        ["verify", run],
    ):
        for json in ([], ["--json"]):
            result = perdure_command(*arguments, *json)
            assert result.exit_code == 0
            assert not HARMFUL.search(result.output), (arguments, result.output)
    # Markup is shown, and not obeyed.
    assert "[red]x[/red]" in perdure_command("ls", run).stdout


def test_nor_through_the_message_of_an_error(tmp_path):
    result = perdure_command("show", tmp_path / EVIL.replace("/", ""))
    assert result.exit_code == 2
    assert not HARMFUL.search(result.output)


def on_a_terminal(*arguments, **environment):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "perdure.cli", *map(str, arguments)]
    cleared = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "TERM")
    }
    given = {**cleared, "TERM": "xterm", "COLUMNS": "80", **environment}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=given):
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 4096):
                output += part
        except OSError:
            pass
    os.close(ours)
    return output.decode()


def test_colours_and_eighty_columns_on_a_terminal(tmp_path):
    make_run(tmp_path / ("a-run-with-quite-a-long-name-" * 4))
    shown = on_a_terminal("ls", tmp_path)
    assert "\x1b[32mok" in shown
    plain = on_a_terminal("ls", tmp_path, NO_COLOR="1")
    assert "\x1b[32m" not in plain
    bare = plain.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\r", "")
    lines = bare.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("3,000" in line and "ok" in line for line in lines)


def test_no_colours_and_no_folding_in_a_pipe(tmp_path):
    name = "a-run-with-quite-a-long-name-" * 4
    make_run(tmp_path / name)
    child = process("ls", tmp_path, PYTHONIOENCODING="ascii")
    output, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")
    assert "\x1b" not in output
    assert name in output


def test_version_and_help():
    assert perdure.__version__ in perdure_command("--version").stdout
    assert "Exit codes" in perdure_command("verify", "--help").stdout
    assert perdure_command("unknown").exit_code == 2


def test_help_imports_none_of_the_store():
    code = """
import sys, perdure.cli
before = set(sys.modules)
perdure.cli.main(["--help"], standalone_mode=False)
print(sorted(set(sys.modules) - before))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "perdure." not in output.splitlines()[-1]


def test_sizes_and_scores():
    assert [size(n) for n in (0, 999, 1000, 99_949, 5_000_000_000)] == [
        "0 bytes", "999 bytes", "1.0 kB", "99.9 kB", "5.0 GB",
    ]  # fmt: skip
    scores = [score(x) for x in (float("nan"), 0.00012345, 123.456, 12345.67)]
    assert scores == ["nan", "0.0001234", "123.5", "12,345.7"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-100, "just now"), (60, "60 s ago"), (200, "3 min ago"), (7300, "2 h ago"), (3 * 86_400, "3 days ago")],
)
def test_ages(seconds, words):
    assert age((datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()) == words


def test_odd_times_are_shown_harmlessly():
    assert age("\x1bnonsense") == "\\x1bnonsense"
    assert age("0001-01-01T00:00:00+23:59") in ("0001-01-01T00:00:00+23:59", "0001-01-01")
    assert clean("a\nb\ud800é") == "a\\nb\\ud800é"
