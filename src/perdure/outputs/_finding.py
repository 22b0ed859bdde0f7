"""Finds what writes files in this process: what it has open for writing, and the threads that write events.

To look at all open descriptors takes microseconds; only where one is new are the objects of the interpreter gone
through, to find those that stand for it. Knows no runs.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import stat
import sys
import threading
import weakref
from typing import Any, NamedTuple

from perdure.outputs._writers import Events, EventsX, OpenFile, Writer

_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_BUFFERS = (io.BufferedWriter, io.BufferedRandom)
#: What is compressed as it is written cannot go on in its middle.
_COMPRESSING = (("gzip", "GzipFile"), ("bz2", "BZ2File"), ("lzma", "LZMAFile"), ("zipfile", "ZipFile"))
_COMPRESSED = (
    "it is compressed while it is written, and a compressed file cannot be gone on with in its middle"
)
#: How files begin that are written here and there, not only at their end.
_DATABASES = ((b"SQLite format 3\0", "a SQLite database"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"))
_REWRITTEN = "{} is changed everywhere, not only at its end, and may be written by others too"

#: A descriptor, and which file it stands for.
_Key = tuple[int, int, int]


class Found(NamedTuple):
    """What writes files in this process.

    :param writers: by which files can be brought back.
    :param refused: for each other file the reason why it cannot.
    """

    writers: list[Writer]
    refused: dict[str, str]


class Finder:
    """Finds the writers of this process, again and again."""

    def __init__(self) -> None:
        self._files: dict[_Key, OpenFile | str | None] = {}
        #: By the innermost object: one that goes on with another file stays the same.
        self._known: weakref.WeakKeyDictionary[io.FileIO, OpenFile] = weakref.WeakKeyDictionary()
        self._events: dict[int, Events] = {}

    def find(self) -> Found:
        """What writes files now."""
        writers: list[Writer] = list(self._find_events())
        refused: dict[str, str] = {}
        of_events = {each.descriptor() for each in self._events.values()}
        keys = [key for key in _open_for_writing() if key[0] not in of_events]
        files = {key: self._files[key] for key in keys if key in self._files}
        gone = {key for key, file in files.items() if isinstance(file, OpenFile) and not file.is_open}
        if unknown := [key for key in keys if key not in files or key in gone]:
            files.update(_identify(unknown, self._known))
        self._files = files
        for key, file in files.items():
            if isinstance(file, OpenFile):
                if file.path:
                    writers.append(file)
            elif file is not None:
                refused[_path_of(key[0])] = file
        return Found(writers, refused)

    def _find_events(self) -> list[Events]:
        threads = [each for each in threading.enumerate() if type(each).__name__ in _THREADS]
        found: dict[int, Events] = {}
        for thread in threads:
            known = self._events.get(id(thread)) or _THREADS[type(thread).__name__](thread)
            if known is not None and known.is_open:
                found[id(thread)] = known
        self._events = found
        return list(found.values())


def _torch_events(thread: Any) -> Events | None:
    file = thread._record_writer._writer
    # TensorFlow's own, where that is installed, is no Python.
    return Events(thread, file) if hasattr(file, "write_started") else None


def _x_events(thread: Any) -> Events | None:
    writer = thread._record_writer
    file = getattr(getattr(writer, "_py_recordio_writer", None), "_writer", None)
    return EventsX(thread, writer) if isinstance(file, io.IOBase) else None


_THREADS = {"_AsyncWriterThread": _torch_events, "_EventLoggerThread": _x_events}


def _open_for_writing() -> list[_Key]:
    """The regular files that this process has open for writing, other than the standard streams."""
    keys = []
    for name in os.listdir(_DESCRIPTORS):
        fd = int(name)
        if fd <= 2:
            continue
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                continue
            found = os.fstat(fd)
        except OSError:  # closed in the meantime
            continue
        if stat.S_ISREG(found.st_mode) and found.st_nlink:
            keys.append((fd, found.st_dev, found.st_ino))
    return keys


def _identify(
    keys: list[_Key], known: weakref.WeakKeyDictionary[io.FileIO, OpenFile]
) -> dict[_Key, OpenFile | str | None]:
    """The objects that stand for descriptors, or why their files cannot be brought back."""
    wanted = {fd for fd, _, _ in keys}
    raws: dict[int, io.FileIO] = {}
    around: dict[int, Any] = {}
    compressed: set[int] = set()
    holders: dict[int, Any] = {}
    compressing = tuple(
        getattr(sys.modules[module], name) for module, name in _COMPRESSING if module in sys.modules
    )
    logger = sys.modules.get("stable_baselines3.common.logger")
    csv_format = None if logger is None else logger.CSVOutputFormat
    kinds: dict[type, str] = {}
    for each in gc.get_objects():
        cls = type(each)
        kind = kinds.get(cls)
        if kind is None:
            kind = kinds[cls] = _kind(cls, csv_format, compressing)
        if not kind:
            continue
        if kind == "raw":
            if not each.closed and each.fileno() in wanted and each.writable():
                raws[each.fileno()] = each
        elif kind == "buffer":
            if (below := _below(each, "raw")) is not None:
                around[id(below)] = each
        elif kind == "text":
            if (below := _below(each, "buffer")) is not None:
                around[id(below)] = each
        elif kind == "csv":
            holders[id(each.file)] = each
        else:
            inner = getattr(each, "fileobj", None) or getattr(each, "fp", None) or getattr(each, "_fp", None)
            if inner is not None and not getattr(inner, "closed", True):
                compressed.add(inner.fileno())
    found: dict[_Key, OpenFile | str | None] = {}
    for key in keys:
        fd = key[0]
        if fd in compressed:
            found[key] = _COMPRESSED
        elif fd in raws:
            raw = raws[fd]
            layers = []
            inner = raw
            while (outer := around.get(id(inner))) is not None:
                layers.append(outer)
                inner = outer
            if raw not in known:
                known[raw] = OpenFile(raw, layers, holders.get(id(layers[-1] if layers else raw)))
            found[key] = known[raw]
        else:
            found[key] = _native(fd)
    return found


def _kind(cls: type, csv_format: Any, compressing: tuple[type, ...]) -> str:
    """What the objects of a class are to a file; empty if nothing."""
    if issubclass(cls, io.FileIO):
        return "raw"
    if issubclass(cls, _BUFFERS):
        return "buffer"
    if issubclass(cls, io.TextIOWrapper):
        return "text"
    if csv_format is not None and issubclass(cls, csv_format):
        return "csv"
    return "compressed" if issubclass(cls, compressing) else ""


def _below(layer: Any, name: str) -> Any:
    try:
        return getattr(layer, name)
    except ValueError:  # it was detached
        return None


def _native(fd: int) -> str | None:
    """Why a file that no object of Python stands for cannot be brought back; None if it may be no output at all."""
    try:
        with open(_path_of(fd), "rb") as file:
            begins = file.read(16)
    except OSError:
        return None
    for start, name in _DATABASES:
        if begins.startswith(start):
            return _REWRITTEN.format(name)
    return None


def _path_of(fd: int) -> str:
    try:
        return os.readlink(f"{_DESCRIPTORS}/{fd}")
    except OSError:
        return f"descriptor {fd}"
