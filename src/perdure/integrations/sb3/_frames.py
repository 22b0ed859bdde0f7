"""The functions that are running around a safe point: whether their variables hold anything that no checkpoint holds.

A checkpoint holds objects, not the variables of functions. So a safe point inside a function is safe only if each
variable that the function still reads afterwards holds an object of the world, or a plain value. Plain values that
changed since the function began are recorded, and written back when the run is resumed at the same place.
"""

from __future__ import annotations

import ctypes
import dis
import enum
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch

from perdure.errors import CaptureError, RestoreError

#: Plain values by the name of the function and of the variable; JSON.
Variables: TypeAlias = dict[str, dict[str, Any]]

_ENDS = frozenset(("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"))
_ALWAYS = frozenset(("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"))
_PROGRAM = (
    type, ModuleType, FunctionType, BuiltinFunctionType, torch.device, torch.dtype, np.dtype, enum.Enum,
)  # fmt: skip


class SafePoint:
    """Some running functions, from the innermost to the outermost.

    :param frames: of these functions, each with the offset of the instruction at which it is looked at.
    :param began: the variables of the outermost one when its call began to train. What did not change since is an
        argument of the call, and the call of the resumed script has its own.
    :param known: objects that the world holds, or that hold nothing.
    :param reachable: gives the ids of everything that the world holds; asked only where `known` does not do.
    """

    def __init__(
        self,
        frames: Sequence[tuple[FrameType, int]],
        began: Mapping[str, Any],
        known: Iterable[Any],
        reachable: Callable[[], set[int]],
    ) -> None:
        self._frames = frames
        self._began = began
        self._known = {id(each) for each in known}
        self._reachable = reachable

    def check(self) -> None:
        """Raise an error if a checkpoint would lose something that these functions hold.

        :raises CaptureError: it names the function and what it holds.
        """
        for frame, at in self._frames:
            if in_for_loop(frame.f_code, at):
                raise CaptureError(
                    f"{_name(frame)} begins its rollouts inside a for loop, and no checkpoint could hold how far that "
                    "loop is. Write it as Stable-Baselines3 does: while self.num_timesteps < total_timesteps"
                )
        if held := self._held():
            frame, name, value = held[0]
            raise CaptureError(
                f"{_name(frame)} keeps {name!r} (a {type(value).__name__}) in a local variable while it collects a "
                f"rollout, and no checkpoint would hold that. Keep it on the model instead: self.{name}"
            )

    def _held(self) -> list[tuple[FrameType, str, Any]]:
        found = [
            (frame, name, value)
            for frame, name, value in self._live()
            if not (is_plain(value) or self._is_known(value))
        ]
        reachable = self._reachable() if found else set()
        return [each for each in found if id(each[2]) not in reachable]

    def _live(self) -> list[tuple[FrameType, str, Any]]:
        """The variables that are still read, with their values."""
        found = []
        for frame, at in self._frames:
            live, now = live_names(frame.f_code, at), frame.f_locals
            found += [(frame, name, now[name]) for name in sorted(live) if name in now]
        return found

    def _is_known(self, value: Any) -> bool:
        if isinstance(value, MethodType):
            return self._is_known(value.__self__)
        if isinstance(value, list | dict | set) and not value:
            return True
        return id(value) in self._known or isinstance(value, _PROGRAM)

    def variables(self) -> Variables:
        """The plain values to record: of the outermost function those that changed since it began."""
        found: Variables = {}
        for frame, name, value in self._live():
            if frame is self._frames[-1][0] and name in self._began and _same(self._began[name], value):
                continue
            value = value.item() if isinstance(value, np.generic) else value
            if value is None or isinstance(value, bool | int | float | str):
                found.setdefault(_name(frame), {})[name] = value
        return found

    def mirrors(self, attributes: Mapping[str, Any]) -> list[tuple[FrameType, str, str]]:
        """The variables that hold what an attribute holds: the function, the variable and the attribute."""
        names = {id(value): name for name, value in attributes.items() if not _is_scalar(value)}
        return [(frame, name, names[id(value)]) for frame, name, value in self._live() if id(value) in names]

    def write(self, variables: Mapping[str, Any]) -> None:
        """Write back what was recorded at the same place by another process.

        :raises RestoreError: if that cannot be done.
        """
        for frame, _ in self._frames:
            recorded = variables.get(_name(frame))
            if not isinstance(recorded, Mapping):
                continue
            there = frame.f_locals
            values = {
                name: value
                for name, value in recorded.items()
                if name in there and _is_scalar(value) and not _same(there[name], value)
            }
            if values:
                write(frame, values)


