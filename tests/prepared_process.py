"""Processes that have imported already what takes longest, run a script, and end as any interpreter does.

Run as a script it reads lines of JSON, `[[script, *arguments], environment, where, directory]`, forks for each, and
answers with the child's id and, when it ended, its exit code. The child runs the script as `__main__`, and ends by the
end of this file: with threads joined, `atexit` called and all else that an interpreter does when it shuts down. What is
random in an interpreter, the seed of hashes and where things lie in memory, is the same in all children of one starter.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

#: After which a process is killed.
SECONDS = 240


class Starter:
    """Starts such processes, one at a time; close it.

    :param modules: what they have imported, besides torch and Perdure.
    :param environment: of the interpreter that they are forked from.
    """

    def __init__(self, *modules: str, environment: Mapping[str, str] | None = None) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=environment,
        )  # fmt: skip
        assert self.answer() == "ready"

    def start(
        self,
        script: Path,
        *arguments: object,
        where: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Started:
        """Start one.

        :param where: a directory for what it prints.
        :param environment: its environment variables; by default those of this process when the starter was made.
        :param directory: its working directory; by default that of this process when the starter was made.
        """
        assert self._server.stdin is not None
        command = [str(each) for each in (script, *arguments)]
        order = [
            command,
            None if environment is None else dict(environment),
            str(where),
            str(directory or "."),
        ]
        print(json.dumps(order), file=self._server.stdin)
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
    for module in ("perdure.run", *sys.argv[1:]):
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    # What the children's garbage collections need not look at is not copied for each of them.
    gc.collect()
    gc.freeze()
    print('"ready"', flush=True)
    for line in iter(sys.stdin.readline, ""):
        command, environment, where, directory = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(command, environment, where, directory)
            return
        print(pid, flush=True)
        ends = time.monotonic() + SECONDS
        while not (found := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        print(os.waitstatus_to_exitcode(found[1]), flush=True)


def _become(command: list[str], environment: dict[str, str] | None, where: str, directory: str) -> None:
    import numpy as np
    import torch

    # A group of its own, as a terminal gives each command: Ctrl-C goes to all of it.
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(where, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(directory)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    # As in an interpreter of its own, no two are alike in what nobody seeds.
    random.seed()
    np.random.seed()
    torch.seed()  # type: ignore[no-untyped-call]
    script = command[0]
    sys.argv = command
    sys.path[0] = os.path.dirname(script)
    main = ModuleType("__main__")
    main.__file__ = script
    sys.modules["__main__"] = main
    exec(compile(Path(script).read_text(), script, "exec"), main.__dict__)


if __name__ == "__main__":
    _serve()
