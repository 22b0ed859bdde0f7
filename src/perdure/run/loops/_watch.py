"""Which variables of a loop carry state between rounds, so that no checkpoint would hold it.

There are two ways to do that. A variable that is assigned in the loop and may be read before it is assigned again holds
what an earlier round left there, and so does an object that the loop changes: the source shows both (`_liveness`). An
object that the loop hands to functions may change too: that is seen by comparing its state after the first round with
that at later checkpoints. Nothing is run and nothing is changed.
"""

from __future__ import annotations

import ast
import dis
import linecache
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import FrameType, FunctionType, ModuleType
from typing import Any

from perdure.run._outputs import is_output
from perdure.run._user_frames import is_users
from perdure.run.loops._carried import Carried, carried
from perdure.run.loops._frame import read_variables
from perdure.run.loops._source import Loop, Scope, changed_names, in_order, stored_names
from perdure.state import Walker, fingerprint


@dataclass(frozen=True)
class ModuleVariables:
    """What a loop does with the variables of a module.

    :param names: all variables of the module.
    :param line: of the loop.
    :param carried: those that carry state from one round to the next.
    :param perhaps: those whose objects the loop may change, and so carry state.
    :param others: further ones that the loop assigns or changes, always before it reads them.
    :param numbers: those of which only the numbers are read, if they are tensors.
    """

    names: dict[str, Any]
    line: int
    carried: frozenset[str]
    perhaps: frozenset[str]
    others: frozenset[str]
    numbers: frozenset[str] = frozenset()


class Watch:
    """Watches one loop.

    :param place: where the loop stands; None if that cannot be seen.
    :param known: objects to pass over.
    """

    def __init__(self, place: Place | None, known: Sequence[Any] = ()) -> None:
        self._known = {id(each) for each in known}
        self._place = place
        self._carried = Carried() if self._place is None else self._place.carried()
        before = {} if self._place is None else self._place.variables()
        self._before = {name: before.get(name) for name in self._carried.rebound_to_itself}
        self._prints: dict[str, int] = {}
        self._told: set[str] = set()
        self._checks = 0
        self._covers: Callable[[str], bool] = lambda name: False

    @property
    def place(self) -> tuple[str, int]:
        """The file and the line of the loop."""
        assert self._place is not None
        return self._place.filename, self._place.loop.lineno

    def stands_in(self, frame: FrameType) -> None:
        """Say in which frame the loop runs now: its function may have been called again."""
        if self._place is not None and self._place.frame is not frame:
            self._place = replace(self._place, frame=frame)

    def module_variables(self) -> ModuleVariables | None:
        """What the loop does with the variables of its module; None if it is in a function, or cannot be seen."""
        return None if self._place is None else module_variables(self._place, self._carried)

    def cover(self, covers: Callable[[dict[str, Any], str], bool]) -> None:
        """Say which variables of a module are captured, so that nobody need be warned of them.

        :param covers: asked about the variables of a module, and a name.
        """
        if (found := self.module_variables()) is not None:
            self._covers = partial(covers, found.names)

    def first_round(self, world: Mapping[str, Any]) -> None:
        """Remember how the objects are that the loop may change; the first round has set up what is set up lazily."""
        if self._place is None or not self._carried.perhaps:
            return
        held, now = self._held(world), self._place.variables()
        for name in self._carried.perhaps:
            value = now.get(name)
            if (
                not self._covers(name)
                and _may_change(value)
                and id(value) not in held
                and (seen := fingerprint(value, without=held)) is not None
            ):
                self._prints[name] = seen

    def uncaptured(self, world: Mapping[str, Any], *, last: bool = False) -> list[str]:
        """The variables that carry state and were not told yet.

        :param world: what is captured: its parts, and everything that can be reached from them.
        :param last: whether this is the last checkpoint of the loop.
        """
        self._checks += 1
        # Comparing costs as much as capturing, so it is done at the 1st, 2nd, 4th, 8th checkpoint and so on.
        compares = bool(self._prints) and (last or self._checks & (self._checks - 1) == 0)
        if self._place is None or not (compares or self._checks == 1 or self._before):
            return []
        now = self._place.variables()
        found = [name for name in self._carried.bound if name not in self._before]
        found += [name for name, value in self._before.items() if now.get(name) is not value]
        if self._carried.changed or compares:
            held = self._held(world)
            found += [
                name
                for name in self._carried.changed
                if _may_change(now.get(name)) and id(now[name]) not in held
            ]
            if compares:
                found += [
                    name
                    for name, seen in self._prints.items()
                    if fingerprint(now.get(name), without=held) not in (seen, None)
                ]
        if self._place.is_namespace(world):
            found = [name for name in found if name not in world]
        found = [name for name in found if not self._covers(name)]
        new = [name for name in self._place.in_order(found) if name not in self._told]
        self._told.update(new)
        return new

    def _held(self, world: Mapping[str, Any]) -> set[int]:
        walker = Walker()
        walker.parts(world)
        return set(walker.memo) | {id(part) for part in world.values()} | self._known


