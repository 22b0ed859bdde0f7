"""Which process wrote a checkpoint: its command, the commit of its code, and what its numbers depend on.

A resumed run is bit-identical only where the libraries and the machine compute alike. So every checkpoint records them,
and resuming says in one line what is different here. Knows no states and no stores.
"""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perdure.run._same_command import task
from perdure.state import without_secret_arguments

_PATIENCE = 2.0  # seconds that git may take
_LONGEST_COMMAND = 4096


def record() -> dict[str, Any]:
    """This process, as JSON: `command`, `started`, `host`, `machine`, `git` if its script lies in a repository, and
    `task` if it is one of an array job."""
    found = dict(_this_process())
    return {**found, "machine": machine()}


def machine() -> dict[str, str]:
    """What the numbers of this process depend on beside the versions of libraries."""
    found = {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "BLAS": _blas(),
        "deterministic algorithms": _switch(torch.are_deterministic_algorithms_enabled()),
    }
    if torch.cuda.is_available():
        found["GPU"] = ", ".join(
            sorted({torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())})
        )
        found["cuDNN deterministic"] = _switch(torch.backends.cudnn.deterministic)
        found["cuDNN benchmark"] = _switch(torch.backends.cudnn.benchmark)
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is different here, a phrase each: `torch 2.12.0 then, 2.13.0 here`.

    :param then: names and values that were recorded.
    :param now: names and values of this process.
    """
    return [
        f"{name} {_shown(then[name])} then, {_shown(now[name])} here"
        for name in then
        if name in now and str(then[name]) != str(now[name])
    ]


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def command(arguments: Sequence[str]) -> list[str]:
    """A command line without the secrets in it: what follows `--api-key`, and the value of `api_key=...`."""
    found: list[str] = []
    length = 0
    for argument in without_secret_arguments(arguments):
        length += len(argument) + 1
        if length > _LONGEST_COMMAND:
            return [*found, "…"]
        found.append(argument)
    return found


@functools.cache
def _this_process() -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "command": command([os.path.basename(sys.executable), *sys.argv]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
    }
    if (code := _code()) is not None:
        found["git"] = code
    if which := task():
        found["task"] = which
    return found


def _code() -> dict[str, Any] | None:
    """The commit of the repository that the script lies in, and whether tracked files differ from it."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    folder = Path(script).resolve().parent if script else Path.cwd()
    if not any((above / ".git").exists() for above in (folder, *folder.parents)):
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit.strip(), "changed": bool(changes.strip())}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None if it does not, or not in time."""
    # No program that the repository's configuration names is run, and nothing is written.
    words = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@functools.cache
def _blas() -> str:
    try:
        shown: Any = np.show_config(mode="dicts")
        blas = shown["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    except (KeyError, TypeError):
        return "unknown"


def _switch(value: bool) -> str:
    return "on" if value else "off"
