"""What a run says once: which secrets its checkpoints leave out, and which places stay this process's own. Knows no
files."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import perdure
from perdure.state import ENVIRONMENT, SECRET, Report, grouped
from perdure.tree import Omitted, State

#: Where code lies that no user wrote for this run.
_OTHERS = (
    *(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")),
    str(Path(perdure.__file__).parent),
)
_MOST = 3
_LONGEST = 80


def secrets(state: State) -> str | None:
    """Which secrets a state leaves out: their paths, never their values; None if it leaves out none."""
    reasons = (SECRET, ENVIRONMENT)
    paths = [path for path, node in state.leaves() if isinstance(node, Omitted) and node.reason in reasons]
    if not paths:
        return None
    return (
        f"left out of the checkpoints as secrets: {_some(paths)}. They stay as the script sets them; "
        "perdure.secrets(allow=[name]) keeps what is none"
    )


def places(report: Report) -> str | None:
    """Which places stay this process's own; None if all are those of the checkpoint."""
    paths: dict[str, list[str]] = {}
    for path, saved, used in report.places:
        paths.setdefault(f"{_short(used)} instead of {_short(saved)}", []).append(path)
    if not paths:
        return None
    return "places are those of this process: " + _some(
        (f"{what} ({_some(where)})" for what, where in paths.items()), "; "
    )


def dropped(report: Report) -> list[str]:
    """What a checkpoint has and the run goes on without, because it was asked to: a line for each kind."""
    lost = report.mismatched + report.unexpected
    lost += [(path, "a part of it cannot be restored") for path in report.incomplete]
    lines = [
        f"dropped from the checkpoint (strict=False): {line.strip()}" for line in grouped(lost).splitlines()
    ]
    if report.missing:
        lines.append(f"not in the checkpoint, and as the script builds it: {_some(report.missing)}")
    return lines


def user_level() -> int:
    """The `stacklevel` for a warning from the calling function: that of the line in the user's script."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OTHERS):
        frame, level = frame.f_back, level + 1
    return level


def _some(found: Iterable[str], between: str = ", ") -> str:
    listed = list(found)
    more = f" and {len(listed) - _MOST} more" if len(listed) > _MOST else ""
    return between.join(listed[:_MOST]) + more


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"\N{HORIZONTAL ELLIPSIS}{text[-_LONGEST:]}")
