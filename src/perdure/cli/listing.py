"""`perdure ls`: the runs below a directory, or the checkpoints of one."""

from __future__ import annotations

import os
import socket

from rich.text import Text

from perdure.cli.output import age, console, count, error_line, print_json, score, size, table, text
from perdure.errors import StoreError
from perdure.inspect import DAMAGED, EMPTY, NEWER, OK, Look, Seen, find, look, run_document, without_directory

_STYLES = {OK: "green", DAMAGED: "bold red", NEWER: "yellow", EMPTY: "yellow"}


def list_runs(directory: str, as_json: bool) -> int:
    """Print them; returns the exit code."""
    if not os.path.isdir(directory):
        raise StoreError(f"{directory} is not a directory")
    runs = [look(path) for path in find(directory)]
    if as_json:
        print_json({"runs": [run_document(seen) for seen in runs]})
    elif not runs:
        raise StoreError(
            f"there is no run in {os.path.abspath(directory)} or below it. A run is a directory with a "
            "run.json, which perdure.Run(directory) makes."
        )
    elif runs[0].path == directory:
        _print_checkpoints(runs[0])
    else:
        _print_runs(runs, directory)
    if not as_json:
        print_problems(runs)
    if any(_is_damaged(seen) for seen in runs):
        return 1
    return 0 if runs else 2


def _is_damaged(seen: Look) -> bool:
    return seen.state == DAMAGED or any(each.state == DAMAGED for each in seen.checkpoints)


def print_problems(runs: list[Look]) -> None:
    """What is wrong with runs, on standard error."""
    for seen in runs:
        for problem in seen.problems:
            error_line(f"{seen.path}: {without_directory(problem, seen.path)}")
        for each in seen.checkpoints:
            if each.state == NEWER:
                error_line(f"{seen.path}: {without_directory(each.problem, seen.path)}")


def _print_runs(runs: list[Look], top: str) -> None:
    made = table(
        "run", "step", "kept", "best", "size", "written", "state",
        right=("step", "kept", "best", "size"), elastic=("run", "state"),
    )  # fmt: skip
    for seen in runs:
        made.add_row(
            text(os.path.relpath(seen.path, top), "bold"),
            "" if seen.newest is None else f"{seen.newest.step:,}",
            str(len(seen.checkpoints)),
            "" if seen.best is None else score(seen.best[0]),
            size(seen.nbytes),
            age(seen.written) if seen.written else "",
            state_of(seen),
        )
    console().print(made)


def state_of(seen: Look) -> Text:
    """The state of a run, and who is writing to it."""
    shown = text(seen.state, _STYLES.get(seen.state, "bold red"))
    if seen.holder is not None:
        # "ok" goes without saying then.
        shown = (
            text(used_by(seen), "cyan")
            if seen.state in (OK, EMPTY)
            else shown + Text(", ") + text(used_by(seen), "cyan")
        )
    return shown


def used_by(seen: Look) -> str:
    """Who is writing to a run, in words."""
    assert seen.holder is not None
    if seen.holder.pid is None:
        return "in use"
    where = "" if seen.holder.host == socket.gethostname() else f" on {seen.holder.host}"
    return f"in use by {seen.holder.pid}{where}"


def _print_checkpoints(seen: Look) -> None:
    out = console()
    what = f"{count(len(seen.checkpoints), 'checkpoint')}, {size(seen.nbytes)} on disk, "
    out.print(text(seen.path, "bold") + Text(f"  {what}") + state_of(seen), overflow="fold")
    if not seen.checkpoints:
        return
    made = table(
        "checkpoint", "step", "written", "arrays", "metrics", "tags", "state",
        right=("checkpoint", "step", "arrays"), elastic=("metrics", "tags", "state"),
    )  # fmt: skip
    for each in seen.checkpoints:
        made.add_row(*_row(each))
    out.print()
    out.print(made)


def _row(each: Seen) -> tuple[str | Text, ...]:
    info = each.info
    state = text(each.state, _STYLES[each.state])
    if not info.created:
        return str(info.number), "", "", "", "", "", state
    return (
        str(info.number),
        f"{info.step:,}",
        age(info.created),
        size(info.bytes),
        text(values(info.metrics or {})),
        text(", ".join(info.tags)),
        state,
    )


def values(named: object) -> str:
    """Metrics or counters on one line."""
    if not isinstance(named, dict):
        return ""
    return ", ".join(
        f"{name} {score(value) if isinstance(value, float) else value}" for name, value in named.items()
    )
