"""Which live writer goes on with which file of a checkpoint. Knows paths only as texts, and opens nothing.

The path of the file that a writer goes on with is the writer's own, or differs from it in digits only: directories that
are numbered at each start, and names that hold the time, are those of the run's first process.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from perdure.outputs._record import Entry
from perdure.outputs._writers import Writer

_DIGITS = re.compile(r"\d+")
#: A name of a file is that of another start only if it has as many digits as a moment has.
_DIGITS_OF_A_MOMENT = 6


class Match(NamedTuple):
    """A writer, its file at the checkpoint, and the path with which it goes on."""

    writer: Writer
    entry: Entry
    path: str


@functools.lru_cache(maxsize=4096)
def inside(directory: str, path: str) -> str | None:
    """A path from the directory of the run on; None if it does not lie in there."""
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(directory))
    return None if relative == os.pardir or relative.startswith(os.pardir + os.sep) else relative


def match(
    writers: Sequence[Writer], entries: Sequence[Entry], directory: str
) -> tuple[list[Match], list[Entry]]:
    """Find the file of each writer, and the files that have no writer.

    :param directory: of the run.
    """
    found: list[Match] = []
    left = list(entries)
    without = list(writers)

    def pair(same: Callable[[Writer, Entry], bool]) -> None:
        for writer in list(without):
            for entry in left:
                if (entry.kind == "events") == (writer.kind == "events") and same(writer, entry):
                    path = entry.path if same is _same_but_for_digits else writer.path
                    found.append(Match(writer, entry, path))
                    left.remove(entry)
                    without.remove(writer)
                    break

    pair(lambda writer, entry: writer.path == entry.path)
    pair(lambda writer, entry: entry.inside is not None and inside(directory, writer.path) == entry.inside)
    pair(_same_but_for_digits)
    # A job with another output directory has its files there.
    names = [(each.kind == "events", os.path.basename(each.path)) for each in left]
    pair(
        lambda writer, entry: (
            os.path.basename(writer.path) == os.path.basename(entry.path)
            and names.count((entry.kind == "events", os.path.basename(entry.path))) == 1
        )
    )
    return found, left


def _same_but_for_digits(writer: Writer, entry: Entry) -> bool:
    live, saved = writer.path, entry.path
    if _DIGITS.sub("0", live) != _DIGITS.sub("0", saved):
        return False
    if writer.kind == "events":
        return True
    if not writer.truncates and writer.kind == "appended":
        return False  # it is where the script opens it
    name = os.path.basename(live)
    return name == os.path.basename(saved) or sum(map(str.isdigit, name)) >= _DIGITS_OF_A_MOMENT
