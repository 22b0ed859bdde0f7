"""Runs the code that a reader would copy, in processes and directories of its own.

The processes are forked from interpreters that have imported the libraries (not Perdure's integrations) already, which
takes longer than most of what is run here; `run_fresh` takes an interpreter that has imported nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from prepared_process import Starter

ROOT = Path(__file__).parents[2]
#: The command `perdure`, which dies in the round that PERDURE_TEST_FUSE says.
COMMAND = ROOT / "tests" / "scripts" / "run_command.py"
ENVIRONMENT = {
    **os.environ,
    "PYTHONWARNINGS": "default",
    "OMP_NUM_THREADS": "1",
    "NUMBA_DISABLE_JIT": "1",  # for few steps it takes longer to compile Tianshou's functions than to run them
}
#: Perdure's own warnings: what a reader copies must give none.
WARNINGS = ("NotCapturedWarning", "ChangedScriptWarning", "DamagedCheckpointWarning")
#: What is imported beforehand for a script that names a library.
LIBRARIES = {"tianshou": "tianshou.highlevel.experiment", "stable_baselines3": "stable_baselines3"}


@cache
def _starter(module: str) -> Starter:
    starter = Starter("torch._dynamo", module, environment=ENVIRONMENT)
    atexit.register(starter.close)
    return starter


class Process:
    """A Python script that runs in `directory`; all that it prints is kept in a directory beside that."""

    def __init__(
        self, script: Path, *words: str, directory: Path, name: str = "output", **variables: str
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        where = directory.with_name(f"{directory.name}-{name}")
        where.mkdir()
        text = script.read_text()
        module = next((module for name, module in LIBRARIES.items() if f"from {name}" in text), "gymnasium")
        self._directory = directory
        self._process = _starter(module).start(
            script, *words, where=where, directory=directory, environment={**ENVIRONMENT, **variables}
        )

    @property
    def output(self) -> str:
        """What it has printed on the standard output."""
        return self._process.output

    def wait(self) -> int:
        """Its exit code; negative where a signal ended it."""
        return self._process.wait()

    def finish(self) -> str:
        """Wait for its end, which must be a success without a warning of Perdure's. What it printed."""
        code = self._process.wait()
        return _succeeded(code, self._process.output + self._process.errors)

    def kill_after_checkpoint(self, delay: float) -> int:
        """SIGKILL it `delay` seconds after its first checkpoint. Its exit code: another one if it ended before."""
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            while not list(self._directory.glob("runs/*/checkpoints/*.json")):
                os.kill(self._process.pid, 0)
                assert time.monotonic() - began < 120, f"no checkpoint:\n{self._process.errors[-5000:]}"
                time.sleep(0.01)
            time.sleep(delay)
            os.kill(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def run_fresh(script: Path, directory: Path) -> str:
    """Run a script in an interpreter that has imported nothing before. What it printed."""
    directory.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(
        [sys.executable, script], cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=180
    )
    return _succeeded(found.returncode, found.stdout + found.stderr)


def _succeeded(code: int, output: str) -> str:
    assert code == 0, f"exit code {code}:\n{output[-5000:]}"
    assert not [name for name in WARNINGS if name in output], output[-5000:]
    return output