def _may_change(value: Any) -> bool:
    if value is None or isinstance(value, FunctionType | ModuleType | type):
        return False
    cls: Any = type(value)
    return not is_output(cls)


def module_variables(place: Place, carried: Carried | None = None) -> ModuleVariables | None:
    """What a loop does with the variables of its module; None if it is in a function.

    :param carried: what it carries; by default all that it names is nobody else's business.
    """
    if place.frame.f_locals is not place.frame.f_globals:
        return None
    named = frozenset(in_order(place.loop))
    itself = frozenset[str]() if carried is None else frozenset(carried.rebound_to_itself)
    sure = frozenset[str]() if carried is None else frozenset((*carried.bound, *carried.changed)) - itself
    perhaps = frozenset[str]() if carried is None else frozenset(carried.perhaps) | itself
    if carried is not None:
        lookup = place.variables().__getitem__
        named = frozenset(stored_names([place.loop]) | changed_names(place.loop.body, lookup))
    numbers = frozenset[str]() if carried is None else frozenset(carried.numbers)
    return ModuleVariables(
        place.frame.f_globals, place.loop.lineno, sure, perhaps, named - sure - perhaps, numbers
    )


@dataclass(frozen=True)
class Place:
    """Where a loop stands: its source, and the frame that it runs in.

    :param call: in the loop, by which a checkpoint is asked for; None if that happens at its head.
    :param is_inner: whether the call is that of a function which asks for the checkpoint.
    """

    frame: FrameType
    module: ast.Module
    scope: Scope
    loop: Loop
    call: ast.Call | None
    is_inner: bool = False

    @property
    def filename(self) -> str:
        return self.frame.f_code.co_filename

    @property
    def lines(self) -> range:
        return range(self.loop.lineno, (self.loop.end_lineno or self.loop.lineno) + 1)

    def carried(self) -> Carried:
        lookup = self.variables().__getitem__
        return carried(self.module, self.scope, self.loop, self.call, lookup, is_inner=self.is_inner)

    def variables(self) -> Mapping[str, Any]:
        """The variables that the loop sees, by name."""
        return read_variables(self.frame)

    def is_namespace(self, world: Mapping[str, Any]) -> bool:
        """Whether a world's parts are the variables themselves, as with `run.steps(globals(), ...)`."""
        names = self.frame.f_globals
        return (
            self.frame.f_locals is names
            and "__name__" in world
            and all(names.get(name) is part for name, part in world.items() if name in names)
        )

    def in_order(self, names: Collection[str]) -> list[str]:
        """Some variables, in the order in which the loop names them."""
        return [name for name in in_order(self.loop) if name in names]


def at_head(frame: FrameType | None) -> Place | None:
    """The loop at whose head a frame stands; None if that cannot be seen."""
    # A progress bar around the steps has a loop too; the user's is further up.
    while frame is not None and not is_users(frame):
        frame = frame.f_back
    return None if frame is None else _loop_at(frame)


def around_call(frame: FrameType, *, is_inner: bool = False) -> Place | None:
    """The outermost loop, in its function, around the call at which a frame stands; None if there is none.

    :param is_inner: whether the call is that of a function which asks for a checkpoint.
    """
    place = _loop_at(frame)
    return None if place is None or place.call is None else replace(place, is_inner=is_inner)


def _loop_at(frame: FrameType) -> Place | None:
    code, at = frame.f_code, frame.f_lasti
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    if not lines:
        return None
    try:
        module = ast.parse("".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return None
    position = next(islice(code.co_positions(), at // 2, None), None)
    is_head = dis.opname[code.co_code[at]] == "FOR_ITER"
    node = next((each for each in ast.walk(module) if _is_at(each, position, is_head)), None)
    above = [] if node is None else _above(module, node)
    if node is None or not above:
        return None
    scope = next(
        each for each in above if isinstance(each, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    if isinstance(node, ast.For | ast.While):
        return Place(frame, module, scope, node, None)
    inside = above[: above.index(scope)]
    loops = [each for each in inside if isinstance(each, ast.For | ast.AsyncFor | ast.While)]
    return Place(frame, module, scope, loops[-1], node) if isinstance(node, ast.Call) and loops else None


def _is_at(node: ast.AST, position: Any, is_head: bool) -> bool:
    if not is_head:
        return isinstance(node, ast.Call) and _span(node) == position
    # The instruction has the position of the whole statement in Python 3.11, of what is iterated over since 3.12. At
    # the head of a `while` loop there is one if `perdure run` iterates over its rounds.
    if isinstance(node, ast.While):
        return position in (_span(node), _span(node.test))
    return isinstance(node, ast.For) and position in (_span(node), _span(node.iter))


def _span(node: ast.expr | ast.stmt) -> tuple[int, int | None, int, int | None]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _above(module: ast.Module, node: ast.AST) -> list[ast.AST]:
    """The nodes around a node, innermost first."""
    parents = {id(child): parent for parent in ast.walk(module) for child in ast.iter_child_nodes(parent)}
    found = []
    while (parent := parents.get(id(node))) is not None:
        found.append(parent)
        node = parent
    return found
