"""What `perdure run` keeps of a script besides its checkpoints: the command, the answers that set-up code got, and
which loops were entered. One small file, replaced as a whole."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perdure.errors import DamagedError, ScriptError
from perdure.store import dump_checksummed, load_checksummed, read_small, sync, sync_directory, temporary_name

FILE = "script.json"
#: Where the runs of scripts are, below the current directory.
RUNS = "perdure-runs"
_FORMAT = 1
_LARGEST = 16 << 20


@dataclass
class Record:
    """What is known of one command.

    :param command: the script and its arguments.
    :param seed: what the global generators of each process are seeded with before the script runs.
    :param answers: see `Clock`.
    :param phases: which loop, or which library's training, has the directory `phase-1`, `phase-2` and so on.
    :param finished: when the script came to its end; empty before.
    """

    command: list[str]
    seed: int
    answers: dict[str, Any] = field(default_factory=dict)
    phases: list[str] = field(default_factory=list)
    finished: str = ""


def directory_of(command: Sequence[str], script: Path) -> str:
    """Where the run of a command is by default: named after the script, and the same for the same command."""
    where = min(os.fspath(script), os.path.relpath(script), key=len)
    name = hashlib.sha256("\0".join([where, *command[1:]]).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return os.path.join(RUNS, f"{script.parent.name if script.name == '__main__.py' else script.stem}-{name}")


def read_record(directory: str) -> Record | None:
    """The record of a directory; None if there is none.

    :raises DamagedError: if it is damaged.
    :raises ScriptError: if a newer Perdure wrote it.
    """
    path = os.path.join(directory, FILE)
    if not os.path.exists(path):
        return None
    body = load_checksummed("script", read_small(path, _LARGEST), path)
    if body.pop("format", None) != _FORMAT:
        raise ScriptError(
            f"{path} is of a newer Perdure than this one. Install that, or use another directory (--dir)"
        )
    expected = {"command": list, "seed": int, "answers": dict, "phases": list, "finished": str}
    if body.keys() != expected.keys() or any(type(body[name]) is not kind for name, kind in expected.items()):
        raise DamagedError(f"{path} does not hold what `perdure run` writes. Begin anew with --fresh")
    return Record(**body)


def write_record(directory: str, record: Record) -> None:
    """Replace the record of a directory; durable when this returns."""
    path = os.path.join(directory, FILE)
    temporary = os.path.join(directory, temporary_name())
    body: Mapping[str, Any] = {"format": _FORMAT, **asdict(record)}
    try:
        with open(temporary, "xb") as file:
            file.write(dump_checksummed("script", body))
            file.flush()
            sync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(directory)


def same_command(record: Record, command: Sequence[str]) -> str | None:
    """How a command differs from the one that a directory is of; None if it is the same."""
    if record.command == list(command):
        return None
    return f"{shlex.join(record.command)}\n  now: {shlex.join(command)}"
