"""The score that is published beside the best policy, so that the two are never apart: `best.json`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from perdure.persistence import versions
from perdure.persistence._events import PersistEvent, RestoreEvent
from perdure.persistence._persistence import Persistence
from perdure.store import read_small

_FILE = "best.json"
_LONGEST = 1 << 16


@dataclass(frozen=True)
class BestRecord(Persistence):
    """The score of a published policy, and the step at which it was reached. As a handler, it writes itself."""

    score: float
    step: int | None = None

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> BestRecord | None:
        """What is recorded in the directory of a run; None if there is no best policy, or no score with it."""
        name = versions.best(directory)
        if name is None:
            return None
        try:
            content = read_small(os.path.join(directory, versions.POLICIES, name, _FILE), _LONGEST)
            record: dict[str, Any] = json.loads(content)
            score, step = record["score"], record.get("step")
            # Nothing is better than NaN: it would keep every policy from being published.
            if type(score) not in (int, float) or score != score:
                return None
            return cls(float(score), step if type(step) is int else None)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    def persist(self, event: PersistEvent, world: Any) -> None:
        """Write it beside the policy."""
        with open(world.persist_path(_FILE), "w") as file:
            json.dump({"score": self.score, "step": self.step}, file)

    def restore(self, event: RestoreEvent, world: Any) -> None:
        """Restore nothing: the score is not part of the policy."""
