"""Runs the code that a reader would copy, in processes of its own and directories of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONWARNINGS": "default",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "NUMBA_DISABLE_JIT": "1",  # for few steps it takes longer to compile Tianshou's functions than to run them
}
#: Perdure's own warnings: what a reader copies must give none.
WARNINGS = ("NotCapturedWarning", "ChangedScriptWarning", "DamagedCheckpointWarning")


class Process:
    """A Python script that runs in `directory`; all that it says is kept."""

    def __init__(self, script, *words, directory, name="output"):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.path = directory, directory / f"{name}.txt"
        with open(self.path, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *words],
                cwd=directory,
                env=ENVIRONMENT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self):
        return self.path.read_text(errors="replace")

    def finish(self):
        """Wait for its end, which must be a success without a warning of Perdure's. What it said."""
        try:
            code = self.process.wait(180)
        finally:
            self.process.kill()
        assert code == 0, f"exit code {code}:\n{self.output[-5000:]}"
        assert not [name for name in WARNINGS if name in self.output], self.output[-5000:]
        return self.output

    def kill_after_checkpoint(self, delay):
        """SIGKILL it `delay` seconds after its first checkpoint."""
        began = time.monotonic()
        try:
            while not list(self.directory.glob("runs/*/checkpoints/*.json")):
                assert self.process.poll() is None, f"it ended without a checkpoint:\n{self.output[-5000:]}"
                assert time.monotonic() - began < 120, f"no checkpoint:\n{self.output[-5000:]}"
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            self.process.kill()
        return self.process.wait()
