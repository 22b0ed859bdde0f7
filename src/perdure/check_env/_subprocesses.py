"""Runs the jobs of a check in fresh processes: each is limited in time and ended with all that it started.

It knows processes and files, and nothing of environments.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_TAIL = 8_000
# Nothing that an environment draws or plays is for the user's screen.
_QUIET = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}


@dataclass
class Record:
    """What a process wrote down, and how it ended.

    :param lines: what it wrote, by kind, in order.
    :param tail: the end of what it printed.
    :param ended: how it ended, in words; "" if it ended well.
    """

    lines: dict[str, list[dict[str, Any]]]
    tail: str
    ended: str = ""
    timed_out: bool = False
    crashed: bool = False
    steps: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        #: The steps it made.
        self.steps = self.lines.get("step", [])

    def first(self, kind: str) -> dict[str, Any] | None:
        """The first line of a kind."""
        return next(iter(self.lines.get(kind, ())), None)

    @property
    def failure(self) -> str:
        """What went wrong, with the error's message if there was an error; "" if nothing did."""
        failed = self.first("failed")
        return self.ended if failed is None else f"{failed['error']}: {failed['message']}"


def run(job: dict[str, Any], directory: str, name: str, timeout: float) -> Record:
    """Do a job in a fresh process and return its record, however the process ended."""
    place = os.path.join(directory, name)
    job = {**job, "record": f"{place}.jsonl", "path": [each or os.getcwd() for each in sys.path]}
    with open(f"{place}.job", "w") as file:
        json.dump(job, file)
    # On request, memory is laid out in the same way each time.
    launcher = ["setarch", "-R"] if job.get("same_addresses") else []
    with open(f"{place}.log", "wb") as log:
        process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "perdure.check_env._child", f"{place}.job"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **_QUIET,
                **os.environ,
                **job.get("environment", {}),
                "PYTHONPATH": os.pathsep.join(job["path"]),
            },
            start_new_session=True,
        )
        try:
            in_time = _wait(process, timeout)
        finally:
            # All that it started is in its group, which has its number as long as it is not reaped.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
    record = Record(_lines(f"{place}.jsonl"), _tail(f"{place}.log"), timed_out=not in_time)
    if not in_time:
        record.ended = f"it was not done after {timeout:g} s"
    elif code < 0:
        record.crashed = True
        record.ended = f"the process died of {signal.Signals(-code).name}"
    elif code:
        record.crashed = record.first("failed") is None
        record.ended = f"the process ended with exit code {code}"
    elif record.first("finished") is None and record.first("explained") is None:
        record.crashed = True
        record.ended = "the process ended before it was done"
    return record


def _wait(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait for the end of a process, if possible without reaping it; False if it takes too long."""
    if not hasattr(os, "waitid"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout)
        return process.returncode is not None
    deadline = time.monotonic() + timeout
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _lines(path: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if not os.path.exists(path):
        return found
    with open(path) as file:
        for text in file:
            # The last line of a process that was killed may be cut off.
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                found.setdefault(line.pop("kind"), []).append(line)
    return found


def _tail(path: str) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        return file.read().decode(errors="replace").strip()
