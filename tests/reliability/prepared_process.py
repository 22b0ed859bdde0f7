"""Processes that have imported everything before their script begins, and end as any interpreter does.

Run as a script it reads lines of JSON, `[script, arguments, where]`, forks for each, and answers with the child's id
and, when it ended, its exit code. The child runs the script as `__main__`, and ends by the end of this file: with
threads joined, `atexit` called and all else that an interpreter does when it shuts down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Starter:
    """Starts such processes, one at a time; close it."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.answer() == "ready"

    def start(self, script: str, *arguments: object, where: Path) -> Started:
        """Start one; `where` is a directory for what it says."""
        assert self._server.stdin is not None
        print(json.dumps([script, [str(each) for each in arguments], str(where)]), file=self._server.stdin)
        return Started(self, self.answer(), where)

    def answer(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)


class Started:
    """A process."""

    def __init__(self, starter: Starter, pid: int, where: Path) -> None:
        self.pid = pid
        self._where = where
        self._starter = starter

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._read("stdout")

    @property
    def errors(self) -> str:
        """What it has printed to the standard error."""
        return self._read("stderr")

    def _read(self, name: str) -> str:
        path = self._where / name
        return path.read_text() if path.exists() else ""

    def says(self, words: str, seconds: float = 60) -> None:
        """Wait until it has printed these words."""
        ends = time.monotonic() + seconds
        while words not in self.output:
            assert time.monotonic() < ends, f"{words!r} was not said: {self.output}\n{self.errors}"
            time.sleep(0.005)

    def wait(self) -> int:
        """Its exit code; negative where a signal ended it."""
        return int(self._starter.answer())


def _serve() -> None:
    import torch

    import perdure

    torch.set_num_threads(1)
    # Not at the first use, in the child.
    assert perdure.Run
    assert perdure.World
    print('"ready"', flush=True)
    for line in iter(sys.stdin.readline, ""):
        script, arguments, where = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(script, arguments, where)
            return
        print(pid, flush=True)
        ends = time.monotonic() + 120
        while not (found := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        print(os.waitstatus_to_exitcode(found[1]), flush=True)


def _become(script: str, arguments: list[str], where: str) -> None:
    # A group of its own, as a terminal gives each command: Ctrl-C goes to all of it.
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(where, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["script", *arguments]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    _serve()
