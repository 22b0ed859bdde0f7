"""What the same command meets when it is started again: a run that another job holds, one that is finished, or one that
it cannot find, because the directory's name holds the time. Knows names of directories, and no states."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from perdure.run._user_frames import user_sources

#: What tells the tasks of an array job apart, by scheduler.
_TASKS = ("SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX")
_DAY = 86_400
#: Seconds, and thousandths, millionths and billionths of them.
_UNITS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
_UUID = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{8}(-?)[0-9a-f]{4}\1[14][0-9a-f]{3}\1[89ab][0-9a-f]{3}\1[0-9a-f]{12}(?![0-9a-f])",
    re.I,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_TIME = r"(?:[T_ .-]*(?P<hour>[01]\d|2[0-3])[-_:.h]?[0-5]\d(?:[-_:.m]?[0-5]\d)?(?!\d))?"
_DATES = tuple(
    re.compile(rf"(?<![0-9]){date}{_TIME}", re.I)
    for date in (
        r"(?P<year>20\d\d)[-_.]?(?P<month>0\d|1[0-2])[-_.]?(?P<day>[0-3]\d)(?!\d{1,3}(?:\D|$))",
        r"(?P<day>[0-3]?\d)[-_.](?P<month>\d\d)[-_.](?P<year>20\d\d)",
        r"(?P<month>\d\d)[-_.](?P<day>[0-3]?\d)[-_.](?P<year>20\d\d)",
        rf"(?<![a-z])(?P<name>{'|'.join(_MONTHS)})[-_ ]?(?P<day>[0-3]\d)(?!\d)",
        rf"(?P<day>[0-3]?\d)[-_ ]?(?P<name>{'|'.join(_MONTHS)})(?![a-z])",
    )
)


def task() -> dict[str, str]:
    """Which task of an array job this process is; empty if it is none."""
    found = next((name for name in _TASKS if os.environ.get(name, "undefined") != "undefined"), None)
    return {} if found is None else {found: os.environ[found]}


def other_task(then: Mapping[str, object]) -> str | None:
    """What to say if another task of an array job wrote the checkpoint that is resumed; None if it was this one.

    :param then: what `task` was for the process that wrote it.
    """
    now = task()
    if not then or not now or dict(then) == now:
        return None
    (name, number), (_, before) = next(iter(now.items())), next(iter(then.items()))
    return (
        f"this is task {number} of an array job, and it goes on with the run of task {before!s:.40}. If each task is "
        f'to be a run, give each a directory: perdure.Run(f"runs/name-{{os.environ[{name!r}]}}")'
    )


def how_to_tell_apart(directory: str, *, is_ours: bool) -> str:
    """What to do where the directory is held already.

    :param is_ours: whether this very process holds it.
    """
    if is_ours:
        return (
            "It is this process itself that has opened it before (in another cell of a notebook, say): close that Run "
            "first, run.close(), or open it in a `with` statement"
        )
    name = next(iter(task()), None)
    varying = f"os.environ[{name!r}]" if name is not None else "args.seed"
    example = f'perdure.Run(f"{_short(directory)}-{{{varying}}}")'
    if name is not None:
        return f"This is a task of an array job, and each task needs a directory of its own: {example}"
    return (
        "If both are to train, as jobs with other seeds or tasks of an array (SLURM_ARRAY_TASK_ID), each needs a "
        f"directory of its own: {example}"
    )


def finished(directory: str, done: str) -> str:
    """What to say where nothing is left to do.

    :param done: what was done, as a sentence.
    """
    return (
        f"{_short(directory)}: this run is finished: {done}. To train longer, ask for more; to begin anew, choose "
        f"another directory, or remove this one: rm -r {_short(directory)}"
    )


def never_found_again(directory: str) -> str | None:
    """What to say if the same command will not find a new run again, because the directory's name holds the time or a
    random number; None if it will.

    What stands in the command or in the script as it is stays the same.
    """
    parts = Path(directory).parts
    for position, part in enumerate(parts):
        for piece, what in _varying(part):
            if any(piece in argument for argument in sys.argv[1:]):
                continue
            if any(piece in source for source in user_sources()):
                continue
            stable = _without(part, piece)
            shown = _short(
                str(Path(*parts[:position], stable or "name-of-the-experiment", *parts[position + 1 :]))
            )
            earlier = _earlier(Path(*parts[:position]), parts[position + 1 :], part, piece)
            return (
                f"the name of {_short(directory)} holds {what} ({piece}): the same command will use another directory "
                f"next time, so that it never goes on with this run. {earlier}Give the run a name that stays the same, "
                f'of what makes it another experiment (its name, its seed): perdure.Run("{shown}")'
            )
    return None


def _varying(part: str) -> Iterator[tuple[str, str]]:
    """What in a name differs from one start to the next, and what it is."""
    for number in re.finditer(r"(?<!\d)\d{10,19}(?!\d)", part):
        unit = _UNITS.get(len(number[0]))
        if unit is not None and abs(int(number[0]) / unit - time.time()) < _DAY:
            yield number[0], "the time"
    for pattern in _DATES:
        for found in pattern.finditer(part):
            if _is_today(found.groupdict()):
                yield found[0], "the time" if found["hour"] else "the date"
    for uuid in _UUID.finditer(part):
        yield uuid[0], "a random number"


def _is_today(date: Mapping[str, str | None]) -> bool:
    """Whether a date is that of now, give or take a day: a script may use UTC."""
    now = datetime.now()
    named = date.get("name")
    month = _MONTHS.index(named.lower()) + 1 if named else int(date["month"] or 0)
    try:
        found = datetime(int(date.get("year") or now.year), month, int(date["day"] or 0))
    except ValueError:
        return False
    return abs((found - datetime(now.year, now.month, now.day)).days) <= 1


def _without(part: str, piece: str) -> str:
    before, _, after = part.partition(piece)
    return before.rstrip("_-. ") + (after if before.rstrip("_-. ") else after.lstrip("_-. "))


def _earlier(parent: Path, below: tuple[str, ...], part: str, piece: str) -> str:
    """How many runs of the same name, of other times, are there already."""
    before, _, after = part.partition(piece)
    try:
        names = [name for name in os.listdir(parent) if name != part and len(name) == len(part)]
    except OSError:
        return ""
    alike = [name for name in names if name.startswith(before) and name.endswith(after)]
    found = (
        [name for name in alike if parent.joinpath(name, *below, "run.json").is_file()]
        if before or after
        else []
    )
    if not found:
        return ""
    newest = _short(str(parent.joinpath(max(found), *below)))
    return f"{len(found)} earlier run(s) of that name are there, the last one in {newest}. "


def _short(directory: str) -> str:
    """A directory, absolute or relative, whichever is shorter."""
    return min(os.path.abspath(directory), os.path.relpath(directory), key=len)
