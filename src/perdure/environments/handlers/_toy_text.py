"""Captures the transition table of a toy text environment as one array, not as ten thousand objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perdure.state import attributes_of

_NAME = "P"
_COLUMNS = 6


def fields(env: Any) -> Mapping[str, Any]:
    """The attributes of an environment, with the lists of outcomes `P[state][action]` as one array of numbers."""
    found = attributes_of(env)
    rows = _rows(found.get(_NAME))
    if rows is not None:
        found[_NAME] = rows
    return found


def _rows(table: Any) -> np.ndarray[Any, Any] | None:
    """Rows of state, action, probability, next state, reward and termination; None if it is no such table."""
    if not isinstance(table, dict):
        return None
    try:
        rows = [
            (state, action, *outcome)
            for state, actions in table.items()
            for action, outcomes in actions.items()
            for outcome in outcomes
        ]
        found = np.array(rows, np.float64)
    except (TypeError, ValueError, AttributeError):
        return None
    return found if found.ndim == 2 and found.shape[1] == _COLUMNS else None


def assign(env: Any, name: str, value: Any) -> None:
    """Set an attribute. The script's table is kept, with the types of its numbers, if the saved one is equal."""
    own = vars(env)
    present = _rows(own.get(_NAME)) if name == _NAME else None
    if present is None:
        own[name] = value
        return
    if not (isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == _COLUMNS):
        raise ValueError("expected a table of transitions, six numbers for each")
    if np.array_equal(present, value):
        return
    first = next(outcome for actions in own[_NAME].values() for each in actions.values() for outcome in each)
    kinds = [type(number) for number in first]
    table: dict[int, dict[int, list[Any]]] = {
        state: {a: [] for a in actions} for state, actions in own[_NAME].items()
    }
    for state, action, *outcome in value.tolist():
        made = tuple(kind(number) for kind, number in zip(kinds, outcome, strict=True))
        table.setdefault(int(state), {}).setdefault(int(action), []).append(made)
    own[_NAME] = table
