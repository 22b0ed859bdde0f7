"""Ends engine processes that environments started and that outlived their killed trainer.

VizDoom's engine does not notice that its trainer is gone. So each trainer writes down, in a directory of this user on
this machine, which engines it started; the next training ends those whose trainer is dead. A process is identified by
its number and its start time, so a later process with the same number is never ended. Knows neither environments nor
runs. Only on Linux; elsewhere it does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_LONGEST = 1 << 16


def directory() -> Path | None:
    """The directory of the notes, created if necessary; None if there is none that only this user can write to."""
    if not (_PROC / "self" / "stat").exists():
        return None
    path = Path(tempfile.gettempdir()) / f"perdure-engines-{os.getuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700)
    try:
        found = path.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if mine else None


def note(names: Collection[str]) -> list[int]:
    """Write down which processes of these names this process has started.

    :returns: their process ids.
    """
    place, started = directory(), _started(os.getpid())
    children = [
        (pid, at) for pid, at, parent, name in _processes() if parent == os.getpid() and name in names
    ]
    if place is None or not children:
        return [pid for pid, _ in children]
    written = {"world": _world(), "owner": [os.getpid(), started], "engines": children}
    temporary = place / f".{os.getpid()}-{started}"
    with contextlib.suppress(OSError):  # a full disk must not end the training
        temporary.write_text(json.dumps(written))
        temporary.rename(place / f"{os.getpid()}-{started}.json")
    return [pid for pid, _ in children]


def end_strays(names: Collection[str]) -> list[int]:
    """End the engines of these names that were written down and whose trainer is dead.

    :returns: the process ids of those that were ended.
    """
    place = directory()
    ended: list[int] = []
    for path in [] if place is None else sorted(place.glob("*.json")):
        about = _read(path)
        if about is None:
            continue
        (world, (owner, started), engines) = about
        # Process ids of another boot mean nothing now; those of another container mean other processes there.
        if world[0] == _world()[0] and (world != _world() or _started(owner) == started):
            continue
        if world == _world():
            ended += [pid for pid, at in engines if _end(pid, at, names)]
        with contextlib.suppress(OSError):
            path.unlink()
    return ended


def _read(path: Path) -> tuple[list[str], list[int], list[list[int]]] | None:
    try:
        with path.open() as file:
            about = json.loads(file.read(_LONGEST))
        world, owner, engines = about["world"], about["owner"], about["engines"]
        numbers = [owner, *engines]
        if not all(len(pair) == 2 and all(type(each) is int for each in pair) for pair in numbers):
            return None
        return world, owner, engines
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _end(pid: int, started: int, names: Collection[str]) -> bool:
    """End a process if it still is the one that was written down."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Checked after the handle was opened: it keeps meaning this process, even if the id is reused.
        found = _about(pid)
        if found is None or found[1] != started or found[3] not in names:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _world() -> list[str]:
    """This boot of this machine, and the namespace of its process ids."""
    with contextlib.suppress(OSError):
        return [
            (_PROC / "sys/kernel/random/boot_id").read_text().strip(),
            os.readlink(_PROC / "self/ns/pid"),
        ]
    return ["", ""]


def _started(pid: int) -> int | None:
    found = _about(pid)
    return None if found is None else found[1]


def _about(pid: int) -> tuple[int, int, int, str] | None:
    """Id, start time, parent and name of a process that is alive."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    # The name is in brackets and may contain any character, even brackets.
    name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return None if rest[0] in "ZX" else (pid, int(rest[19]), int(rest[1]), name)


def _processes() -> list[tuple[int, int, int, str]]:
    found: list[Any] = [_about(int(path.name)) for path in _PROC.iterdir() if path.name.isdigit()]
    return [each for each in found if each is not None]
