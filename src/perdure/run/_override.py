"""The values of the user's that win over those of a checkpoint: when they are applied, and what is said of them.

An override belongs to the command that a user starts. It is applied once: what it led to is state then, and the same
command, started again after a kill, goes on with that. So each checkpoint records which overrides it contains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from perdure.state import LiveWorld, Overridden, matches, override, override_signature, some
from perdure.tree import Object, State

_MOST = 8


class Override:
    """The overrides of one process.

    :param values: for each path (with `*` and `?`) the value, or `FROM_SCRIPT`.
    :raises TypeError: if that is something else.
    """

    def __init__(self, values: Mapping[str, Any] | None) -> None:
        if not isinstance(values or {}, Mapping) or not all(
            isinstance(pattern, str) for pattern in values or ()
        ):
            raise TypeError(
                f'override: expected paths and their values, as in {{"*.lr": 1e-4}}, found {values!r:.100}. What the '
                'script has built wins with perdure.FROM_SCRIPT: {"*.lr": perdure.FROM_SCRIPT}'
            )
        self._values = dict(values or {})

    def covers(self, path: str) -> bool:
        """Whether it says what is at a path."""
        return matches(path, tuple(self._values))

    def record(self, script: Object) -> str:
        """What a checkpoint records of it."""
        found = {
            pattern: override_signature(script, pattern, value) for pattern, value in self._values.items()
        }
        return json.dumps(found) if found else ""

    def begins(self) -> str | None:
        """What to say where a run begins, and has no checkpoint whose values could be overridden."""
        if not self._values:
            return None
        return (
            f"override ({some(list(self._values))}): the run begins now, with the values of the script, so there is "
            "nothing to override. Set the values in the script"
        )

    def apply(self, saved: State, live: LiveWorld, part: str) -> Overridden:
        """Change a checkpoint's state, but for what is part of it already.

        :param part: the name of the run's own part in the state.
        :raises RestoreError: if something does not fit; nothing was changed then.
        """
        if not self._values:
            return Overridden()
        script = live.root
        contained = _contained(saved, part)
        values = {
            pattern: value
            for pattern, value in self._values.items()
            if contained.get(pattern) != override_signature(script, pattern, value)
        }
        return override(saved, script, values, beside=part)


def _contained(saved: State, part: str) -> dict[str, Any]:
    """The overrides that a state contains."""
    record = saved.root.fields.get(part)
    text = record.fields.get("overrides") if isinstance(record, Object) else None
    try:
        found = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def told(done: Overridden) -> list[str]:
    """What an override has changed and what it has not, a line each."""
    lines = []
    if done.changed:
        shown = [f"{path} {before} -> {after}" for path, before, after in done.changed]
        lines.append(f"overridden, and part of the run from now on: {_listed(shown)}")
    if done.changed and done.kept:
        shown = [f"{path} ({value})" for path, value in done.kept]
        lines.append(
            f"not overridden, though related: {_listed(shown)}. What is computed from these goes on with them; "
            "override them too if you mean them"
        )
    return lines


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return ", ".join(texts[:_MOST]) + more
