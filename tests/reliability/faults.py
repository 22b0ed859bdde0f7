"""Faults of the operating system, injected: the N-th operation that changes a file fails, once or from then on.

For use by any test of the whole of `Run`, whatever it calls::

    with Faults("/runs/a", at=7, error=errno.ENOSPC, lasting=True) as faults:
        run.checkpoint(world, 3)
    assert faults.failed

What torch writes by itself (the content of a policy's file) does not go through Python and is not counted; a really
full disk (`small_disk`) meets that too.
"""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Calls of the system that change files, by the positions of the arguments that say which.
CALLS: dict[str, tuple[int, ...]] = {
    "open": (0,),
    "write": (0,),
    "writev": (0,),
    "pwrite": (1,),
    "pwritev": (1,),
    "fsync": (0,),
    "fdatasync": (0,),
    "ftruncate": (0,),
    "posix_fallocate": (0,),
    "link": (0, 1),
    "symlink": (1,),
    "rename": (0, 1),
    "replace": (0, 1),
    "unlink": (0,),
    "mkdir": (0,),
    "rmdir": (0,),
}
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Faults:
    """While entered, the `at`-th operation on files below `root` fails with `error`.

    :param at: counts from 1; with 0, nothing fails, and `count` tells how many there were.
    :param lasting: whether all later ones fail too.
    """

    def __init__(
        self, root: str | os.PathLike[str], at: int, error: int = errno.ENOSPC, *, lasting: bool = False
    ) -> None:
        self.root = os.path.realpath(root)
        self.at = at
        self.error = error
        self.lasting = lasting
        self.count = 0
        #: What failed: the name of the call and the path, or what is known of it.
        self.failed: list[str] = []
        self._real: dict[str, Callable[..., Any]] = {}
        self._mutex = threading.Lock()

    def __enter__(self) -> Faults:
        for name, places in CALLS.items():
            if hasattr(os, name):
                self._real[name] = getattr(os, name)
                setattr(os, name, self._wrapped(name, places))
        self._open = builtins.open
        builtins.open = self._wrapped_open  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)
        builtins.open = self._open

    def _wrapped(self, name: str, places: tuple[int, ...]) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any, **more: Any) -> Any:
            flags = arguments[1] if name == "open" and len(arguments) > 1 else more.get("flags", 0)
            if name != "open" or flags & _CHANGING:
                self._pass(name, self._where(arguments[places[-1]], more))
            return real(*arguments, **more)

        return call

    def _wrapped_open(self, file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            self._pass("open", self._where(file, {}))
        return self._open(file, mode, *arguments, **more)

    def _where(self, place: Any, more: dict[str, Any]) -> str:
        if isinstance(place, int):
            return self._of_descriptor(place)
        path = os.fspath(place)
        path = path if isinstance(path, str) else os.fsdecode(path)
        directory = more.get("dst_dir_fd", more.get("dir_fd"))
        if not os.path.isabs(path):
            path = os.path.join(os.getcwd() if directory is None else self._of_descriptor(directory), path)
        return path

    def _of_descriptor(self, fd: int) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return ""

    def _pass(self, name: str, path: str) -> None:
        if not (path + os.sep).startswith(self.root + os.sep):
            return
        with self._mutex:
            self.count += 1
            if self.at and (self.count == self.at or (self.lasting and self.count > self.at)):
                self.failed.append(f"{name} {path.removeprefix(self.root)}")
                raise OSError(self.error, os.strerror(self.error), path)


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes of its own.

    :raises PermissionError: where one may not mount.
    """
    place.mkdir()
    options = f"size={size},mode=0755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
    if done.returncode:
        raise PermissionError(done.stderr.decode(errors="replace"))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, how: str) -> None:
    """Make a `small_disk` read-only ("ro") or writable again ("rw")."""
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True, capture_output=True)
