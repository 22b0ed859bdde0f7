"""Which strings name places on this machine, and which of a checkpoint's places this process may use. Knows no states.

Where a script writes is the process's business: another job has another output directory, and a stranger's file must
not choose what is overwritten. So a saved place is used only below a directory that the script itself names.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import PurePosixPath

#: What no operating system opens.
_LONGEST = 4096
_LONGEST_NAME = 255
_URL_OF_A_FILE = re.compile(r"file:|[A-Za-z][A-Za-z0-9+.-]*:///", re.IGNORECASE)
_HOME = re.compile(r"(~[A-Za-z0-9._-]*|\$[A-Za-z_]\w*|\$\{[A-Za-z_]\w*\})(/|$)", re.ASCII)
#: What stands before the path in the URL of a file; a path that is relative follows three slashes.
_SCHEME = re.compile(r"file:(//(?=/))?|[A-Za-z][A-Za-z0-9+.-]*:///", re.IGNORECASE)
_HOST = re.compile(r"[^/]*//[^/]*")
_REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://[^/]", re.IGNORECASE)
_EXTENSION = re.compile(r"[^/]\.[A-Za-z][A-Za-z0-9]{0,9}$")
_NUMBER = re.compile(r"[0-9]+")
#: Shorter words of the environment and the arguments are found in any name.
_FEWEST_DIGITS = 4


def is_outside(text: str) -> bool:
    """Whether a string names a place wherever the process works: an absolute path, one below a home directory, one that
    leads upwards."""
    if not text or not _can_be_opened(text):
        return False
    if text.startswith("/"):
        return text.strip("/").count("/") > 0 or os.path.lexists(text)
    return bool(_HOME.match(text) or _URL_OF_A_FILE.match(text)) or ".." in text.split("/")


def is_remote(text: str) -> bool:
    """Whether a string names a place on another machine, such as `s3://bucket/runs`."""
    return _REMOTE.match(text) is not None


def names_place(text: str) -> bool:
    """Whether a string of the script names a place; see `Places.names`."""
    return Places(()).names(text, own=True)


def is_temporary(text: str) -> bool:
    """Whether a string names a place that one process made for itself: in the directory for temporary files, or in one
    that is called as Python calls a temporary directory."""
    if not text.startswith("/") or not _can_be_opened(text):
        return False
    return _TEMPORARY.search(text) is not None or _real(text).startswith(
        os.path.realpath(tempfile.gettempdir()) + "/"
    )


_TEMPORARY = re.compile(r"/tmp[a-z0-9_]{8}(/|$)")


def _can_be_opened(text: str) -> bool:
    return (
        len(text) <= _LONGEST
        and "\0" not in text
        and (len(text) <= _LONGEST_NAME or all(len(name) <= _LONGEST_NAME for name in text.split("/")))
    )


def _arguments() -> list[str]:
    """The words of the process's arguments, the values of options among them."""
    attached = [
        argument[2:] for argument in sys.argv[1:] if argument[:1] == "-" and argument[2:3] in ("/", "~")
    ]
    words = [word for argument in sys.argv[1:] for word in {argument, argument.partition("=")[2]}] + attached
    return [word.rstrip("/") for word in words if word.strip("/.") and not word.startswith("-")]


