"""The carriers of one run: which have changed, are captured, written back, or told. Knows no files."""

from __future__ import annotations

import builtins
import functools
import linecache
import operator
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from time import perf_counter
from types import FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from perdure.run.carriers._draws import may_differ_when_called_again
from perdure.run.carriers._holders import (
    CACHE,
    CLOSURE,
    DEFAULTS,
    MISSING,
    UNREADABLE,
    Attributes,
    Cache,
    Function,
    Holder,
    Variables,
    is_hidden,
)
from perdure.run.carriers._late import has_changed_already
from perdure.run.carriers._marks import Mark, is_ignored
from perdure.run.carriers._own_modules import is_file_of_main, is_own, own_modules, users_frames
from perdure.run.carriers._running import assigned_between, assigned_later
from perdure.run.carriers._survey import survey
from perdure.run.loops import ModuleVariables
from perdure.state import is_part_of_program, is_secret_name, renamed_name
from perdure.tree import PLAIN_TYPES, MappingNode, Node, Object, SequenceNode, State, Value, write_path

#: The name of the part of a checkpoint in which the carriers are, beside the world's parts.
PART = "script state"
_DEFINITIONS = (
    FunctionType, type, ModuleType, property, staticmethod, classmethod, functools._lru_cache_wrapper,
)  # fmt: skip
_CONTAINERS = (dict, list, tuple, set, frozenset)
#: What a checkpoint makes whether a fresh process has one or not; it may be large.
_DATA = (*_CONTAINERS, np.ndarray, torch.Tensor)
#: A look at what takes time is at most this part of the time to the next one.
_RARELY = 500
_LATE = "its module was imported while the training ran. Import it before the run is resumed"
_MADE_LATE = "it was made after the run was resumed. Make it before that"
_MAIN = "__main__"


class _Seen:
    """A holder, and what it held when the loop began."""

    def __init__(self, holder: Holder, *, late: str | None = None) -> None:
        self.holder = holder
        self.keys = holder.keys()
        self.values = holder.values()
        self.marks: dict[str, Mark] = {}
        #: Why a fresh process does not have it when it resumes; None if it has.
        self.late = late


