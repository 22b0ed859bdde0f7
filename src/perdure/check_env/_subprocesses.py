"""Fresh processes for a check: started, bounded in time, ended with all that they started, and their records read.

It knows processes and files, and nothing of environments.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

_PROBE = "perdure.check_env._child"
_TAIL = 8_000


@dataclass
class Record:
    """What a process wrote down, and how it ended.

    :param ended: "" if it ended well, otherwise in words how it did.
    :param lines: what it wrote, by kind, in order.
    :param tail: the end of what it printed.
    """

    ended: str = ""
    timed_out: bool = False
    crashed: bool = False
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tail: str = ""

    def first(self, kind: str) -> dict[str, Any] | None:
        """The first line of a kind."""
        return next(iter(self.lines.get(kind, ())), None)

    @property
    def failure(self) -> str:
        """What went wrong, with the message of the error if there was one; "" if nothing did."""
        failed = self.first("failed")
        if failed is not None:
            return f"{failed['error']}: {failed['message']}"
        return self.ended

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps it made."""
        return self.lines.get("step", [])


def run(job: dict[str, Any], directory: str, name: str, timeout: float) -> Record:
    """Do a job in a fresh process and return its record, whatever became of the process."""
    place = os.path.join(directory, name)
    job = {**job, "record": f"{place}.jsonl", "path": [each or os.getcwd() for each in sys.path]}
    with open(f"{place}.job", "w") as file:
        json.dump(job, file)
    command = [*_launcher(job), sys.executable, "-m", _PROBE, f"{place}.job"]
    # What is printed by an environment is not for the terminal, and there is nobody to answer it.
    quiet = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
    environment = {
        **quiet,
        **os.environ,
        **job.get("environment", {}),
        "PYTHONPATH": os.pathsep.join(job["path"]),
    }
    with open(f"{place}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            timed_out = not _wait(process, timeout)
        finally:
            # While it is not reaped its number is nobody else's: all that it started is in its group.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    record = _read(f"{place}.jsonl", f"{place}.log")
    record.timed_out = timed_out
    if timed_out:
        record.ended = f"it was not done after {timeout:g} s"
    elif process.returncode < 0:
        record.crashed = True
        record.ended = f"the process died of {signal.Signals(-process.returncode).name}"
    elif process.returncode:
        record.crashed = record.first("failed") is None
        record.ended = f"the process ended with exit code {process.returncode}"
    elif record.first("finished") is None and record.first("explained") is None:
        record.crashed = True
        record.ended = "the process ended before it was done"
    return record


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for its end, without reaping it where that can be done; False if it takes too long."""
    if not hasattr(os, "waitid"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        return process.returncode is not None
    ended = threading.Event()

    def wait() -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended.wait(timeout)


def _launcher(job: dict[str, Any]) -> list[str]:
    """Before the command: what starts it with its memory always laid out alike, if that is asked for."""
    return ["setarch", "-R"] if job.get("same_addresses") else []


def _read(path: str, log: str) -> Record:
    record = Record()
    if os.path.exists(path):
        with open(path) as file:
            for text in file:
                try:
                    line = json.loads(text)
                except ValueError:
                    # The last line of a process that was killed may be cut off.
                    continue
                record.lines.setdefault(line.pop("kind"), []).append(line)
    with open(log, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        record.tail = file.read().decode(errors="replace").strip()
    return record
