"""`run_script`: runs a training script so that the same command, started again, goes on where it was."""

from __future__ import annotations

import ast
import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from perdure.errors import DamagedError, LockedError, ScriptError, is_users_file
from perdure.run import say, shown
from perdure.run.loops import needed_names
from perdure.script._libraries import LIBRARIES
from perdure.script._record import Record, directory_of, read_record, same_command, write_record
from perdure.script._sources import Source, find_script, sources
from perdure.script._training_loops import TrainingLoop, loops_at, training_loops

_LOCK = "script.lock"
_LOOKED_FOR = (
    "no training loop was found. What was looked for: a `for` or `while` loop that steps an environment "
    "(`env.step(action)`) or learns (`loss.backward()`, `optimizer.step()`), itself or through functions of the script"
)


@dataclass(frozen=True)
class Script:
    """A script, its arguments, and what is made resumable in it.

    :param files: its source files; the script itself is the first.
    :param module: its name, if it is started with `-m`.
    :param arguments: what it is given.
    :param loops: its training loops.
    :param libraries: the libraries whose training calls are made resumable.
    """

    files: list[Source]
    module: str
    arguments: list[str]
    loops: list[TrainingLoop] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.files[0].path

    @property
    def command(self) -> list[str]:
        """What tells this run from others: the script and its arguments."""
        return [self.module or min(str(self.path), os.path.relpath(self.path), key=len), *self.arguments]


def read_script(
    script: str, arguments: Sequence[str], *, is_module: bool = False, lines: Sequence[str] = ()
) -> Script:
    """Read a script and find its training loops. Nothing of it is run.

    :param script: a file, or with `is_module` the name of a module.
    :param arguments: what it is to be given.
    :param lines: the lines in which loops begin that are to be made resumable instead of those that are found.
    :raises ScriptError: if it cannot be read, or nothing is found in it that trains.
    """
    if is_module:
        path, package = find_script(script)
    else:
        path, package = Path(script).resolve(), ""
        if path.is_dir():
            path /= "__main__.py"
    files = sources(path, package=package) if is_users_file(str(path)) else [_unread(path)]
    libraries = _libraries(files, script if is_module else "")
    loops = loops_at(files, lines) if lines else training_loops(files)
    if not loops and not libraries:
        raise ScriptError(
            f"{path.name}: {_LOOKED_FOR}. If the script has one, name the line in which it begins: --loop LINE. "
            f"Training calls of {', '.join(sorted(set(LIBRARIES.values())))} need no loop"
        )
    return Script(files, script if is_module else "", list(arguments), loops, libraries)


def directory_for(script: Script, directory: str | None) -> str:
    """The directory of a script's run: the given one, or the one that the command determines."""
    return os.path.abspath(directory or directory_of(script.command, script.path))


def described(script: Script, directory: str, cadence: str) -> list[str]:
    """What would be done with a script, line by line: its loops, why they were chosen, and their variables."""
    lines = []
    for loop in script.loops:
        needed = needed_names(loop.source.tree, loop.scope, loop.node)
        assigned = needed.assigned | _plain_names(loop)
        shown_names = [name for name in needed.names if name in assigned]
        lines += [
            f"{loop}",
            f"  it {loop.why}",
            f"  saved: {', '.join(shown_names) or 'nothing'}",
        ]
    lines += [
        f"training calls of {name} are made resumable where the script makes them"
        for name in script.libraries
    ]
    lines.append(f"the run is in {shown(directory)}, a checkpoint every {cadence}")
    return lines


