"""Notice that a script was edited since its run began.

A checkpoint's values replace the script's; otherwise the resumed run would be another one. So a user who edits a
learning rate or a buffer's size and starts the script again has to be told that the edit has no effect, and one who
edits a function that it has. The fingerprint of the script, taken before anything ran, is kept in every checkpoint.
Knows states, no files.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perdure.errors import DamagedError, RestoreError
from perdure.run._code_prints import CODE, CONSTANT, Definition, became
from perdure.run._code_prints import same as same_code
from perdure.state import Report, content, grouped, is_secret_path, names_place, rng, some
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
    field_path,
    message,
    walk,
)

#: What a script has built: for each path a plain value, or the type and shape of an array.
Fingerprint = dict[str, str]

#: Begins what is recorded of an object: its class. Only `unchanged` needs it.
_CLASS = "a "
#: Begins what is recorded of a function whose name alone does not lead to it; its code is recorded too.
_FUNCTION = f"{_CLASS}function "
#: Begins what is recorded of a function or a class that its name leads to.
_NAMED = f"{_CLASS}definition "
#: The seed of a part.
_SEED = re.compile(r"\w+(\.seed|\['seed'\])")
_LONGEST = 60
#: Seconds since 1970, from 2001 to 2286.
_SECONDS = re.compile(r"(?<!\d)([1-9]\d{9}(?:\.\d*)?)(?!\d)")
_MOST_LINES = 10
_MOST_CAUSES = 5
_MOST_PATHS = 8
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
        elif isinstance(node, bool | int | float | str) and _is_shown(path, node):
            found[path] = repr(node)
        elif node is None:
            found[path] = _CLASS + "None"
        elif isinstance(node, Value) and node.kind == "function" and len(node.data) > 1:
            found[path] = f"{_FUNCTION}{node.data[0]} {node.data[1]}"
        elif isinstance(node, Value) and node.kind in ("function", "class") and len(node.data) == 1:
            found[path] = f"{_NAMED}{node.data[0]}"
        elif isinstance(node, Object | Custom | SequenceNode | MappingNode):
            found[path] = _CLASS + node.type
    return found


class Unchanged:
    """Tells of a path whether the script is known to build there what it built when the run began.

    :param checkpoint: the state that the run will go on from.
    :param part: the name of the run's own part in the state.
    :param now: gives the fingerprint of this process's script; asked when a path is asked about.
    """

    def __init__(self, checkpoint: State, part: str, now: Callable[[], Fingerprint]) -> None:
        self._checkpoint, self._part, self._now = checkpoint, part, now
        #: Where the script's edited function is in force.
        self.in_force: set[str] = set()

    @functools.cached_property
    def _differing(self) -> list[str] | None:
        then = recorded(self._checkpoint, self._part)
        if then is None or not self.is_known:
            return None  # it was recorded before classes were
        now = self._now()
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
        now, saved = self._now(), script_fingerprint(self._checkpoint)
        return frozenset(
            path for path, before in functions.items() if saved.get(path) == before != now.get(path)
        )

    def built_before(self, path: str) -> bool:
        """Whether the script had built something at a path when the run began."""
        return path in (recorded(self._checkpoint, self._part) or {})

    def edited(self, path: str) -> bool:
        """Whether the training left a function at a path as the script had built it, and the script was edited there
        since."""
        is_edited = path in self._edited
        if is_edited:
            self.in_force.add(path)
        return is_edited

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
    if path not in then and now[path].startswith(_NAMED):
        return True  # it was recorded before such definitions were
    if path not in then and any(_is_shape(then.get(above, "")) for above in _above(path)):
        return True  # it was recorded before the attributes of tensors were
    before, after = then.get(path, ""), now.get(path, "")
    if is_secret_path(path) or _is_seed(path) or _are_readings(before, after):
        return True
    return _is_place(before) and _is_place(after)


def _above(path: str) -> Iterator[str]:
    """The paths that a path leads through."""
    return (path[: found.start()] for found in re.finditer(r"[.\[]", path))


def _concerns(path: str, differing: str) -> bool:
    """Whether something that differs lies below a path, or is what the path leads through."""
    shorter, longer = sorted((path, differing), key=len)
    return longer == shorter or (longer.startswith(shorter) and longer[len(shorter)] in ".[")


def _is_shown(path: str, value: bool | int | float | str) -> bool:
    # Of what draws random numbers some comes from the process. The seed that a script gives does not.
    return ("seed" not in path or (_is_seed(path) and type(value) is int)) and _is_short(value)


def _is_seed(path: str) -> bool:
    """Whether a path is that of the seed that a script gives: `args.seed`, `config['seed']`, `model.seed`."""
    return _SEED.fullmatch(path) is not None


def _is_short(value: bool | int | float | str) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INTEGER  # Python refuses to write very long ones
    return not (isinstance(value, str) and len(value) > _LONGEST) and len(repr(value)) <= _LONGEST


def _are_readings(before: str, after: str) -> bool:
    """Whether two values were read from the clock, or differ only in such numbers: `start_time`, the name of a run."""
    parts, others = _SECONDS.split(before), _SECONDS.split(after)
    if len(parts) < 2 or parts[::2] != others[::2]:
        return False
    pairs = zip(parts[1::2], others[1::2], strict=True)
    return all(float(one) <= float(other) <= time.time() for one, other in pairs)


def _is_place(shown: str) -> bool:
    """Whether a value in a fingerprint is a string that names a place."""
    return shown.startswith(("'", '"')) and names_place(shown[1:-1])


def _without_generators(state: State) -> Object:
    fields = {name: node for name, node in state.root.fields.items() if not rng.is_process(node)}
    return Object(state.root.type, fields)


def _visible(node: Node, path: str) -> Iterable[tuple[str, Any]]:
    # What a handler returns changes with every step: it is mostly the state of random generators. The same holds for
    # the state of another process.
    if isinstance(node, Array):
        return ((field_path(path, name), child) for name, child in (node.fields or {}).items())
    if isinstance(node, Custom) or getattr(node, "type", None) == message.TYPE:
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
    """What an edited script has differently, a line each.

    :param shapes: of arrays: the path, what it was when the run began, what it is now. The run keeps the checkpoint's.
    :param values: plain ones; the run keeps those of the checkpoint.
    :param code: functions and constants; the script's own are in force.
    :param paths: of the plain values, which the script's could win over.
    :param seeds: of the parts.
    """

    shapes: list[tuple[str, str, str]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    seeds: list[str] = field(default_factory=list)


class Script:
    """What a script has built, before anything ran.

    :param built: its state.
    :param code: the code that its world uses.
    """

    def __init__(self, built: State, code: Mapping[str, Definition]) -> None:
        self.values = script_fingerprint(built)
        self.code = code

    def pack(self) -> np.ndarray[Any, Any]:
        """As an array, which a store keeps once for all checkpoints."""
        return pack({**self.values, **{name: found.text for name, found in self.code.items()}})

    def packed_anew(self, then: Fingerprint | None) -> np.ndarray[Any, Any] | None:
        """What the next checkpoints record: the values with which the run began, and the code as it is now. None if
        that is recorded already.

        :param then: what the checkpoint has recorded.
        """
        now = {name: found.text for name, found in self.code.items()}
        if then is None or not (set(now.items()) - set(then.items())):
            return None
        return pack({**then, **now})


def edits(
    then: Fingerprint,
    script: Script,
    saved: Fingerprint,
    covered: Callable[[str], bool],
    in_force: Container[str] = (),
) -> Edits:
    """Compare the script with that which began the run.

    :param then: the fingerprint when the run began.
    :param script: the script as it is.
    :param saved: the fingerprint of the checkpoint.
    :param covered: whether the user has said what is to be at a path.
    :param in_force: the paths at which the script's edited function is in force.
    """
    now = script.values
    found = Edits()
    gone: list[str] = []
    for path, before in then.items():
        after = now.get(path)
        if after is None and path in in_force:
            # A function with variables of its own became one without, or the other way round.
            after = now.get(_own_path(path), now.get(f"{path}.__code__"))
        if after is None and saved.get(path) == before and _is_object(before):
            if not (before.startswith(_FUNCTION) or any(_concerns(path, each) for each in gone)):
                gone.append(path)
                name = before.removeprefix(_CLASS).partition(":")[2]
                found.values.append(f"  {path}: a {name} when the run began, nothing in the script now")
            continue
        if after is None or after == before or path not in saved or is_secret_path(path) or covered(path):
            continue
        if before.startswith((_FUNCTION, _NAMED)) and saved[path] == before:
            if path in in_force:
                found.code.append(f"  {_own_path(path)}: {_edited_function(before, after, then, script)}")
            else:
                line = f"{_definition(before)} when the run began, {_definition(after)} in the script now"
                found.values.append(f"  {_own_path(path)}: {line}")
                found.paths.append(_own_path(path))
            continue
        if _are_readings(before, after):
            continue
        if _is_place(before) or _is_place(after) or before.startswith(_CLASS) or after.startswith(_CLASS):
            continue  # a resumed run keeps the script's own place, not the one it began with
        line = f"  {path}: {before} when the run began, {after} in the script now"
        if _is_seed(path):
            if saved[path] == before:
                found.seeds.append(line)
        elif _is_shape(before) or _is_shape(after):
            if saved[path] == before:
                found.shapes.append((path, before, after))
        elif saved[path] == before:
            found.values.append(line)
            found.paths.append(path)
        elif _is_number(before) and _is_number(after) and saved[path] != after:
            # What changed in training is state, not script; but somebody who edits where it begins may expect more.
            found.values.append(f"{line}, {saved[path]} in the checkpoint, because the training changed it")
            found.paths.append(path)
    found.code.extend(_edited_code(then, script))
    return found


def _own_path(path: str) -> str:
    """The path of a function whose code is recorded at a path."""
    return path.removesuffix(".__code__")


def _definition(shown: str) -> str:
    """What is recorded of a function or a class, for people."""
    name = shown.removeprefix(_FUNCTION).removeprefix(_NAMED).removeprefix(_CLASS).partition(" ")[0]
    short = (name.partition(":")[2] or name).replace(".<locals>", "")
    return f"another {short}" if shown.startswith(_FUNCTION) else short


def _edited_function(before: str, after: str, then: Fingerprint, script: Script) -> str:
    name = after.removeprefix(_FUNCTION).removeprefix(_NAMED).partition(" ")[0]
    now = script.code.get(CODE + name)
    shown = (name.partition(":")[2] or name).replace(".<locals>", "")
    if now is None:
        return shown
    change = became(then.get(CODE + name, ""), now.text) if before.startswith(f"{_FUNCTION}{name} ") else ""
    return f"{shown} ({now.place}){': ' + change if change else ''}"


def _edited_code(then: Fingerprint, script: Script) -> Iterator[str]:
    # What a path decides about is told by that path.
    held = {text.split(" ")[2] for text in script.values.values() if text.startswith(_FUNCTION)}
    for name, now in script.code.items():
        before = then.get(name)
        if before in (None, now.text) or name.removeprefix(CODE) in held:
            continue
        assert before is not None
        shown = name.partition(":")[2].replace(".<locals>", "")
        if name.startswith(CONSTANT):
            yield f"  {shown} ({now.place}): {before} before, {now.text} now"
        elif not same_code(before, now.text):
            change = became(before, now.text)
            yield f"  {shown} ({now.place}){': ' + change if change else ''}"


def _is_shape(shown: str) -> bool:
    return shown.endswith("]") and not shown.startswith(("'", '"'))


def _is_number(shown: str) -> bool:
    return shown[:1].isdigit() or shown.startswith(("-", "True", "False"))


_SHAPE = re.compile(r"(.*)\[([\d, ]*)\]")


def _by_sizes(shapes: Iterable[tuple[str, str, str]]) -> list[str]:
    """Arrays of another shape, a line for all in which the same size has changed."""
    groups: dict[Any, list[tuple[str, str, str]]] = {}
    for path, before, after in shapes:
        groups.setdefault(_sizes(before, after), []).append((path, before, after))
    lines = []
    for sizes, group in groups.items():
        _, before, after = group[0]
        where = some([path for path, _, _ in group])
        if not isinstance(sizes, tuple) or len(group) == 1:
            lines.append(f"  {where}: {before} when the run began, {after} in the script now")
        else:
            old, new = (", ".join(map(str, side)) for side in zip(*sizes, strict=True))
            lines.append(
                f"  {where}: arrays with {old} when the run began, with {new} in the script now "
                f"({before} and {after}, say)"
            )
    return lines[:20]


def _sizes(before: str, after: str) -> Any:
    """Which sizes differ in two shapes: pairs of them, or both shapes if they are not alike otherwise."""
    one, other = _SHAPE.fullmatch(before), _SHAPE.fullmatch(after)
    if one is None or other is None:
        return f"{before} {after}"
    if one[1] != other[1]:
        return f"{one[1]} {other[1]}" if one[2] == other[2] else f"{before} {after}"
    then, now = one[2].split(", "), other[2].split(", ")
    if len(then) != len(now):
        return f"{before} {after}"
    return tuple(sorted({pair for pair in zip(then, now, strict=True) if pair[0] != pair[1]}))


def _other_misfits(report: Report, shapes: Iterable[tuple[str, str, str]]) -> str:
    """What does not fit beside arrays of other shapes."""
    paths = {path for path, _, _ in shapes}
    told = {detail for path, detail in report.mismatched if path in paths}
    return grouped([each for each in report.misfits if each[1] not in told])


def check_seeds(
    checkpoint: State, part: str, script: Script, *, directory: str, covered: Callable[[str], bool]
) -> None:
    """Find out whether the script has the seeds with which the run began.

    :param checkpoint: the state that the run will go on from.
    :param part: the name of the run's own part in the state.
    :param script: the script as it is.
    :param directory: of the run, for messages.
    :param covered: whether the user has said what is to be at a path.
    :raises RestoreError: if it has others.
    """
    then = recorded(checkpoint, part)
    seeds = [] if then is None else edits(then, script, script_fingerprint(checkpoint), covered).seeds
    if seeds:
        path = seeds[0].strip().partition(":")[0]
        raise RestoreError(
            f"the run in {directory} began with another seed, and what it has learned would pass for that of this "
            "one:\n"
            + "\n".join(seeds)
            + "\nNothing was changed. Give each seed a directory; to go on with this run, "
            "give it the seed it began with. If each process draws a seed of its own, leave it out: "
            f'perdure.Run(..., skip=["{path}"])'
        )


def check_shapes(
    checkpoint: State,
    part: str,
    script: Script,
    *,
    directory: str,
    covered: Callable[[str], bool],
    compare: Callable[[], Report],
) -> None:
    """Find out whether the script builds arrays of the same shapes as when the run began.

    :param checkpoint: the state that the run will go on from.
    :param part: the name of the run's own part in the state.
    :param script: the script as it is.
    :param directory: of the run, for messages.
    :param covered: whether the user has said what is to be at a path.
    :param compare: compares the checkpoint with the world in full; called only for the error.
    :raises RestoreError: if they are others.
    """
    then = recorded(checkpoint, part)
    found = Edits() if then is None else edits(then, script, script_fingerprint(checkpoint), covered)
    if found.shapes:
        report = compare()
        # An array's shape follows from something: a number that the script has changed, or another class.
        lines = [*found.values[:_MOST_CAUSES], *filter(None, [_other_misfits(report, found.shapes)])]
        raise RestoreError(
            f"the script is not the one that began the run in {directory}:\n"
            + "\n".join([*lines, *_by_sizes(found.shapes)])
            + "\nNothing was changed. Undo the edit to go on with this run, or start another in a new directory.",
            report,
        )


def changes(
    checkpoint: State,
    part: str,
    script: Script,
    *,
    directory: str,
    covered: Callable[[str], bool],
    in_force: Container[str],
) -> str | None:
    """What the user is told of an edited script: which value, and which code, is in force; None if it is the same.

    :param checkpoint: the state that the run goes on from.
    :param part: the name of the run's own part in the state.
    :param script: the script as it is.
    :param directory: of the run, for messages.
    :param covered: whether the user has said what is to be at a path.
    :param in_force: the paths at which the script's edited function is in force.
    """
    then = recorded(checkpoint, part)
    if then is None:
        return None
    found = edits(then, script, script_fingerprint(checkpoint), covered, in_force)
    text = [f"the script has changed since the run in {directory} began"]
    if lines := _by_sizes(found.shapes) + found.values + found.seeds:
        text[0] += "; a resumed run keeps the values it began with:\n" + _listed(lines)
        if found.paths:
            shown = ", ".join(f'"{path}": perdure.FROM_SCRIPT' for path in found.paths[:_MOST_PATHS])
            more = ", ..." if len(found.paths) > _MOST_PATHS else ""
            text.append(f"To let the script's win, once: override={{{shown}{more}}}")
    if found.code:
        text.append(
            "The edited code is in force from now on, so the run is another one than if it had gone on before the "
            "edit:\n" + _listed(found.code)
        )
    return "\n".join(text) if lines or found.code else None


def _listed(lines: list[str]) -> str:
    return "\n".join(
        lines[:_MOST_LINES] + ([f"  and {len(lines) - _MOST_LINES} more"] if lines[_MOST_LINES:] else [])
    )