class Places:
    """The places that a process names itself, and what becomes of a checkpoint's places there.

    :param named: the strings that the script's objects hold.
    """

    def __init__(self, named: Iterable[str]) -> None:
        self._named = named
        self._arguments = _arguments()
        words = [*self._arguments, *os.environ.values()]
        #: The longer numbers among arguments and environment: of jobs, for the most part.
        self._numbers = {word for word in words if word.isdecimal() and len(word) >= _FEWEST_DIGITS}
        self._roots: set[str] | None = None
        #: What the beginnings of saved places are called in this process.
        self._moved: dict[str, str] = {}
        self._used: dict[str, str | None] = {}
        self._there: dict[str, bool] = {}

    def names(self, text: str, *, own: bool = False) -> bool:
        """Whether a string names a place: as in `is_outside`, or a relative path that lies in a directory that there
        is, that ends like a file's, or that is made of the process's arguments or environment.

        :param own: whether the script has the string: then a single word names a directory that there is. In a
            checkpoint it may be anything ("train").
        """
        if is_outside(text):
            return True
        if not text or not _can_be_opened(text):
            return False
        if os.path.isfile(text) or any(number in text for number in self._numbers):
            return True
        if "/" not in text:
            return own and os.path.lexists(text)
        return (
            self._begins_here(text)
            or _EXTENSION.search(text) is not None
            or any(text.startswith(f"{word}/") for word in self._arguments)
        )

    def _begins_here(self, text: str) -> bool:
        """Whether the first name of a relative path is one that there is."""
        first = text.partition("/")[0]
        if first not in self._there:
            self._there[first] = os.path.lexists(first)
        return self._there[first]

    def pair(self, saved: str, live: str) -> None:
        """Note that the script has the place `live` where the checkpoint has `saved`: others have moved alike."""
        (scheme, saved), (other, live) = _split(saved), _split(live)
        if scheme != other:
            return
        old, new = PurePosixPath(saved), PurePosixPath(live)
        if _EXTENSION.search(saved) and old.name != new.name:
            old, new = old.parent, new.parent
        self._moved.setdefault(str(old), str(new))
        while old.name and old.name == new.name:
            old, new = old.parent, new.parent
            if old.name:
                self._moved.setdefault(str(old), str(new))

    def used_at(self, saved: str, live: str) -> str:
        """What is used where the checkpoint has one place and the script another. A place on another machine
        (`s3://bucket/x`) is used below the one that the script has, a page on the same host."""
        if is_remote(live):
            # Pages of one host are pages; what is stored in one bucket is stored in directories.
            allowed = _HOST.match(live)[0] if live.lower().startswith("http") else live  # type: ignore[index]
            below = saved.startswith(allowed.rstrip("/") + "/") and ".." not in saved.split("/")
            return saved if below else live
        scheme, path = _split(saved)
        own_scheme, own_path = _split(live)
        if not _can_be_opened(saved) or (scheme != own_scheme and self.names(live, own=True)):
            return live
        return scheme + self._used_at(path, own_path)

    def _used_at(self, saved: str, live: str) -> str:
        moved = self._follow(saved, above=True)
        if not self.names(live, own=True):
            return moved if self._may_use(moved, here=False) else live
        if ".." in moved.split("/"):
            return live
        here, there = _real(live), _real(moved)
        if not _is_file(live):
            return moved if there.startswith(f"{here}/") else live
        # A file that training has renamed: another one in a directory of the script, or one that differs in its number.
        if not _is_file(moved):
            return live
        beside = os.path.dirname(here) == os.path.dirname(there)
        return moved if (beside and _alike(here, there)) or self._is_below(there) else live

    def used(self, saved: str) -> str | None:
        """What is used of a place for which the script has no counterpart; None if it may not be used."""
        if saved not in self._used:
            scheme, path = _split(saved)
            moved = self._follow(path)
            # A relative path in the URL of a file is one in the working directory.
            self._used[saved] = scheme + moved if self._may_use(moved) else None
        return self._used[saved]

    def _may_use(self, text: str, here: bool = True) -> bool:
        if here and not is_outside(text) and self._stays_here(text):
            return True
        return ".." not in text.split("/") and self._is_below(_real(text))

    def _stays_here(self, text: str) -> bool:
        """Whether a relative path stays below the working directory: links may lead elsewhere."""
        return not self._begins_here(text) or _real(text).startswith(os.path.realpath(".") + "/")

    def _follow(self, saved: str, *, above: bool = False) -> str:
        """A saved place as it is called in this process, if it has moved, or a directory that it lies in.

        :param above: look at those directories only.
        """
        if not self._moved:
            return saved
        path = PurePosixPath(saved)
        for beginning in path.parents if above else (path, *path.parents):
            new = self._moved.get(str(beginning))
            if new is not None:
                return new + str(path)[len(str(beginning)) :] + ("/" if saved.endswith("/") else "")
        return saved

    def _is_below(self, real: str) -> bool:
        if self._roots is None:
            self._roots = self._find_roots()
        while real and real not in self._roots:
            real = real.rpartition("/")[0]
        return bool(real)

    def _find_roots(self) -> set[str]:
        """The directories and files that the script names; for a file also its directory, unless that is one in which
        everything lies, such as a home directory."""
        wide = {
            os.path.realpath(path)
            for path in (os.getcwd(), os.path.expanduser("~"), tempfile.gettempdir(), sys.prefix, "/")
        }
        above = {str(parent) for path in wide for parent in PurePosixPath(path).parents}
        found: set[str] = set()
        for text in (*self._named, *self._arguments):
            if not self.names(text, own=True):
                continue
            path = _real(text)
            found.add(path)
            if _is_file(text) and os.path.dirname(path) not in wide:
                found.add(os.path.dirname(path))
        return found - above - {"/"}


def _alike(one: str, other: str) -> bool:
    """Whether the names of two files differ in their numbers alone."""
    return _NUMBER.sub("#", os.path.basename(one)) == _NUMBER.sub("#", os.path.basename(other))


def _split(text: str) -> tuple[str, str]:
    """What stands before the path in the URL of a file (nothing in a path), and the path."""
    found = _SCHEME.match(text)
    return (found[0], text[found.end() :]) if found is not None else ("", text)


def _real(text: str) -> str:
    return os.path.realpath(os.path.expanduser(os.path.expandvars(_split(text)[1])))


def _is_file(text: str) -> bool:
    path = os.path.expanduser(os.path.expandvars(_split(text)[1]))
    return os.path.isfile(path) or (_EXTENSION.search(text) is not None and not os.path.isdir(path))
