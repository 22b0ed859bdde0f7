"""The checksums of the files that were published together: `.SHA256SUMS`, in the format of the `sha256sum` tool.

It knows files and their checksums, and nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from perdure.errors import DamagedError
from perdure.store import read_small

FILE = ".SHA256SUMS"

#: What to do about a damaged file; a part of the messages.
REMEDY = "Restore from another version (a policy_epoch_….pt, another run) or a backup."

_LONGEST = 1 << 26
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def write(directory: str, known: dict[str, str] | None = None) -> None:
    """Write the checksums of all files in `directory`.

    :param known: checksums to write as they are given, without reading the file.
    """
    names = [name for name in _files(directory) if name.isprintable()]  # one line for each
    lines = [
        f"{(known or {}).get(name) or digest(os.path.join(directory, name))}  {name}\n"
        for name in sorted(names)
    ]
    Path(directory, FILE).write_text("".join(lines))


def read(directory: str | os.PathLike[str]) -> dict[str, str]:
    """The checksums of the files in `directory` by name; none if there is no list.

    :raises DamagedError: if the list is damaged or cannot be read.
    """
    file = Path(directory, FILE)
    try:
        content = read_small(os.fspath(file), _LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DamagedError(f"{file} cannot be read: {error.strerror}.") from error
    try:
        # Not `splitlines`, which has other ends of lines too: a damaged one must not pass for one.
        *lines, end = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise DamagedError(f"{file} is damaged: {error}.") from error
    sums: dict[str, str] = {}
    for line in lines:
        expected, space, name = line.partition("  ")
        if not (_DIGEST.fullmatch(expected) and space and _is_name(name)) or name in sums:
            raise DamagedError(
                f"{file} is damaged: {line!r:.200} is not a checksum and a name of a file beside it."
            )
        sums[name] = expected
    if end:
        raise DamagedError(f"{file} is damaged: it was cut off within a line.")
    return sums


def verify(directory: str | os.PathLike[str]) -> None:
    """Check every file in `directory` against its checksum; without a list nothing is checked.

    :raises DamagedError: if a file is missing, added or changed, or the list is damaged.
    """
    sums = read(directory)
    for name, expected in sums.items():
        file = os.path.join(directory, name)
        if not os.path.isfile(file):
            raise DamagedError(f"{file} is missing; {FILE} beside it lists it. {REMEDY}")
        compare(file, digest(file), expected)
    if not os.path.lexists(os.path.join(directory, FILE)):
        return
    # A list that was cut off between two lines looks whole.
    for name in _files(directory):
        if name not in sums and name.isprintable():
            raise DamagedError(
                f"{os.path.join(directory, name)} is not in {FILE} beside it: the list was cut off, or the file was "
                "added later and does not belong there."
            )


def is_as_written(directory: str | os.PathLike[str], name: str) -> bool:
    """Whether a file is in the list of `directory`, and has the content that it was written with."""
    file = os.path.join(directory, name)
    return os.path.isfile(file) and read(directory).get(name) == digest(file)


def compare(file: str, found: str, expected: str) -> None:
    """Check that a file has the checksum that it was written with.

    :raises DamagedError: if it has not.
    """
    if found != expected:
        raise DamagedError(
            f"{file} is damaged: its SHA-256 is {found[:12]}…, but {expected[:12]}… when it was written. "
            f"Nothing of it was used. {REMEDY}"
        )


def digest(file: str) -> str:
    """The SHA-256 of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(directory: str | os.PathLike[str]) -> Iterator[str]:
    """The files below a directory, but for the list, relative to it."""
    for folder, _, names in os.walk(directory):
        for name in sorted(names):
            file = Path(folder, name).relative_to(directory).as_posix()
            if file != FILE:
                yield file


def _is_name(name: str) -> bool:
    return (
        name.isprintable()
        and "\\" not in name
        and not any(part in ("", ".", "..") for part in name.split("/"))
    )