def write(frame: FrameType, values: Mapping[str, Any]) -> None:
    """Set variables of a function that is running.

    :raises RestoreError: if they do not have these values afterwards.
    """
    variables = frame.f_locals
    variables.update(values)
    if sys.version_info < (3, 13) and variables is not frame.f_globals:
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
    now = frame.f_locals
    if wrong := [name for name, value in values.items() if now.get(name) is not value]:
        raise RestoreError(
            f"the variables {', '.join(wrong)} of {_name(frame)} could not be set to what they were. Please report "
            "this, with the version of Python"
        )


def is_plain(value: Any) -> bool:
    """Whether a value is immutable and holds no state."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return _is_scalar(value) or isinstance(value, (bytes, np.generic, *_PROGRAM))


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and is_plain(a) and bool(a == b))


def _name(frame: FrameType) -> str:
    return frame.f_code.co_qualname


@cache
def in_for_loop(code: CodeType, at: int) -> bool:
    """Whether the instruction at an offset is in the body of a for loop."""
    return any(
        each.opname == "FOR_ITER" and each.offset < at < each.argval for each in dis.get_instructions(code)
    )


@cache
def live_names(code: CodeType, at: int) -> frozenset[str]:
    """The local variables that may be read after the instruction at an offset, before they are assigned again."""
    instructions = list(dis.get_instructions(code))
    position = {each.offset: index for index, each in enumerate(instructions)}
    handlers = [
        (position[entry.start], entry.end, position[entry.target])
        for entry in getattr(dis.Bytecode(code), "exception_entries", ())
        if entry.start in position and entry.target in position
    ]
    following: list[list[int]] = []
    for index, each in enumerate(instructions):
        after = [] if each.opname in _ENDS | _ALWAYS else [index + 1]
        if each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            after.append(position[each.argval])
        after += [target for start, end, target in handlers if start <= index and each.offset < end]
        following.append([target for target in after if target < len(instructions)])
    before: list[frozenset[str]] = [frozenset()] * len(instructions)
    effects = [_effect(each) for each in instructions]
    changed = True
    while changed:
        changed = False
        for index in reversed(range(len(instructions))):
            out = frozenset[str]().union(*(before[target] for target in following[index]))
            reads, writes = effects[index]
            if (now := (out - writes) | reads) != before[index]:
                before[index], changed = now, True
    after_call = position.get(at)
    if after_call is None:
        return frozenset(code.co_varnames)
    # What inner functions see may be read at any time.
    shared = {*code.co_cellvars, *code.co_freevars}
    return frozenset(shared).union(*(before[target] for target in following[after_call]))


def _effect(instruction: dis.Instruction) -> tuple[frozenset[str], frozenset[str]]:
    """The local variables that an instruction reads, and those that it assigns."""
    name, given = instruction.opname, instruction.argval
    names: tuple[str, ...] = given if isinstance(given, tuple) else (given,)
    if name == "STORE_FAST_LOAD_FAST":
        return frozenset(names[1:]) - frozenset(names[:1]), frozenset(names[:1])
    if name.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_CLASSDEREF")):
        return frozenset(names), frozenset()
    if name.startswith(("STORE_FAST", "DELETE_FAST")):
        return frozenset(), frozenset(names)
    return frozenset(), frozenset()
