"""What a run says once: which secrets its checkpoints leave out, which places stay this process's own, and what is
different here from where the checkpoint was written. Knows no files."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.run import _same_command
from perdure.run._process_record import differences, machine
from perdure.state import ENVIRONMENT, SECRET, Report, grouped
from perdure.store import CheckpointInfo, library_versions
from perdure.tree import Omitted, State

_MOST = 3
_LONGEST = 80


def secrets(state: State) -> str | None:
    """Which secrets a state leaves out: their paths, never their values; None if it leaves out none."""
    reasons = (SECRET, ENVIRONMENT)
    paths = [path for path, node in state.leaves() if isinstance(node, Omitted) and node.reason in reasons]
    return left_out(paths) if paths else None


def left_out(paths: Iterable[str]) -> str:
    """That the strings at these paths are left out."""
    return (
        f"left out of the checkpoints as secrets: {some(paths)}. They stay as the script sets them; "
        "perdure.secrets(allow=[name]) keeps what is none"
    )


def places(report: Report) -> str | None:
    """Which places stay this process's own; None if all are those of the checkpoint."""
    paths: dict[str, list[str]] = {}
    for path, saved, used in report.places:
        own = _short(used) if used else "what the script has"
        paths.setdefault(f"{own} instead of {_short(saved)}", []).append(path)
    if not paths:
        return None
    return "places are those of this process: " + some(
        (f"{what} ({some(where)})" for what, where in paths.items()), "; "
    )


def dropped(report: Report) -> list[str]:
    """What a checkpoint has and the run goes on without, because it was asked to: a line for each kind."""
    lost = report.mismatched + report.unexpected
    lost += [(path, "a part of it cannot be restored") for path in report.incomplete]
    lines = [
        f"dropped from the checkpoint (strict=False): {line.strip()}" for line in grouped(lost).splitlines()
    ]
    if report.missing:
        lines.append(f"not in the checkpoint, and as the script builds it: {some(report.missing)}")
    return lines


def elsewhere(info: CheckpointInfo) -> str | None:
    """What is different here from the process that wrote a checkpoint; None if nothing is that may matter."""
    found = differences(info.versions or {}, library_versions())
    then = (info.process or {}).get("machine")
    found += differences(then if isinstance(then, dict) else {}, machine())
    if not found:
        return None
    return f"the run may not go on bit-identically, because something is different here: {'; '.join(found)}"


def other_task(info: CheckpointInfo) -> str | None:
    """That another task of an array job wrote a checkpoint; None if it was this one, or none."""
    then = (info.process or {}).get("task")
    return _same_command.other_task(then) if isinstance(then, dict) else None


def some(found: Iterable[str], between: str = ", ") -> str:
    listed = list(found)
    more = f" and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return between.join(listed[:_MOST]) + more


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"\N{HORIZONTAL ELLIPSIS}{text[-_LONGEST:]}")
