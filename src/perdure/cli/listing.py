"""`perdure ls`: the runs below a directory, or the checkpoints of one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from perdure.cli.output import age, console, count, error_line, print_json, score, size, table, text
from perdure.errors import StoreError
from perdure.inspect import RunStatus, find_runs, look, without_directory
from perdure.state import without_secrets
from perdure.store import CheckpointStatus, to_plain

_STYLES = {"ok": "green", "newer format": "yellow", "no checkpoint": "yellow"}


def list_runs(directory: str, as_json: bool) -> int:
    """Print them; returns the exit code."""
    if not os.path.isdir(directory):
        raise StoreError(f"{directory} is not a directory")
    closed: list[str] = []
    found = list(find_runs(directory, closed))
    # Of many runs, only what the table shows.
    briefly = not as_json and found != [directory]
    runs = [look(path, briefly=briefly) for path in found]
    if closed:
        some = ", ".join(
            path if len(path) < 200 else f"{path[:200]}\N{HORIZONTAL ELLIPSIS}" for path in closed[:3]
        )
        error_line(f"note: {count(len(closed), 'directory', 'directories')} could not be looked into: {some}")
    if as_json:
        print_json({"runs": [run_document(run) for run in runs]})
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
    if any(run.damaged for run in runs):
        return 1
    return 0 if runs else 2


# -- for people -----------------------------------------------------------------------------------------------


def print_problems(runs: list[RunStatus]) -> None:
    """What is wrong with runs, on standard error."""
    for run in runs:
        newer = [each.problem for each in run.checkpoints if each.verdict == "newer format"]
        for problem in run.problems + newer:
            error_line(f"{run.path}: {without_directory(problem, run.path)}")


def _print_runs(runs: list[RunStatus], top: str) -> None:
    made = table(
        "run", "step", "kept", "best", "size", "written", "state",
        right=("step", "kept", "best", "size"), elastic=("run", "state"),
    )  # fmt: skip
    for run in runs:
        made.add_row(
            text(os.path.relpath(run.path, top), "bold"),
            "" if run.newest is None else f"{run.newest.step:,}",
            str(len(run.checkpoints)),
            "" if run.best is None else score(run.best.score),
            size(run.nbytes),
            age(run.written) if run.written else "",
            state_of(run),
        )
    console().print(made)


def state_of(run: RunStatus) -> Text:
    """The state of a run, and which process is writing to it."""
    state = _styled(run.state)
    if run.holder is None:
        return state
    where = "" if run.holder.host in ("", socket.gethostname()) else f" on {run.holder.host}"
    used = text("in use" if run.holder.pid is None else f"in use by {run.holder.pid}{where}", "cyan")
    # "ok" goes without saying then.
    return used if run.state in ("ok", "no checkpoint") else state + Text(", ") + used


def _styled(state: str) -> Text:
    return Text(state, _STYLES.get(state, "bold red"))


def _print_checkpoints(run: RunStatus) -> None:
    out = console()
    what = f"{count(len(run.checkpoints), 'checkpoint')}, {size(run.nbytes)} on disk, "
    out.print(text(run.path, "bold") + Text(f"  {what}") + state_of(run), overflow="fold")
    if not run.checkpoints:
        return
    made = table(
        "checkpoint", "step", "written", "arrays", "metrics", "tags", "state",
        right=("checkpoint", "step", "arrays"), elastic=("metrics", "tags", "state"),
    )  # fmt: skip
    for each in run.checkpoints:
        made.add_row(*_row(each))
    out.print()
    out.print(made)


def _row(status: CheckpointStatus) -> tuple[str | Text, ...]:
    info, state = status.info, _styled(status.verdict)
    if status.manifest is None:
        return str(info.number), "", "", "", "", "", state
    return (
        str(info.number),
        f"{info.step:,}",
        age(info.created),
        size(info.bytes),
        text(values(info.metrics)),
        text(", ".join(info.tags)),
        state,
    )


def values(named: Mapping[str, Any] | None) -> str:
    """Metrics or counters on one line."""
    return ", ".join(
        f"{name} {score(value) if isinstance(value, float) else value}"
        for name, value in without_secrets(named or {})[0].items()
    )


def _open(named: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Metrics or counters without the secrets that an older checkpoint may have in them."""
    return None if named is None else without_secrets(named)[0]


# -- for programs ---------------------------------------------------------------------------------------------


def run_document(run: RunStatus) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "path": os.path.abspath(run.path),
        "id": run.run.id if run.run else None,
        "created": run.run.created if run.run else None,
        "written": run.written or None,
        "step": run.newest.step if run.newest else None,
        "best": run.best and vars(run.best),
        "bytes_on_disk": run.nbytes,
        "state": run.state,
        "problems": run.problems,
        "in_use_by": run.holder and vars(run.holder),
        "checkpoints": [checkpoint_document(each) for each in run.checkpoints],
    }


def checkpoint_document(status: CheckpointStatus) -> dict[str, Any]:
    """A checkpoint as JSON."""
    info, known = status.info, status.manifest is not None
    return {
        "number": info.number,
        "state": status.verdict,
        "problem": status.problem or None,
        "step": info.step if known else None,
        "created": info.created or None,
        "bytes": info.bytes if known else None,
        **{
            name: to_plain(_open(getattr(info, name)), name)
            for name in ("metrics", "counters", "versions", "process")
        },
        "tags": list(info.tags),
    }
