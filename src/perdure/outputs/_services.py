"""Services that get a training's curves: which run of theirs this process writes to, and where it is in it.

What is sent cannot be taken back. So what matters is that each process writes to the same run, with the same numbers of
steps. Knows the libraries only where the script has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

#: For each service how a script goes on with a run of it.
_REMEDIES = {
    "W&B": 'wandb.init(id="{id}", resume="allow", ...)',
    "MLflow": 'mlflow.start_run(run_id="{id}")',
}


def _live() -> dict[str, tuple[str, Any]]:
    """The runs that this process writes to: their ids, and the objects that stand for them."""
    found: dict[str, tuple[str, Any]] = {}
    if (run := getattr(sys.modules.get("wandb"), "run", None)) is not None:
        found["W&B"] = str(run.id), run
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and (run := mlflow.active_run()) is not None:
        found["MLflow"] = str(run.info.run_id), run
    return found


def services() -> dict[str, dict[str, Any]]:
    """What a checkpoint says of them."""
    found: dict[str, dict[str, Any]] = {}
    for name, (identity, run) in _live().items():
        step = vars(run).get("_local_step")
        found[name] = {"id": identity, **({"step": step} if isinstance(step, int) else {})}
    return found


def go_on_with(recorded: object, say: Callable[[str], None]) -> None:
    """Count on where the checkpoint was, or say that this process writes to another run of a service.

    :param recorded: what `services` gave for the checkpoint; anything else is left out.
    :param say: tells the user one line.
    """
    if not isinstance(recorded, Mapping):
        return
    for name, (identity, run) in _live().items():
        before = recorded.get(name)
        if not isinstance(before, Mapping) or not isinstance(before.get("id"), str):
            continue
        if before["id"] != identity:
            remedy = _REMEDIES[name].format(id=before["id"][:100])
            say(
                f"{name}: this process writes to the run {identity}, the checkpoint is of the run "
                f"{before['id'][:100]!r}. To go on with that one: {remedy}"
            )
        elif isinstance(before.get("step"), int) and isinstance(vars(run).get("_local_step"), int):
            # W&B leaves out rows of steps that it has already.
            run._local_step = before["step"]


def notices() -> list[str]:
    """What the user should know at the first checkpoint."""
    found = []
    for name, (identity, run) in _live().items():
        if name == "W&B" and getattr(getattr(run, "settings", None), "resume", None):
            continue
        found.append(
            f"{name}: what was sent after the checkpoint stays there when the run is resumed, and a new process begins "
            f"another run there. To go on with the same one: {_REMEDIES[name].format(id=identity)}"
        )
    return found
