"""What a checkpoint says of the files that a run writes, as JSON. Knows no files.

It comes from a checkpoint, which may be forged: what it says is only compared with what is there, or used as a
number that is checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from perdure.errors import DamagedError

_MOST = 100_000


@dataclass(frozen=True)
class Entry:
    """One file, as it was at a checkpoint.

    :param kind: of the writer.
    :param path: where it was; only for finding the writer that has it now.
    :param inside: the same from the directory of the run on, if it lies in there.
    :param place: which one it is of the files of its kind at this path, where the path is that of a directory.
    :param name: of the file, where the path is that of a directory.
    :param length: in bytes.
    :param digest: the checksum of so many bytes.
    :param kept: the number of the copy that the run keeps; None if it keeps none.
    :param start: from which byte on it keeps them.
    :param state: what the writer itself remembers.
    """

    kind: str
    path: str
    inside: str | None
    place: int
    name: str
    length: int
    digest: str
    kept: int | None
    start: int
    state: dict[str, Any] = field(default_factory=dict)


def write_entries(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Entries as JSON."""
    return [asdict(each) for each in entries]


def read_entries(found: object) -> list[Entry]:
    """The entries that JSON stands for.

    :param found: None stands for none.
    :raises DamagedError: if it stands for something else.
    """
    if found is None:
        return []
    try:
        if not isinstance(found, list) or len(found) > _MOST:
            raise ValueError("it is no list of files")
        return [_entry(each) for each in found]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError(
            f"what the checkpoint says of the run's output files cannot be read: {error}. Restore another checkpoint: "
            "run.resume(world, number=...)"
        ) from None


def read_notes(lines: Iterable[str]) -> list[Entry]:
    """The entries of notes: for each path the first. What a killed process has not written to its end is left out."""
    found: dict[str, Entry] = {}
    for line in lines:
        try:
            for entry in read_entries(json.loads(line)):
                found.setdefault(entry.path, entry)
        except (DamagedError, ValueError, RecursionError):
            continue
    return list(found.values())


def _entry(found: Mapping[str, Any]) -> Entry:
    entry = Entry(**found)
    for name, kinds in (
        ("kind", str), ("path", str), ("inside", str | None), ("name", str), ("digest", str), ("state", dict),
        ("place", int), ("length", int), ("start", int), ("kept", int | None),
    ):  # fmt: skip
        if not isinstance(getattr(entry, name), kinds):
            raise ValueError(f"{name} is a {type(getattr(entry, name)).__name__}")
    numbers = (entry.place, entry.length, entry.start, entry.kept or 0)
    if min(numbers) < 0 or max(numbers) >= 1 << 62 or entry.start > entry.length:
        raise ValueError("a number is out of range")
    if "/" in entry.name or entry.name in (".", "..") or "\0" in entry.name:
        raise ValueError(f"{entry.name!r:.80} is no name of a file")
    return entry
