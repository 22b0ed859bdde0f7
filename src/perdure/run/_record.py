"""What a run keeps of itself in its checkpoints, beside the parts of the world."""

from __future__ import annotations

from typing import Any

import numpy as np

from perdure.state import parts_of

#: The name of the run's own record beside the world's parts.
PART = "run"


class RunRecord:
    """What a run itself keeps from one process to the next; a part of every checkpoint.

    Its attributes are recorded by name, so their names are part of the file format.
    """

    #: Which overrides the run contains (see `_override`). Checkpoints of the first kind do not say it.
    overrides: str = ""

    def __init__(self) -> None:
        #: The best score that led to this checkpoint, and the step at which it was reached.
        self.best_score: float | None = None
        self.best_step: int | None = None
        #: The fingerprint of what the script had built before anything ran (see `_script_check`).
        self.script_fingerprint: np.ndarray[Any, Any] | None = None
        self.overrides = ""


class WithRecord:
    """A world with the run's record beside its parts."""

    _world: Any
    _record: RunRecord

    def __init__(self, world: Any, record: RunRecord) -> None:
        vars(self).update(_world=world, _record=record)

    def parts(self) -> dict[str, Any]:
        return {**parts_of(self._world), PART: self._record}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(self._world, dict):
            self._world[name] = value
        else:
            setattr(self._world, name, value)
