"""Notice that a script was edited since its run began.

A checkpoint's values replace the script's; otherwise the resumed run would be another one. So a user who edits a
learning rate or a buffer's size and starts the script again has to be told that the edit has no effect. The fingerprint
of the script, taken before anything ran, is kept in every checkpoint. Knows states, no files.
"""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from perdure.errors import ChangedScriptWarning, DamagedError, RestoreError
from perdure.state import Report, content, is_secret_path, names_place, rng
from perdure.tree import (
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    SequenceNode,
    State,
    Value,
    children,
    message,
    walk,
)

#: What a script has built: for each path a plain value, or the type and shape of an array.
Fingerprint = dict[str, str]

#: Begins what is recorded of an object: its class. Only `unchanged` needs it.
_CLASS = "a "
#: Begins what is recorded of a function whose name alone does not lead to it; its code is recorded too.
_FUNCTION = f"{_CLASS}function "
_LONGEST = 60
_LONGEST_INTEGER = 196
#: A larger array is no fingerprint.
_MOST_BYTES = 256 << 20


def script_fingerprint(state: State) -> Fingerprint:
    """The plain values, and the types and shapes of the arrays, by path."""
    found: Fingerprint = {}
    for path, node in walk(_without_generators(state), below=_visible):
        if isinstance(node, Array):
            found[path] = f"{node.dtype}{list(node.shape)}"
        elif isinstance(node, NumberRun):
            found[path] = f"{node.of}{list(node.array.shape)}"
        elif isinstance(node, bool | int | float | str) and "seed" not in path and _is_short(node):
            found[path] = repr(node)
        elif node is None:
            found[path] = _CLASS + "None"
        elif isinstance(node, Value) and node.kind == "function" and len(node.data) > 1:
            found[path] = f"{_FUNCTION}{node.data[0]} {node.data[1]}"
        elif isinstance(node, Object | Custom | SequenceNode | MappingNode):
            found[path] = _CLASS + node.type
    return found


class Unchanged:
    """Tells of a path whether the script is known to build there what it built when the run began.

    :param checkpoint: the state that the run will go on from.
    :param part: the name of the run's own part in the state.
    :param built: the state of the world as the script built it; asked for at most once, when a path is asked about.
    """

    def __init__(self, checkpoint: State, part: str, built: Callable[[], State]) -> None:
        self._checkpoint, self._part, self._built = checkpoint, part, built

    @functools.cached_property
    def _differing(self) -> list[str] | None:
        then = recorded(self._checkpoint, self._part)
        if then is None or not self.is_known:
            return None  # it was recorded before classes were
        now = script_fingerprint(self._built())
        return [
            path
            for path in {*then, *now}
            if then.get(path) != now.get(path) and not _may_differ(path, then, now)
        ]

    @functools.cached_property
    def _edited(self) -> frozenset[str]:
        then = recorded(self._checkpoint, self._part) or {}
        functions = {path: before for path, before in then.items() if before.startswith(_FUNCTION)}
        if not functions:
            return frozenset()
        now, saved = script_fingerprint(self._built()), script_fingerprint(self._checkpoint)
        return frozenset(
            path for path, before in functions.items() if saved.get(path) == before != now.get(path)
        )

    def edited(self, path: str) -> bool:
        """Whether the training left a function at a path as the script had built it, and the script was edited there
        since."""
        return path in self._edited

    @functools.cached_property
    def is_known(self) -> bool:
        """Whether it can tell at all."""
        then = recorded(self._checkpoint, self._part)
        return then is not None and any(value.startswith(_CLASS) for value in then.values())

    def __call__(self, path: str) -> bool:
        return self._differing is not None and not any(_concerns(path, each) for each in self._differing)


def _is_object(shown: str) -> bool:
    """Whether an entry of a fingerprint is the class of an object, not of a container of Python's."""
    return shown.startswith(_CLASS) and ":" in shown


def _may_differ(path: str, then: Fingerprint, now: Fingerprint) -> bool:
    """Whether two values at a path may differ although the script is the same."""
    return is_secret_path(path) or (_is_place(then.get(path, "")) and _is_place(now.get(path, "")))


def _concerns(path: str, differing: str) -> bool:
    """Whether something that differs lies below a path, or is what the path leads through."""
    shorter, longer = sorted((path, differing), key=len)
    return longer == shorter or (longer.startswith(shorter) and longer[len(shorter)] in ".[")


def _is_short(value: bool | int | float | str) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INTEGER  # Python refuses to write very long ones
    return not (isinstance(value, str) and len(value) > _LONGEST) and len(repr(value)) <= _LONGEST


