"""Which variables of a loop carry state between iterations, so that no checkpoint would hold it.

Two ways to do that. A variable that a step reads before it assigns it, and that some step assigns, holds what
an earlier step left there: that is read from the loop's source. And an object that the loop works on may
change: that is seen by comparing its state after the first step with that at the first checkpoint. Nothing is
run and nothing is changed.
"""

from __future__ import annotations

import ast
import linecache
import sysconfig
from collections.abc import Mapping, Sequence
from types import FrameType, FunctionType, ModuleType
from typing import Any

from perdure.state import Walker, fingerprint

_INSTALLED = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Watch:
    """Watches one loop from its first step to its first checkpoint.

    :param frame: where the loop stands, after its first step.
    :param world: what is captured: its parts, and everything that can be reached from them.
    :param known: further objects to pass over.
    """

    def __init__(self, frame: FrameType, world: Mapping[str, Any], known: Sequence[Any] = ()) -> None:
        self._first: dict[str, Any] = {}
        self._prints: dict[str, int] = {}
        self._held: set[int] = set()
        found = _loop_of(frame)
        if found is None:
            return
        loop, frame = found
        scan = _Scan()
        scan.block(loop.body, set(_names(loop.target)))
        self._held = _reachable(world) | {id(each) for each in known}
        for name in scan.early:
            value = frame.f_locals.get(name)
            if value is None or isinstance(value, FunctionType | ModuleType | type):
                continue
            if name in scan.stored:
                # What it is bound to may well be in the world too: restoring does not bind the variable to it.
                self._first[name] = value
            elif id(value) not in self._held and (seen := self._print(value)) is not None:
                self._prints[name] = seen

    def uncaptured(self, frame: FrameType) -> list[str]:
        """The variables that carry state: bound anew since the first step, or bound to an object that changed."""
        found = _loop_of(frame)
        if found is None:
            return []
        now = found[1].f_locals
        bound = [name for name, value in self._first.items() if now.get(name) is not value]
        return bound + [
            name for name, seen in self._prints.items() if self._print(now.get(name)) not in (seen, None)
        ]

    def _print(self, value: Any) -> int | None:
        """A fingerprint of an object's state, without what the world holds; None if it has none."""
        return fingerprint(value, without=self._held)


def _loop_of(frame: FrameType) -> tuple[ast.For, FrameType] | None:
    """The `for` loop at which a frame stands, and the frame it is in; None if it cannot be read."""
    # A progress bar around the steps has a loop too; the user's is further up.
    while frame.f_code.co_filename.startswith(_INSTALLED):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    try:
        module = ast.parse("".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return None
    loops = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.For)
        and node.lineno <= frame.f_lineno <= (node.iter.end_lineno or node.lineno)
    ]
    return (loops[-1], frame) if loops else None


def _reachable(world: Mapping[str, Any]) -> set[int]:
    walker = Walker()
    walker.parts(world)
    return set(walker.memo) | {id(part) for part in world.values()}


def _names(target: ast.AST) -> list[str]:
    return [
        node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


class _Scan:
    """One pass over a loop's body in the order in which it runs."""

    def __init__(self) -> None:
        self.early: dict[str, None] = {}
        self.stored: set[str] = set()

    def block(self, body: list[ast.stmt], assigned: set[str]) -> set[str]:
        """What is assigned for certain after a block, given what was before it."""
        assigned = set(assigned)
        for statement in body:
            assigned = self.statement(statement, assigned)
        return assigned

    def statement(self, node: ast.stmt, assigned: set[str]) -> set[str]:
        match node:
            case ast.Assign():
                self.read(node.value, assigned)
                return self.store(node.targets, assigned)
            case ast.AugAssign():
                self.read(node.value, assigned)
                if isinstance(node.target, ast.Name) and node.target.id not in assigned:
                    self.early[node.target.id] = None
                return self.store([node.target], assigned)
            case ast.AnnAssign():
                if node.value is None:
                    return assigned
                self.read(node.value, assigned)
                return self.store([node.target], assigned)
            case ast.If():
                self.read(node.test, assigned)
                return self.block(node.body, assigned) & self.block(node.orelse, assigned)
            case ast.Match():
                self.read(node.subject, assigned)
                for case in node.cases:
                    self.block(case.body, assigned)
                return assigned
            case ast.For() | ast.AsyncFor():
                # Taken to run at least once: a loop over nothing is rare, and a false alarm costs trust.
                self.read(node.iter, assigned)
                return self.block(node.body + node.orelse, self.store([node.target], assigned))
            case ast.While():
                self.read(node.test, assigned)
                return self.block(node.body + node.orelse, assigned)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.read(item.context_expr, assigned)
                    if item.optional_vars is not None:
                        assigned = self.store([item.optional_vars], assigned)
                return self.block(node.body, assigned)
            case ast.Try() | ast.TryStar():
                assigned = self.block(node.body + node.orelse, assigned)
                for handler in node.handlers:
                    self.block(handler.body, assigned)
                return self.block(node.finalbody, assigned)
            case ast.Import() | ast.ImportFrom():
                return assigned | {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        if isinstance(node, _SCOPES):
            return assigned | {node.name}
        self.read(node, assigned)
        return assigned

    def store(self, targets: list[ast.expr], assigned: set[str]) -> set[str]:
        for target in targets:
            self.read(target, assigned)
            self.stored.update(_names(target))
            assigned = assigned | set(_names(target))
        return assigned

    def read(self, node: ast.AST, assigned: set[str]) -> None:
        bound: set[str] = set()
        for part in ast.walk(node):
            if isinstance(part, ast.comprehension):
                bound.update(_names(part.target))
            elif isinstance(part, ast.Lambda):
                bound.update(argument.arg for argument in part.args.args)
            elif isinstance(part, ast.NamedExpr):
                self.stored.update(_names(part.target))
                bound.update(_names(part.target))
        for part in ast.walk(node):
            if (
                isinstance(part, ast.Name)
                and isinstance(part.ctx, ast.Load)
                and part.id not in assigned | bound
            ):
                self.early[part.id] = None
