"""`perdure run` on the screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perdure.cli.output import console, text
from perdure.script import (
    Script,
    cadence,
    described,
    directory_for,
    read_script,
    run_script,
    set_aside,
    with_restarts,
)


def run_command(
    script: str,
    arguments: Sequence[str],
    *,
    is_module: bool,
    lines: Sequence[str],
    directory: str | None,
    every: int | None,
    seconds: float | None,
    keep: int | None,
    grace: float | None,
    show: bool,
    fresh: bool,
    restarts: int,
) -> int:
    """Run a script, or show what would be done; returns the exit code."""
    # As Python does: the modules of a script are beside it, those of `-m` in the current directory.
    sys.path.insert(0, os.getcwd() if is_module else os.path.dirname(os.path.realpath(script)))
    read = read_script(script, arguments, is_module=is_module, lines=lines)
    where = directory_for(read, directory)
    if show:
        for line in described(read, where, cadence(every, seconds)):
            console().print(text(line), overflow="fold")
        return 0
    if restarts:
        if fresh:
            set_aside(where)
        again = [sys.executable, "-m", "perdure.cli", "run", *(f"--loop={each}" for each in lines)]
        again += [
            f"--{name}={value}"
            for name, value in (
                ("dir", where),
                ("every", every),
                ("seconds", seconds),
                ("keep", keep),
                ("grace", grace),
            )
            if value is not None
        ]
        return with_restarts([*again, *(["-m"] if is_module else []), script, *arguments], where, restarts)
    options = {name: value for name, value in (("keep", keep), ("grace", grace)) if value is not None}
    return _run(read, where, every, seconds, fresh, options)


def _run(
    read: Script, where: str, every: int | None, seconds: float | None, fresh: bool, options: dict[str, Any]
) -> int:
    try:
        run_script(read, directory=where, every=every, seconds=seconds, fresh=fresh, options=options)
    except Exception as error:
        part = _from_the_script(error, read.path)
        if part is None:
            raise
        sys.excepthook(type(error), error.with_traceback(part), part)
        return 1
    return 0


def _from_the_script(error: BaseException, script: Path) -> Any:
    """The part of a traceback that begins in the script, as Python would show it; None if the script did not run."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename != str(script):
        found = found.tb_next
    return found