def _is_place(shown: str) -> bool:
    """Whether a value in a fingerprint is a string that names a place."""
    return shown.startswith(("'", '"')) and names_place(shown[1:-1])


def _without_generators(state: State) -> Object:
    fields = {name: node for name, node in state.root.fields.items() if not rng.is_process(node)}
    return Object(state.root.type, fields)


def _visible(node: Node, path: str) -> Iterable[tuple[str, Any]]:
    # What a handler returns changes with every step: it is mostly the state of random generators. The same holds for
    # the state of another process.
    if isinstance(node, Array | Custom) or getattr(node, "type", None) == message.TYPE:
        return ()
    return children(node, path)


def pack(found: Fingerprint) -> np.ndarray[Any, Any]:
    """A fingerprint as an array, which a store keeps once for all checkpoints."""
    return np.frombuffer(json.dumps(found, separators=(",", ":")).encode(), np.uint8).copy()


def recorded(state: State, part: str) -> Fingerprint | None:
    """The fingerprint that a checkpoint has of the script that began the run; None if it cannot be read.

    :param part: the name of the run's own part in the state.
    """
    record = state.root.fields.get(part)
    node = record.fields.get("script_fingerprint") if isinstance(record, Object) else None
    if not isinstance(node, Array) or node.dtype != "|u1" or math.prod(node.shape) > _MOST_BYTES:
        return None
    try:
        found = json.loads(bytes(content(node)))
        return {str(path): str(value) for path, value in found.items()}
    except DamagedError:
        return None  # resuming reports the damage
    except (ValueError, AttributeError, RecursionError):
        return None  # Perdure did not write it, so it decides nothing


@dataclass(frozen=True)
class Edits:
    """What an edited script builds differently, a line each.

    :param shapes: of arrays.
    :param values: plain ones.
    """

    shapes: list[str]
    values: list[str]


def edits(then: Fingerprint, now: Fingerprint, saved: Fingerprint) -> Edits:
    """Compare the script with that which began the run.

    Only what the training left as the script had built it counts. What changed while running is state, not script.

    :param then: the fingerprint when the run began.
    :param now: the fingerprint of the script as it is.
    :param saved: the fingerprint of the checkpoint.
    """
    found = Edits([], [])
    gone: list[str] = []
    for path, before in then.items():
        after = now.get(path)
        if after is None and saved.get(path) == before and _is_object(before):
            if not (before.startswith(_FUNCTION) or any(_concerns(path, each) for each in gone)):
                gone.append(path)
                name = before.removeprefix(_CLASS).partition(":")[2]
                found.values.append(f"  {path}: a {name} when the run began, nothing in the script now")
            continue
        if after is None or after == before or saved.get(path) != before or is_secret_path(path):
            continue
        if _is_place(before) or _is_place(after) or before.startswith(_CLASS) or after.startswith(_CLASS):
            continue  # a resumed run keeps the script's own place, not the one it began with
        line = f"  {path}: {before} when the run began, {after} in the script now"
        is_shape = before.endswith("]") and not before.startswith(("'", '"'))
        (found.shapes if is_shape else found.values).append(line)
    return found


def check_script(
    checkpoint: State,
    part: str,
    now: Fingerprint,
    *,
    directory: str,
    strict: bool,
    compare: Callable[[], Report],
) -> None:
    """Compare the script with that which began the run, and warn of differences.

    :param checkpoint: the state that the run will go on from.
    :param part: the name of the run's own part in the state.
    :param now: the fingerprint of the script as it is.
    :param directory: of the run, for messages.
    :param strict: whether arrays of other shapes are an error.
    :param compare: compares the checkpoint with the world in full; called only for the error.
    :raises RestoreError: if the script builds arrays of other shapes.
    """
    then = recorded(checkpoint, part)
    if then is None:
        return
    found = edits(then, now, script_fingerprint(checkpoint))
    if found.shapes and strict:
        report = compare()
        raise RestoreError(
            f"the script is not the one that began the run in {directory}:\n"
            + "\n".join([*filter(None, [report.problems()]), *found.shapes[:20]])
            + "\nNothing was changed. Undo the edit to go on with this run, or start another in a new directory.",
            report,
        )
    if lines := found.shapes + found.values:
        warnings.warn(
            f"the script has changed since the run in {directory} began; a resumed run keeps the values it "
            "began with:\n" + "\n".join(lines[:10]),
            ChangedScriptWarning,
            stacklevel=4,
        )
