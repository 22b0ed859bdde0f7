"""What Python does while a file is loaded: anything but reading the file is an error. Uses Python's audit events."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    *("exec", "compile", "marshal.", "code.__new__", "function.__new__", "pickle.find_class", "ctypes."),
    *(
        "subprocess.",
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.kill",
    ),
    *("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.", "shutil.", "tempfile."),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"),
    *("os.putenv", "os.unsetenv", "os.chdir", "os.utime", "os.chown", "glob.glob", "setopencodehook"),
)
_on = threading.local()


class Watched(BaseException):
    """Something that loading a file must not do."""


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not getattr(_on, "armed", False):
        return
    if event == "import":
        # Perdure imports what it knows of a library when it meets a class of it, whatever file names that.
        if not args[0].startswith("perdure."):
            raise Watched(f"import of {args[0]}")
    elif event == "open":
        path, mode, flags = args
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (mode is None and flags & 0o1103)
        if writes and not _may_write(path):
            raise Watched(f"open of {path!r} for writing")
    elif event == "compile" and args[0] == _script():
        return  # a run looks into the source of its script: it is parsed, not compiled
    elif event.startswith(_FORBIDDEN) and event != "socket.gethostname":
        if event.startswith("os.") and args and _may_write(args[0]):
            return
        raise Watched(f"{event} {args!r:.200}")


@functools.cache
def _script() -> bytes | None:
    path = getattr(sys.modules["__main__"], "__file__", None)
    return None if path is None else Path(path).read_bytes()


def _may_write(path: Any) -> bool:
    """Whether a path is below the directory that may be written to; a number or a bare name is of what was opened."""
    below: str | None = _on.below
    if below is None or not isinstance(path, str):
        return below is not None and isinstance(path, int)
    return path.startswith(below) or "/" not in path


sys.addaudithook(_hook)


class Cost:
    """What something took: seconds of this thread, and bytes of memory at the peak (0 where nobody counts them)."""

    seconds = 0.0
    memory = 0


@contextmanager
def watched(below: Path | None = None) -> Iterator[Cost]:
    """Nothing but reading may happen inside, and writing below one directory; says afterwards what it took."""
    _on.below = None if below is None else f"{below}/"
    with measured() as cost:
        _on.armed = True
        try:
            yield cost
        finally:
            _on.armed = False


@contextmanager
def measured() -> Iterator[Cost]:
    """Says afterwards what something took."""
    cost = Cost()
    before = _memory("VmRSS") if _reset_peak() else 0
    began = time.thread_time()
    try:
        yield cost
    finally:
        cost.seconds = time.thread_time() - began
        cost.memory = max(_memory("VmHWM") - before, 0) if before else 0


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _memory(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(which))
