"""Values that win over those of a checkpoint: given ones, or those that the script has built.

A saved state is changed before it is matched with the script's objects, so whatever holds a value gets the new one as
it would have got the saved one. Only values are overridden: numbers, texts, containers of them, functions, and the
content of arrays, which is written when all else is restored. Everything is checked before anything is changed.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xxhash

from perdure import tree
from perdure.errors import CaptureError, RestoreError
from perdure.state import _aliasing, rng
from perdure.state._capture import capture
from perdure.state._compounds import CODE
from perdure.state._containers import BUILTIN
from perdure.state._describe import describe, describe_at
from perdure.state._patterns import matches, with_names
from perdure.state._references import KINDS
from perdure.tree import (
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    Slot,
    State,
    Value,
    step_path,
)


class FromScript:
    """The type of `FROM_SCRIPT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "perdure.FROM_SCRIPT"


#: In an override: the value that the script has built there wins over that of the checkpoint.
FROM_SCRIPT = FromScript()

_BUILTIN = frozenset(BUILTIN.values())
_MOST_LOOKED_AT = 20_000
_INDEX = re.compile(r"(\[[^\]]*\])+$")


class _Misfit(Exception):
    """A value cannot be put at a place; the message says why."""


class _Elsewhere(Exception):
    """What a pattern with wildcards matched is no value that could be overridden."""


@dataclass(frozen=True)
class _Place:
    """A place in a tree, and what is there.

    :param in_handler: whether it lies in what a handler captured.
    """

    path: str
    holder: Node
    slot: Slot
    child: Any
    in_handler: bool = False

    @property
    def key(self) -> tuple[int, Slot]:
        return id(self.holder), self.slot

    def put(self, new: Any) -> None:
        """Put something else there. A list or a dict stays the same one, for all that share it."""
        holder, slot, child = self.holder, self.slot, self.child
        if isinstance(child, SequenceNode) and child.type in ("list", "deque", "set"):
            child.items, child.extra = new.items, new.extra
        elif isinstance(child, MappingNode):
            child.pairs, child.extra = new.pairs, new.extra
        elif isinstance(holder, Object):
            holder.fields[str(slot)] = new
        elif isinstance(holder, Array | SequenceNode | MappingNode) and isinstance(slot, str):
            assert holder.fields is not None
            holder.fields[slot] = new
        elif isinstance(holder, SequenceNode) and isinstance(slot, int):
            holder.items[slot] = new
        elif isinstance(holder, MappingNode) and isinstance(slot, int):
            holder.pairs[slot] = holder.pairs[slot][0], new
        else:
            raise TypeError(f"nothing can be put into a {type(holder).__name__}")


@dataclass
class Overridden:
    """What overriding a state led to.

    :param changed: each path, with the value before and after in words.
    :param kept: values that stay although they are related to those that were overridden: each path, with its value.
    """

    changed: list[tuple[str, str, str]] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)
    _arrays: list[tuple[Array, Any]] = field(default_factory=list)

    def write_arrays(self, objects: Mapping[int, Any]) -> None:
        """Write the content of arrays that were overridden.

        :param objects: the restored objects of nodes (by their ids).
        """
        for node, content in self._arrays:
            live = objects.get(id(node))
            if isinstance(live, torch.Tensor):
                with torch.no_grad():
                    live.copy_(torch.as_tensor(content))
            elif live is not None:
                live[...] = content


def override(saved: State, script: Object, values: Mapping[str, Any], *, beside: str = "") -> Overridden:
    """Let named values win over those of a saved state, which is changed.

    :param script: the tree of what the script has built.
    :param values: for each path (with `*` and `?` as wildcards) the value, or `FROM_SCRIPT`. Where several match, the
        first one counts.
    :param beside: the name of a part that has no values of the user's.
    :raises RestoreError: if a pattern matches nothing, or a value does not fit; nothing was changed then.
    """
    done = Overridden()
    if not values:
        return done
    places = list(_places(saved.root, beside))
    problems: list[str] = []
    new: dict[tuple[int, Slot], tuple[_Place, Any]] = {}
    for pattern, value in values.items():
        found = _matching(saved.root, places, pattern, beside)
        fitting = 0
        for place in found:
            try:
                content = _content(place, value, _at(script, place.path), is_exact=not _is_wild(pattern))
            except _Elsewhere as reason:
                if not pattern.endswith("*"):
                    done.kept.append((place.path, str(reason)))
            except _Misfit as reason:
                fitting += 1
                problems.append(f"  {place.path}: {reason}")
            else:
                fitting += 1
                new.setdefault(place.key, (place, content))
        if not fitting:
            problems.append(f"  {pattern!r} {_why_nothing(places, pattern, found)}")
    if problems:
        raise RestoreError(
            "the override does not fit the checkpoint; nothing was changed:\n" + "\n".join(problems[:20])
        )
    _put(new.values(), done)
    done.kept += _related(places, new, done)
    return done


def _put(new: Iterator[tuple[_Place, Any]] | Any, done: Overridden) -> None:
    whole: list[str] = []
    for place, content in new:
        if any(place.path.startswith((f"{above}.", f"{above}[")) for above in whole):
            continue  # what it is in was replaced
        before = describe_at(place.path, _readable(place.child))
        if isinstance(place.child, Array):
            done._arrays.append((place.child, content))
            done.changed.append((place.path, before, "another content"))
            continue
        if isinstance(place.child, SequenceNode | MappingNode):
            whole.append(place.path)
        if _canonical(place.child) != _canonical(content):
            done.changed.append((place.path, before, describe_at(place.path, _readable(content))))
            place.put(content)


# -- which places ------------------------------------------------------------------------------------------------------


def _places(root: Object, beside: str) -> Iterator[_Place]:
    """The places of a tree that have a path of their own, each once: a parent comes before its children."""
    stack: list[tuple[str, Node, bool]] = [("", root, False)]
    seen: set[int] = set()
    while stack:
        path, node, in_handler = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        below = []
        for place, kind in _below(path, node, in_handler):
            if node is root and (place.slot == beside or rng.is_process(place.child)):
                continue
            if kind:
                yield place
            if isinstance(place.child, Array | Object | Custom | SequenceNode | MappingNode):
                below.append((place.path, place.child, in_handler or isinstance(place.child, Custom)))
        stack.extend(reversed(below))


def _below(path: str, node: Node, in_handler: bool = False) -> Iterator[tuple[_Place, str]]:
    for slot, child, kind, name in tree.edges(node):
        if kind in (".", "[", "") and not isinstance(child, NumberRun | RepeatRun):
            yield _Place(step_path(path, kind, name), node, slot, child, in_handler), kind


def _matching(root: Object, places: Sequence[_Place], pattern: str, beside: str) -> list[_Place]:
    found = [place for place in places if matches(place.path, (pattern,))]
    if found or _is_wild(pattern) or (beside and pattern.startswith(beside)):
        return found
    # Several paths lead to what is shared, and this may be another one than that of the walk.
    place = _descend(root, pattern)
    return [] if place is None else [place]


def _is_wild(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _descend(root: Object, path: str) -> _Place | None:
    """The place that a path leads to."""
    holder: Node = root
    at, in_handler = "", False
    for _ in range(10_000):
        for place, _ in _below(at, holder, in_handler):
            names = (place.path, with_names(place.path))
            if path in names and place.path != at:
                return place
            if isinstance(place.child, Node) and any(
                path.startswith((f"{name}.", f"{name}[")) for name in names
            ):
                holder, in_handler = place.child, in_handler or isinstance(place.child, Custom)
                at = place.path
                break
        else:
            return None
    return None


_NOTHING: Any = object()


def _at(root: Object, path: str) -> Any:
    """What a tree has at a path, or _NOTHING."""
    place = _descend(root, path)
    return _NOTHING if place is None else place.child


# -- what is put there -------------------------------------------------------------------------------------------------


def _content(place: _Place, value: Any, script: Any, *, is_exact: bool) -> Any:
    """The node or value to be put at a place; of an array its content.

    :param script: what the script has there, or _NOTHING.
    :raises _Misfit: if it does not fit.
    :raises _Elsewhere: if there is no value at the place, and it was not named by itself.
    """
    saved = place.child
    if not (_is_value(saved) or isinstance(saved, Array) or _is_definition(saved)):
        what = f"{describe(saved)}, which is no value that can be overridden"
        if is_exact:
            raise _Misfit(f"the checkpoint has {what}. Name the values in it: {place.path + '.*'!r}")
        raise _Elsewhere(what)
    if isinstance(saved, Array) and place.in_handler:
        raise _Misfit(
            "it is part of what a handler captured, of which only numbers and texts can be overridden"
        )
    if isinstance(value, FromScript):
        return _from_script(saved, script, is_exact)
    if isinstance(saved, Array):
        return _array_content(saved, value)
    if _is_definition(saved) or (isinstance(value, type) or callable(value)):
        raise _Misfit(
            f"the checkpoint has {describe(saved)}, found {describe(value)}: a function comes from the script. Put it "
            "there in the script, and override with perdure.FROM_SCRIPT"
        )
    return _converted(saved, _node_of(value), script, value)


def _from_script(saved: Any, script: Any, is_exact: bool) -> Any:
    if script is _NOTHING:
        if is_exact:
            raise _Misfit("perdure.FROM_SCRIPT: the script has nothing there. Give the value itself")
        raise _Elsewhere("the script has nothing there")
    if isinstance(saved, Array) or isinstance(script, Array):
        if not (isinstance(saved, Array) and isinstance(script, Array)) or _layout(saved) != _layout(script):
            raise _Misfit(
                f"the checkpoint has {describe(saved)}, the script {describe(script)}: they must be alike"
            )
        content = _aliasing.content(script)
        return content.detach().clone() if isinstance(content, torch.Tensor) else content.copy()
    if not (_is_value(script) or _is_definition(script)):
        raise _Misfit(f"the script has {describe(script)} there, which is no value. Give the value itself")
    return script


def _layout(node: Array) -> tuple[Any, ...]:
    return node.framework, str(node.dtype), node.shape


def _array_content(saved: Array, value: Any) -> Any:
    """What is written into an array."""
    try:
        given = value.detach().cpu() if isinstance(value, torch.Tensor) else np.asarray(value)
    except ValueError as error:
        raise _Misfit(f"expected {describe(saved)}, found {describe(value)} ({error})") from None
    if tuple(given.shape) != saved.shape:
        raise _Misfit(f"expected the shape {list(saved.shape)} of the checkpoint, found {list(given.shape)}")
    if saved.framework == "torch":
        dtype = tree.TORCH_DTYPES[saved.dtype]
        kind = given.dtype if isinstance(given, torch.Tensor) else None
        if kind is None:
            try:
                kind = torch.from_numpy(np.atleast_1d(given)).dtype
            except TypeError:
                raise _Misfit(f"expected numbers for {describe(saved)}, found {describe(value)}") from None
        if not torch.can_cast(kind, dtype):
            raise _Misfit(f"expected {saved.dtype}, found {str(kind).removeprefix('torch.')}")
        return torch.as_tensor(given).to(dtype)
    there = given.numpy() if isinstance(given, torch.Tensor) else given
    expected = tree.numpy_dtype(saved.dtype)
    if not np.can_cast(there.dtype, expected, "same_kind"):
        raise _Misfit(f"expected {expected}, found {there.dtype}")
    return there.astype(expected)


def _node_of(value: Any) -> Any:
    try:
        node = capture({"value": value}).root.fields["value"]
    except CaptureError:
        node = None if value is None else _NOTHING
    if node is _NOTHING or not _is_value(node):
        raise _Misfit(f"{describe(value)} is no value: expected a number, a text, or a container of them")
    return node


def _converted(saved: Any, new: Any, script: Any, value: Any) -> Any:
    """A given value as one of the type that the checkpoint has there, or the script."""
    for expected in (saved, script):
        if expected is not _NOTHING and (fitting := _as_kind(expected, new)) is not _NOTHING:
            return fitting
    found = f"{describe(value)} ({type(value).__name__})"
    if saved is None and script in (None, _NOTHING):
        raise _Misfit(
            f"the checkpoint has None, and so has the script, so no type is known for {found}. Put the value there in "
            "the script, and override with perdure.FROM_SCRIPT"
        )
    raise _Misfit(
        f"expected {_kind_in_words(saved)} as in the checkpoint ({describe(_readable(saved))}), found {found}"
    )


def _as_kind(expected: Any, new: Any) -> Any:
    """A value as one of another value's type; _NOTHING if it is none."""
    if type(expected) is float and type(new) is int:
        return float(new)
    if isinstance(expected, Value) and expected.kind == "numpy" and type(new) in (bool, int, float):
        dtype = tree.numpy_dtype(expected.data[0])
        if np.can_cast(np.asarray(new).dtype, dtype, "same_kind"):
            return Value("numpy", [expected.data[0], np.asarray(new).astype(dtype).tobytes().hex()])
        return _NOTHING
    if isinstance(expected, Value) and isinstance(new, Value):
        return new if expected.kind == new.kind else _NOTHING
    if isinstance(expected, SequenceNode | MappingNode) and isinstance(new, SequenceNode | MappingNode):
        return new if expected.type == new.type else _NOTHING
    return new if type(expected) is type(new) and not isinstance(new, Node) else _NOTHING


def _kind_in_words(saved: Any) -> str:
    if isinstance(saved, Value):
        return f"a {saved.data[0] if saved.kind == 'numpy' else saved.kind}"
    if isinstance(saved, SequenceNode | MappingNode):
        return f"a {saved.type}"
    return "None" if saved is None else f"a value of type {type(saved).__name__}"


# -- kinds of nodes ----------------------------------------------------------------------------------------------------


def _is_value(node: Any) -> bool:
    """Whether a node is a value: a number, a text, an immutable value, or a container of such."""
    if isinstance(node, Value):
        return node.kind not in KINDS
    if isinstance(node, SequenceNode):
        return node.type in _BUILTIN and all(
            isinstance(item, NumberRun | RepeatRun) or _is_value(item) for item in node.items
        )
    if isinstance(node, MappingNode):
        return node.type in _BUILTIN and all(_is_value(part) for pair in node.pairs for part in pair)
    return not isinstance(node, Node)


def _is_definition(node: Any) -> bool:
    """Whether a node is a function or a class that is recorded by name, or a function with plain variables."""
    if isinstance(node, Value):
        return node.kind in KINDS
    return (
        isinstance(node, Object)
        and CODE in node.fields
        and all(_is_value(part) or isinstance(part, Value) for part in node.fields.values())
    )


def _readable(node: Any) -> Any:
    """A node as something that `describe` shows with its content, where that is short."""
    if isinstance(node, Value) and node.kind == "numpy":
        return np.frombuffer(bytes.fromhex(node.data[1]), tree.numpy_dtype(node.data[0]))[0].item()
    if (
        isinstance(node, SequenceNode)
        and len(node.items) <= 8
        and all(not isinstance(n, Node) for n in node.items)
    ):
        return _Shown(repr(tuple(node.items) if node.type == "tuple" else list(node.items)))
    return node


class _Shown(str):
    """A text that is shown as it is."""

    def __repr__(self) -> str:
        return str(self)


def _canonical(node: Any) -> Any:
    """What two values have in common if and only if they are equal."""
    if isinstance(node, Value):
        return node.kind, repr(node.data)
    if isinstance(node, NumberRun):
        content: Any = _aliasing.content(node.array)
        return node.of, content.tobytes()
    if isinstance(node, RepeatRun):
        return node.count, _canonical(node.item)
    if isinstance(node, SequenceNode):
        return node.type, repr(node.extra), tuple(map(_canonical, node.items))
    if isinstance(node, MappingNode):
        return node.type, tuple((_canonical(key), _canonical(value)) for key, value in node.pairs)
    if isinstance(node, Object):
        return node.type, tuple((name, _canonical(part)) for name, part in node.fields.items())
    return type(node).__name__, repr(node)


# -- messages ----------------------------------------------------------------------------------------------------------


def _why_nothing(places: Sequence[_Place], pattern: str, found: Sequence[_Place]) -> str:
    if found:
        kinds = sorted({describe(place.child) for place in found[:20]})
        return f"matches only what is no value: {', '.join(kinds[:3])} ({found[0].path})"
    values = [
        with_names(place.path) for place in places if _is_value(place.child) or isinstance(place.child, Array)
    ]
    last = _last_name(pattern)
    alike = [path for path in values if _last_name(path) == last and "*" not in last]
    alike += difflib.get_close_matches(pattern.replace("*", ""), values[:_MOST_LOOKED_AT], 3, 0.6)
    listed = list(dict.fromkeys(alike))[:3]
    more = (
        f". Did you mean {' or '.join(map(repr, listed))}?"
        if listed
        else ". `perdure show RUN` lists the paths"
    )
    return f"matches no path of the checkpoint{more}"


def _last_name(path: str) -> str:
    return _INDEX.sub("", with_names(path)).rpartition(".")[2]


_SYNONYMS = {"learning_rate": "lr", "learning_rates": "lr"}


def _words(name: str) -> frozenset[str]:
    name = _SYNONYMS.get(name, name)
    return frozenset(word.rstrip("s") for word in name.lower().split("_") if len(word) > 1)


def _related(
    places: Sequence[_Place], new: Mapping[tuple[int, Slot], tuple[_Place, Any]], done: Overridden
) -> list[tuple[str, str]]:
    """Numbers that stay, and that have the name of one that was overridden, or had the same value."""
    changed = {path for path, _, _ in done.changed}
    overridden = [(place, content) for place, content in new.values() if place.path in changed]
    names = {words for place, _ in overridden if (words := _words(_last_name(place.path)))}
    before = {_number(place.child) for place, _ in overridden} - {None, 0, 1}
    after = {_number(content) for _, content in overridden}
    paths = [f"{place.path}[" for place, _ in overridden]
    found = []
    for place in places:
        number = _number(place.child)
        if number is None or place.key in new or number in after or place.path.startswith(tuple(paths)):
            continue
        words = _words(_last_name(place.path))
        if any(each <= words for each in names) or (type(number) is float and number in before):
            found.append((place.path, describe(number)))
    return list(itertools.islice(found, 1_000))


def _number(node: Any) -> int | float | None:
    if isinstance(node, Value) and node.kind == "numpy":
        node = _readable(node)
    if isinstance(node, Omitted) or type(node) not in (int, float):
        return None
    return node  # type: ignore[no-any-return]


def signature(script: Object, pattern: str, value: Any) -> str:
    """A short text that differs where a pattern of an override stands for other values.

    :param script: the tree of what the script has built.
    """
    if isinstance(value, FromScript):
        found = [
            (place.path, place.child) for place in _places(script, "") if matches(place.path, (pattern,))
        ]
        content: Any = [
            (path, _layout(child) if isinstance(child, Array) else _canonical(child))
            for path, child in found
            if _is_value(child) or _is_definition(child) or isinstance(child, Array)
        ]
    elif isinstance(value, np.ndarray | torch.Tensor):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        content = (str(array.dtype), array.shape, array.tobytes())
    else:
        content = value
    return f"{type(value).__name__} {xxhash.xxh3_128(repr(content).encode()).hexdigest()}"
