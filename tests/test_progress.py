"""Progress bars: nothing for what is over soon, a bar on a terminal, one line elsewhere if that was asked for."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from perdure import progress
from perdure.progress import Bar

SCRIPT = """
import time
from perdure import progress
progress.DELAY = 0.05
with progress.Bar("reading [x]", unit="steps") as bar:
    for done in range(10):
        bar.update(done, 10)
        time.sleep(0.02)
"""


def work(what: str, **options: object) -> None:
    with Bar(what, **options) as bar:  # type: ignore[arg-type]
        for done in range(1, 4):
            bar.update(done, 4)


def test_nothing_is_shown_of_what_is_over_soon(capsys: pytest.CaptureFixture[str]) -> None:
    work("reading", log=True)
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_one_line_is_printed_if_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    work("reading")
    work("reading", log=True, hidden=True)
    assert capsys.readouterr() == ("", "")
    work("reading", log=True)
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith("perdure: reading, about ")
    assert errors.count("\n") == 1


def test_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    given = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=theirs, stderr=theirs, env=given):
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 4096):
                output += part
        except OSError:
            pass
    os.close(ours)
    assert b"perdure: reading [x]" in output
    assert b"/10" in output