class Carriers:
    """What the script's own modules hold outside of objects.

    :param modules: names of further modules and packages that count as the script's own.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._added = tuple(modules)
        self._seen: dict[str, _Seen] = {}
        self._modules: set[str] = set()
        self._imported = 0
        #: The captured carriers, by their names.
        self._captured: dict[str, tuple[Holder, str]] = {}
        #: What a fresh process is known to have at captured carriers.
        self._expected: dict[str, Any] = {}
        self._told_expected = 0
        #: The names of the carriers that a loop carries, so that they are captured whether they have changed or not.
        self._carried: dict[str, tuple[Holder, str]] = {}
        #: Carriers that are not looked at: the running code of their module assigns them.
        self._passed: set[str] = set()
        self._lines: dict[str, tuple[FrameType, int]] = {}
        #: Paths of those of which the loop reads only the numbers, if they are tensors.
        self.numbers: set[str] = set()
        #: Carriers that held objects of the world when the loop began.
        self._held: set[str] = set()
        #: Carriers that cannot be captured, and why.
        self._given_up: dict[str, str] = {}
        self._untold: list[str] = []
        self._thorough_from = 0.0
        self._world = 0

    # -- when a loop begins ----------------------------------------------------------------------------------

    def begin(
        self, frame: FrameType | None, world: Any, held: Collection[int], classes: Iterable[type]
    ) -> None:
        """Remember what everything is like. What changes from now on is state.

        :param frame: of the code that is running.
        :param world: the run's world.
        :param held: the ids of all objects that the world holds.
        :param classes: those of these objects.
        """
        frames = users_frames(frame)
        modules = own_modules(frames, classes, self._added)
        self._modules, self._imported = set(modules), len(sys.modules)
        self._world = id(world)
        self._seen, self._passed, self._held, self._lines = {}, set(), set(), {}
        self.numbers = set()
        self._captured, self._carried = {}, {}
        self._expected, self._told_expected = {}, 0
        self._thorough_from = 0.0
        for each in frames:
            if each.f_locals is each.f_globals:
                prefix = f"{each.f_globals.get('__name__')}:"
                self._lines.setdefault(prefix, (each, each.f_lineno))
                self._passed |= {prefix + name for name in assigned_later(each)}
        for prefix, holder in survey(modules, frames).items():
            if not (isinstance(holder, Variables) and holder.names is world):
                self._seen[prefix] = _Seen(holder)
        for seen in self._seen.values():
            for key, value in zip(seen.keys, seen.values, strict=True):
                if id(value) in held:
                    self._held.add(seen.holder.prefix + key)
                else:
                    self._mark(seen, key, value, held)

    def classes(self) -> list[type]:
        """The classes of the script's own modules."""
        holders = (seen.holder for seen in self._seen.values())
        return [holder.cls for holder in holders if isinstance(holder, Attributes)]

    def _mark(self, seen: _Seen, key: str, value: Any, held: Collection[int]) -> None:
        name = seen.holder.prefix + key
        is_data = not (type(value) in PLAIN_TYPES or isinstance(value, _DEFINITIONS))
        if not is_data or name in self._passed or self._is_no_state(seen.holder, key, value):
            return
        if not (mark := Mark(value, held)).is_empty:
            seen.marks[key] = mark

    def follow(self, found: ModuleVariables) -> None:
        """Take over what a loop carries in variables of a module, and leave what else it does with them to itself."""
        seen = next((each for each in self._seen.values() if _is_module(each.holder, found.names)), None)
        if seen is None:
            return
        prefix = seen.holder.prefix
        begun = self._lines.get(prefix)
        lost: set[str] = set()
        if begun is not None and begun[1] < found.line:
            lost = assigned_between(begun[0], begun[1], found.line)
        for name in (*found.carried, *found.perhaps):
            if name in lost:
                continue
            self._passed.discard(prefix + name)
            value = seen.holder.get(name)
            if name in found.carried:
                self._carried[prefix + name] = (seen.holder, name)
            elif name not in seen.marks and prefix + name not in self._held and value is not MISSING:
                self._mark(seen, name, value, ())
        self._passed |= {prefix + name for name in {*found.others, *lost}}
        self.numbers |= {write_path(((None, ".", PART), "[", prefix + name)) for name in found.numbers}
        for key in [key for key in seen.marks if prefix + key in self._passed]:
            del seen.marks[key]

    def covers(self, names: Any, name: str) -> bool:
        """Whether a variable of a module is captured, or will be once it changes.

        :param names: the variables of the module.
        """
        for prefix, seen in self._seen.items():
            if _is_module(seen.holder, names):
                return prefix + name not in self._passed and prefix + name not in self._given_up
        return False

    # -- at a checkpoint -------------------------------------------------------------------------------------

    def look(self, met: Collection[int]) -> dict[str, Any]:
        """What belongs to a checkpoint: the present values of the carriers that have changed, by their names.

        :param met: the ids of all objects that the world holds.
        """
        began = perf_counter()
        thoroughly = began >= self._thorough_from
        if len(sys.modules) != self._imported:
            self._note_imported(met)
        for seen in self._seen.values():
            values = seen.holder.values()
            if len(values) != len(seen.values) or not all(map(operator.is_, values, seen.values)):
                self._compare(seen, values, met)
            changed = [key for key, mark in seen.marks.items() if not mark.same(met, thoroughly=thoroughly)]
            for key in changed:
                value = seen.holder.get(key)
                self._capture(seen, key, value, value, met)
        for name, (holder, key) in self._carried.items():
            value = holder.get(key)
            if value is not MISSING and id(value) not in met and name not in self._captured:
                self._capture(self._seen[holder.prefix], key, MISSING, value, met)
        if thoroughly:
            ended = perf_counter()
            self._thorough_from = ended + _RARELY * (ended - began)
        found = {name: holder.get(key) for name, (holder, key) in self._captured.items()}
        return {
            name: value for name, value in found.items() if value is not MISSING and value is not UNREADABLE
        }

    def _note_imported(self, met: Collection[int]) -> None:
        """Remember what is in modules that were imported since the loop began."""
        self._imported = len(sys.modules)
        if _MAIN not in self._modules:
            return
        known = {id(sys.modules.get(name)) for name in self._modules}
        new = {
            name: module
            for name, module in list(sys.modules.items())
            if id(module) not in known and is_own(name, module, self._added)
        }
        self._modules |= set(new)
        for prefix, holder in survey(new, ()).items():
            if prefix not in self._seen:
                self._add_late(_Seen(holder, late=_LATE), met)

    def meet(self, frame: FrameType | None, held: Collection[int]) -> None:
        """Remember what the script has made or imported between `begin` and its loop: a fresh process does not have it
        when it resumes.

        :param frame: of the code that is running.
        :param held: the ids of all objects that the world holds.
        """
        if not self._seen:
            return  # the run was not resumed, so nothing is known of what a fresh process has
        if len(sys.modules) != self._imported:
            self._note_imported(held)
        frames = users_frames(frame)
        modules = own_modules(frames, (), self._added)
        for prefix, holder in survey(modules, frames).items():
            known = self._seen.get(prefix)
            if known is None or not _is_same(known.holder, holder):
                reason = _MADE_LATE if prefix.partition(":")[0] in self._modules else _LATE
                self._add_late(_Seen(holder, late=reason), held, frames)
        self._modules |= set(modules)

    def _add_late(self, seen: _Seen, held: Collection[int], frames: Sequence[FrameType] = ()) -> None:
        self._seen[seen.holder.prefix] = seen
        for key, value in zip(seen.keys, seen.values, strict=True):
            if id(value) in held or self._is_no_state(seen.holder, key, value) or _is_of_definitions(value):
                continue
            if has_changed_already(seen.holder, key, value, frames):
                assert seen.late is not None
                self._give_up(seen, key, seen.late)
            else:
                self._mark(seen, key, value, held)

    def _compare(self, seen: _Seen, values: list[Any], met: Collection[int]) -> None:
        before = dict(zip(seen.keys, seen.values, strict=True))
        seen.keys, seen.values = seen.holder.keys(), values
        now = dict(zip(seen.keys, values, strict=True))
        for key, value in now.items():
            if before.get(key, MISSING) is not value:
                self._capture(seen, key, before.get(key, MISSING), value, met)
        for key in before.keys() - now.keys():
            self._captured.pop(seen.holder.prefix + key, None)
            if not self._is_no_state(seen.holder, key, before[key]):
                self._give_up(seen, key, "it was deleted while the training ran. Set it to None instead")

    def _capture(self, seen: _Seen, key: str, before: Any, now: Any, met: Collection[int]) -> None:
        """Let a carrier that has changed be captured from now on.

        :param before: what it held when the loop began; MISSING if nothing.
        """
        holder = seen.holder
        name = holder.prefix + key
        seen.marks.pop(key, None)
        if name in self._captured or name in self._given_up or name in self._passed:
            return
        if now is UNREADABLE:
            assert isinstance(holder, Cache)
            if may_differ_when_called_again(holder.cached.__wrapped__):
                self._give_up(seen, key, "the arguments of some calls are no plain values")
            return
        if self._is_no_state(holder, key, now):
            return
        if before is MISSING and isinstance(now, _DEFINITIONS):
            return
        if seen.late:
            self._give_up(seen, key, seen.late)
            return
        if before is not MISSING and before is not now and before is not UNREADABLE:
            if isinstance(before, _DEFINITIONS):
                self._expected[name] = before
            elif is_part_of_program(before) and id(before) not in met:
                self._give_up(seen, key, f"another {type(before).__qualname__} was there when the loop began")
                return
            elif not (type(before) in PLAIN_TYPES or isinstance(before, _DATA)):
                # A fresh process has one too: of the same class, and over the same data.
                self._expected[name] = before
        if before is now and not isinstance(now, _CONTAINERS):
            self._expected[name] = now
        self._captured[name] = (holder, key)

    def _is_no_state(self, holder: Holder, key: str, value: Any) -> bool:
        is_special = isinstance(holder, Function | Cache) and key in (*DEFAULTS, CACHE)
        if not is_special and (is_hidden(key) or isinstance(value, ModuleType)):
            return True
        if type(value) in (str, bytes) and is_secret_name(key.rpartition(".")[2]):
            return True
        return id(value) == self._world or is_ignored(value)

    def take_expected(self) -> dict[str, Any] | None:
        """What a fresh process is known to have at captured carriers, by their names; None if that is not new."""
        if len(self._expected) == self._told_expected:
            return None
        self._told_expected = len(self._expected)
        return self._expected

    def give_up(self, problems: Iterable[tuple[str, str]]) -> bool:
        """Capture carriers no more that have these problems.

        :param problems: paths of the state, and what is wrong there.
        :returns: whether there were any such carriers.
        """
        found = False
        for path, reason in problems:
            for name, (holder, key) in list(self._captured.items()):
                above = write_path(((None, ".", PART), "[", name))
                if path == above or (path.startswith(above) and path[len(above)] in ".["):
                    del self._captured[name]
                    self._give_up(self._seen[holder.prefix], key, reason)
                    found = True
        return found

    def _give_up(self, seen: _Seen, key: str, reason: str) -> None:
        name = seen.holder.prefix + key
        if name not in self._given_up and name not in self._passed:
            self._given_up[name] = reason
            self._untold.append(f"  {seen.holder.describe(key)}: {reason}")

    def untold(self) -> list[str]:
        """What has changed and cannot be captured, a line each; everything is told once."""
        found, self._untold = self._untold, []
        return found

    # -- when a run is resumed -------------------------------------------------------------------------------

    def find(self, state: State) -> tuple[dict[str, Any], list[str]]:
        """What the script has now at the carriers that a checkpoint holds, by their names, and the names of those that
        it does not have. Call it after `begin`."""
        present: dict[str, Any] = {}
        absent: list[str] = []
        for name, node in _pairs(state):
            place = self._place(name)
            if place is None or not _fits(place, node):
                absent.append(name)
            elif (value := place[0].get(place[1])) is not MISSING and value is not UNREADABLE:
                present[name] = value
        return present, absent

    def unmentioned(self, state: State) -> list[str]:
        """What a checkpoint holds of variables and attributes that the script has not and names nowhere any more, as
        after they were given another name; for people. Call it after `begin`."""
        found = []
        for name, _ in _pairs(state):
            place = self._place(name)
            if place is None or place[0].get(place[1]) is not MISSING:
                continue
            word = re.compile(rf"\b{re.escape(place[1].removeprefix(CLOSURE))}\b")
            if (sources := self._sources()) and not any(map(word.search, sources)):
                found.append(place[0].describe(place[1]))
        return found

    def _sources(self) -> list[str]:
        """The texts of the script's own modules, as far as they can be read."""
        names = [seen.holder.names for seen in self._seen.values() if isinstance(seen.holder, Variables)]
        files = [(each.get("__file__"), each) for each in names]
        lines = [linecache.getlines(file, each) for file, each in files if type(file) is str]
        return ["".join(each) for each in lines if each]

    def write_back(self, values: dict[str, Any]) -> None:
        """Let carriers hold what was restored.

        :param values: by their names.
        """
        for name, value in values.items():
            place = self._place(name)
            if place is None:
                continue
            holder, key = place
            if isinstance(holder, Cache) or holder.get(key) is not value:
                holder.set(key, value)
            self._captured[name] = place
            if (seen := self._seen.get(holder.prefix)) is not None:
                seen.marks.pop(key, None)

    def _place(self, name: str) -> tuple[Holder, str] | None:
        """The holder and the key of a carrier that this process may have; None if it has none of that name."""
        names = [name, renamed_name(name)]
        if is_file_of_main(module := name.partition(":")[0]):
            # The script's own module has another name when it is imported.
            names.append(_MAIN + name.removeprefix(module))
        for each in names:
            module, _, rest = each.partition(":")
            at = rest.rfind(CLOSURE)
            if at < 0 or "." in rest[at + len(CLOSURE) :]:
                at = rest.rfind(".") + 1
            seen = self._seen.get(f"{module}:{rest[:at]}")
            if seen is not None and _is_key(seen.holder, rest[at:]):
                return seen.holder, rest[at:]
        return None