def run_script(
    script: Script,
    *,
    directory: str | None = None,
    every: int | None = None,
    seconds: float | None = None,
    fresh: bool = False,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run a script in this process. What it raises is raised.

    :param directory: of the run; by default one below `perdure-runs` that the command determines.
    :param every: rounds, or steps of a library's training, between two checkpoints.
    :param seconds: time between two checkpoints; a minute if neither is given.
    :param fresh: begin anew; what is in the directory is set aside.
    :param options: of :class:`perdure.Run`.
    :raises LockedError: if the same command is running.
    :raises ScriptError: if the directory is of another command.
    """
    where = directory_for(script, directory)
    if every is None and seconds is None:
        seconds = 60.0
    if fresh:
        set_aside(where)
    os.makedirs(where, exist_ok=True)
    with _locked(where):
        record = _record(script, where)
        if record.finished:
            say(
                f"this command is finished: it came to its end on {record.finished}, and its run is in "
                f"{shown(where)}. To run it anew: perdure run --fresh ..."
            )
            return
        _begin(script, where, every, seconds)
        _execute(script, where, record, every, seconds, options or {})


def _execute(
    script: Script,
    where: str,
    record: Record,
    every: int | None,
    seconds: float | None,
    options: Mapping[str, Any],
) -> None:
    from perdure.script._execute import execute
    from perdure.script._session import Session

    loops = dict(enumerate(script.loops))
    session = Session(where, record, loops, every, seconds, options)
    try:
        execute(script.files, loops, session, script.arguments, script.module)
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        _finish(session, where, record)
        raise
    finally:
        session.close()
    _finish(session, where, record)


def _finish(session: Any, where: str, record: Record) -> None:
    session.close()
    if not session.entered:
        say("the script came to its end without training, so there is nothing to resume")
        return
    record.finished = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
    write_record(where, record)


def _begin(script: Script, where: str, every: int | None, seconds: float | None) -> None:
    what = "; ".join(map(str, script.loops)) or f"training calls of {', '.join(script.libraries)}"
    say(f"the training is {what}")
    say(
        f"a checkpoint every {cadence(every, seconds)} in {shown(where)}; the same command goes on from there"
    )


def cadence(every: int | None, seconds: float | None) -> str:
    """How often checkpoints are taken, in words."""
    if every is None and seconds is None:
        return "minute"
    parts = ([] if every is None else [f"{every} rounds"]) + ([] if seconds is None else [f"{seconds:g} s"])
    return " or ".join(parts)


def _record(script: Script, where: str) -> Record:
    try:
        record = read_record(where)
    except DamagedError as error:
        raise DamagedError(
            f"{error}. Its checkpoints are in phase-1 and so on; to begin anew: --fresh"
        ) from None
    if record is None:
        if os.path.exists(os.path.join(where, "run.json")):
            raise ScriptError(
                f"{shown(where)} is the directory of another kind of run. Use another one: --dir"
            )
        record = Record(script.command, secrets.randbelow(2**31))
        write_record(where, record)
    elif (difference := same_command(record, script.command)) is not None:
        raise ScriptError(
            f"{shown(where)} is the run of another command:\n  was: {difference}\nUse another directory, or begin anew "
            "with --fresh"
        )
    return record


@contextlib.contextmanager
def _locked(where: str) -> Iterator[None]:
    lock = filelock.FileLock(os.path.join(where, _LOCK), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise LockedError(
            f"the same command is running: another process holds {shown(where)}. If both are to train, they need other "
            "arguments (a seed), or other directories (--dir)"
        ) from None
    try:
        yield
    finally:
        lock.release()


def set_aside(where: str) -> None:
    """Give a directory another name, so that the run begins anew and nothing is lost."""
    if not os.path.exists(where):
        return
    with _locked(where):
        pass
    number = 1
    while os.path.exists(aside := f"{where}.old-{number}"):
        number += 1
    os.rename(where, aside)
    say(f"what was in {shown(where)} is in {shown(aside)} now")


def _libraries(files: Sequence[Source], module: str) -> list[str]:
    """The libraries with training calls that the script uses."""
    imported = {module.partition(".")[0]}
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    return sorted({LIBRARIES[name] for name in imported & LIBRARIES.keys()})


def _unread(path: Path) -> Source:
    """A script of an installed package: it runs as it is."""
    return Source("__main__", path, ast.parse(path.read_bytes(), str(path)))


def _plain_names(loop: TrainingLoop) -> set[str]:
    """The variables that are assigned around a loop, apart from imports and definitions."""
    return {
        node.id
        for node in ast.walk(loop.scope)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
