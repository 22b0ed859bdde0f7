"""What the script built before anything ran: kept with a run, so that an edited script is noticed when it resumes.

A checkpoint's values win over the script's, a resumed run would be another one otherwise. So somebody who edits
a learning rate or a buffer's size and starts again must be told that it has no effect. Knows states, no files.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from perdure.state import is_secret_path, names_place, rng
from perdure.tree import Array, Custom, Node, NumberRun, State, children, message

_LONGEST = 60
_LONGEST_INTEGER = 196


def blueprint(state: State) -> dict[str, str]:
    """The plain values and the types and shapes of the arrays of a state, by path."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    parts = [(name, node) for name, node in state.root.fields.items() if name != rng.PART]
    stack: list[tuple[str, Any]] = parts[::-1]
    while stack:
        path, node = stack.pop()
        if isinstance(node, Node):
            # What a handler returns is state through and through: of random generators, for the most part. So is that
            # of another process.
            if id(node) in seen or isinstance(node, Custom) or getattr(node, "type", None) == message.TYPE:
                continue
            seen.add(id(node))
        if isinstance(node, Array):
            found[path] = f"{node.dtype}{list(node.shape)}"
        elif isinstance(node, NumberRun):
            found[path] = f"{node.of}{list(node.array.shape)}"
        elif isinstance(node, bool | int | float | str) and "seed" not in path and _is_short(node):
            found[path] = repr(node)
        elif isinstance(node, Node):
            stack.extend(reversed(list(children(node, path))))
    return found


def _is_short(value: bool | int | float | str) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INTEGER  # Python refuses to write very long ones
    return not (isinstance(value, str) and len(value) > _LONGEST) and len(repr(value)) <= _LONGEST


def _is_place(shown: str) -> bool:
    """Whether a value in a blueprint is a string that names a place."""
    return shown.startswith(("'", '"')) and names_place(shown[1:-1])


def pack(plan: dict[str, str]) -> np.ndarray[Any, Any]:
    """A blueprint as an array, which a store keeps once for all checkpoints."""
    return np.frombuffer(json.dumps(plan, separators=(",", ":")).encode(), np.uint8).copy()


def unpack(data: np.ndarray[Any, Any]) -> dict[str, str]:
    """The blueprint that `pack` packed.

    :raises ValueError: if it is none.
    """
    try:
        plan = json.loads(data.tobytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return {str(path): str(value) for path, value in plan.items()}


def edited(then: dict[str, str], now: dict[str, str], saved: dict[str, str]) -> tuple[list[str], list[str]]:
    """What an edited script builds differently: shapes of arrays, and plain values; a line each.

    Only what training left as the script had built it counts: what changed while running is state, not script.

    :param then: the blueprint when the run began.
    :param now: the blueprint of the script as it is.
    :param saved: the blueprint of the checkpoint.
    """
    shapes: list[str] = []
    values: list[str] = []
    for path, before in then.items():
        after = now.get(path)
        if after is None or after == before or saved.get(path) != before or is_secret_path(path):
            continue
        if _is_place(before) or _is_place(after):
            continue  # the process's business: on resuming, the script's own stays
        line = f"  {path}: {before} when the run began, {after} in the script now"
        (shapes if before.endswith("]") and not before.startswith(("'", '"')) else values).append(line)
    return shapes, values