def _is_same(one: Holder, other: Holder) -> bool:
    """Whether two holders are the same thing, and not one that was made anew under its name."""
    match one, other:
        case (Function(), Function()):
            return one.function is other.function
        case (Attributes(), Attributes()):
            return one.cls is other.cls
        case (Cache(), Cache()):
            return one.cached is other.cached
    return type(one) is type(other)


def _is_of_definitions(value: Any) -> bool:
    """Whether something is a definition, or a container of nothing else, as where decorators register functions."""
    if isinstance(value, dict | list | tuple | set):
        inside = value.values() if isinstance(value, dict) else value
        return bool(value) and all(isinstance(each, _DEFINITIONS) for each in inside)
    return isinstance(value, _DEFINITIONS)


def _is_module(holder: Holder, names: Any) -> bool:
    return isinstance(holder, Variables) and holder.names is names


def _is_key(holder: Holder, key: str) -> bool:
    """Whether a holder may have something under a key: what it has, or what a program could have put there."""
    match holder:
        case Cache():
            return key == CACHE
        case Function():
            if key in DEFAULTS or key in holder.cells:
                return True
        case Variables() if hasattr(builtins, key):
            return key in holder.names
    return key.isidentifier() and not is_hidden(key)


def _pairs(state: State) -> list[tuple[str, Any]]:
    part = state.root.fields.get(PART)
    if not isinstance(part, MappingNode):
        return []
    return [(key, child) for key, child in part.pairs if type(key) is str]


def _fits(place: tuple[Holder, str], node: Any) -> bool:
    """Whether something of this kind may be put at a place."""
    holder, key = place
    if isinstance(holder, Cache):
        return isinstance(node, MappingNode) and all(_is_call(call) for call, _ in node.pairs)
    if key == "__defaults__" and isinstance(holder, Function):
        return node is None or (isinstance(node, SequenceNode) and node.type == "tuple")
    if key == "__kwdefaults__" and isinstance(holder, Function):
        return node is None or (isinstance(node, MappingNode) and node.type == "dict")
    if isinstance(holder, Attributes | Variables) and isinstance(holder.get(key), _DEFINITIONS):
        # A definition gives way to a definition only.
        return isinstance(node, Object) or (isinstance(node, Value) and node.kind in ("function", "class"))
    return True


def _is_call(node: Any) -> bool:
    """Whether a saved key is that of a call with plain arguments."""
    if not isinstance(node, Node):
        return True
    if isinstance(node, SequenceNode) and node.type == "tuple":
        return all(map(_is_call, node.items))
    return isinstance(node, Value) and node.kind in ("bytes", "complex")
