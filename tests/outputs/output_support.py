"""Runs trainings in processes that are killed, and compares what they have written."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from prepared_process import Starter

HERE = Path(__file__).parent


def train(starter: Starter, script: str, where: Path, *arguments: object, kills: list[int]) -> str:
    """Run a script, killed in each of these steps, to its end; returns all that it said."""
    said = where.parent / f"said-{where.name}"
    said.mkdir(parents=True, exist_ok=True)
    for kill in kills:
        started = starter.start(HERE / script, where, *arguments, kill, where=said)
        assert started.wait() == -signal.SIGKILL, started.errors
    started = starter.start(HERE / script, where, *arguments, -1, where=said)
    assert started.wait() == 0, started.errors
    return started.output + started.errors


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory, by path; moments in paths are left out."""
    found: dict[str, bytes] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name = re.sub(r"\d{6,}", "#", str(path.relative_to(directory)))
            found[name + " again" * (name in found)] = path.read_bytes()
    return found


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> dict[str, tuple[object, object]]:
    """What is another content, or missing on one side."""
    return {
        name: (found.get(name), expected.get(name))
        for name in found.keys() | expected.keys()
        if found.get(name) != expected.get(name)
    }
