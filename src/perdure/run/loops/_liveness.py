"""Liveness: what may be read, from some place in a loop on, before it is assigned.

A variable is *live* at a place if some path from there reads it before it assigns it. What is live where a round ends,
and is assigned or changed in the loop, is what a resumed process would need and no checkpoint holds. The analysis is
the usual backward one of compilers, done on the syntax tree of the function around the loop.

A name stands for three things here: what it is bound to (`x`), the content of that object (`x*`), and how a tensor was
computed (`x^`). `x.append(1)` needs the first and changes the second; `x[t] = ...` for every `t` makes what was in `x`
before irrelevant; `x.item()` does not need the third.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from perdure.run._outputs import is_output
from perdure.run.loops._source import (
    ADDING,
    ARRAYS,
    CHANGING,
    COMPREHENSIONS,
    Lookup,
    Loop,
    OtherFunctions,
    Scope,
    asks_for_form,
    assigned_names,
    calls_in,
    certain_parts,
    changed_names,
    element_of,
    free_reads,
    imported_names,
    is_whole,
    kind_of,
    leaves_early,
    own_nodes,
    reads_of_numbers,
    root_of,
    stored_names,
    suppresses,
    sure_statements,
    targets_of,
    whole,
)

#: Names (`x`), their contents (`x*`) and their graphs (`x^`).
Live: TypeAlias = frozenset[str]
_NOTHING: Live = frozenset()
#: Methods that overwrite a whole array.
_OVERWRITING = frozenset(("fill", "fill_", "zero_", "copy_"))
#: Functions through which a loop may read any variable.
_READ_ALL = frozenset(("eval", "exec"))
_READ_OWN = frozenset(("locals", "globals", "vars"))


def live_names(
    scope: Scope,
    loop: Loop,
    call: ast.Call | None,
    lookup: Lookup,
    others: OtherFunctions,
) -> Live:
    return _gone_through(scope, loop, call, lookup, others).found


def live_in_rounds(scope: Scope, loop: Loop, lookup: Lookup, others: OtherFunctions) -> Live:
    """What further rounds read of what is live at the head of a loop; the rest is read only after it."""
    return _gone_through(scope, loop, None, lookup, others).in_rounds


def _gone_through(
    scope: Scope, loop: Loop, call: ast.Call | None, lookup: Lookup, others: OtherFunctions
) -> _Flow:
    flow = _Flow(loop, call, lookup, others)
    end = flow.all_of(others.shared)
    flow.block(scope.body, end, _Jumps(to_return=end))
    return flow


@dataclass(frozen=True)
class _Jumps:
    """What is live where control may go other than to the next statement."""

    to_break: Live = _NOTHING
    to_continue: Live = _NOTHING
    to_return: Live = _NOTHING
    to_raise: Live = _NOTHING

    def through(self, passes: Callable[[Live], Live]) -> _Jumps:
        return _Jumps(
            passes(self.to_break), passes(self.to_continue), passes(self.to_return), passes(self.to_raise)
        )


class _Flow:
    """One pass, backwards. `found` is what is live at the place asked for, `in_rounds` what of it rounds read."""

    def __init__(
        self,
        loop: Loop,
        call: ast.Call | None,
        lookup: Lookup,
        others: OtherFunctions,
    ) -> None:
        self._loop = loop
        self._call = call
        self._lookup = lookup
        self._called = self.all_of(others.reads)
        self._stored_in_loop = stored_names(loop.body)
        self._changed_in_loop = changed_names(loop.body, lookup)
        self._resized = {
            root_of(each.func)
            for each in calls_in(loop.body)
            if isinstance(each.func, ast.Attribute) and each.func.attr in CHANGING
        }
        self.found: Live = _NOTHING
        self.in_rounds: Live = _NOTHING

    @staticmethod
    def all_of(names: Iterable[str]) -> Live:
        return frozenset(each for name in names for each in (name, name + "*", name + "^"))

    def block(self, body: Sequence[ast.stmt], after: Live, jumps: _Jumps) -> Live:
        """What is live before a block."""
        for statement in reversed(body):
            if self._call is not None and self._is_at(statement):
                self.found |= after
            after = self.statement(statement, after, jumps) | jumps.to_raise
        return after

    def _is_at(self, statement: ast.stmt) -> bool:
        """Whether the call is in this statement itself, and not in one that is inside it."""
        parts: list[ast.AST] = [statement]
        if hasattr(statement, "body"):
            parts = [
                each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.expr | ast.withitem)
            ]
        return any(node is self._call for node in own_nodes(parts))

    def statement(self, node: ast.stmt, after: Live, jumps: _Jumps) -> Live:
        match node:
            case ast.Assign():
                return self.read(node.value, self.store(node.targets, after))
            case ast.AnnAssign():
                return (
                    after if node.value is None else self.read(node.value, self.store([node.target], after))
                )
            case ast.AugAssign():
                return self._augmented(node, after)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) as call):
                return self._method(name, attr, call, after)
            case ast.Delete():
                return self.store(node.targets, after)
            case ast.If():
                body = self.block(node.body, after, jumps)
                return self.read(node.test, body | self.block(node.orelse, after, jumps))
            case ast.For() | ast.AsyncFor():
                return self._for(node, after, jumps)
            case ast.While():
                return self._while(node, after, jumps)
            case ast.Try() | ast.TryStar():
                return self._try(node, after, jumps)
            case ast.With() | ast.AsyncWith():
                return self._with(node, after, jumps)
            case ast.Match():
                return self._match(node, after, jumps)
            case ast.Return():
                return jumps.to_return if node.value is None else self.read(node.value, jumps.to_return)
            case ast.Raise():
                parts = [part for part in (node.exc, node.cause) if part is not None]
                return self._reads(parts, jumps.to_raise)
            case ast.Break():
                return jumps.to_break
            case ast.Continue():
                return jumps.to_continue
            case ast.Import() | ast.ImportFrom():
                return after - self.all_of(imported_names(node))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                after = after - self.all_of([node.name])
                return self._reads([node], after) | self.all_of(free_reads(node))
        return self._reads([node], after)

    # -- expressions ---------------------------------------------------------------------------------------------

    def read(self, node: ast.AST, after: Live) -> Live:
        return self._reads([node], after)

    def _reads(self, nodes: Sequence[ast.AST], after: Live) -> Live:
        """What is live before some expressions."""
        assigned = {
            name: (part.end_lineno or 0, part.end_col_offset or 0)
            for node in nodes
            for part in certain_parts(node)
            if isinstance(part, ast.NamedExpr)
            for name in assigned_names(part.target)
        }
        before = set(after) - self.all_of(assigned)
        hidden = set()
        for part in own_nodes(nodes):
            if isinstance(part, COMPREHENSIONS):
                hidden |= {
                    id(inner)
                    for names in [{name for each in part.generators for name in assigned_names(each.target)}]
                    for inner in ast.walk(part)
                    if isinstance(inner, ast.Name) and inner.id in names
                }
        for part in own_nodes(nodes):
            match part:
                case ast.Call():
                    before |= self._called
                    if isinstance(part.func, ast.Name) and part.func.id in (
                        _READ_ALL if part.args else _READ_OWN
                    ):
                        before |= self.all_of(self._stored_in_loop)
                case ast.Lambda():
                    before |= self.all_of(free_reads(part))
            for asked in asks_for_form(part):
                if kind_of(self._lookup, asked.id) is np.ndarray:
                    hidden.add(id(asked))
                    before.add(asked.id)
        numbers = reads_of_numbers(nodes, self._is_log)
        for part in own_nodes(nodes):
            if (
                isinstance(part, ast.Name)
                and isinstance(part.ctx, ast.Load)
                and id(part) not in hidden
                and not assigned.get(part.id, (1 << 30, 0)) <= (part.lineno, part.col_offset)
            ):
                before |= self.all_of([part.id]) - ({part.id + "^"} if id(part) in numbers else set())
        return frozenset(before)

    def _is_log(self, name: str) -> bool:
        """Whether a variable is something that a training writes its numbers to."""
        try:
            cls: Any = type(self._lookup(name))
        except LookupError:
            return False
        return is_output(cls)

    def store(self, targets: Sequence[ast.expr], after: Live) -> Live:
        """What is live before some targets are assigned or deleted."""
        for target in targets:
            match target:
                case ast.Name():
                    after -= self.all_of([target.id])
                case ast.Tuple() | ast.List():
                    after = self.store(target.elts, after)
                case ast.Starred():
                    after = self.store([target.value], after)
                case ast.Subscript(value=ast.Name(id=name)):
                    if is_whole(target.slice) and kind_of(self._lookup, name) in (np.ndarray, list):
                        after -= {name + "*"}
                    # Of an object of an unknown class, code of its own runs.
                    known = {name} if kind_of(self._lookup, name) is not None else self.all_of([name])
                    after = self.read(target.slice, after) | known
                case ast.Attribute(value=ast.Name(id=name)):
                    after |= {name}
                case _:
                    after = self.read(target, after)
        return after

    def _augmented(self, node: ast.AugAssign, after: Live) -> Live:
        match node.target:
            case ast.Name(id=name):
                after = self.read(node.value, after)
                # `x += [1]` changes a list as `append` does; with a number it reads it.
                if kind_of(self._lookup, name) in (list, set):
                    return after | {name}
                return after | self.all_of([name])
        root = root_of(node.target)
        after = self._reads([node.value, node.target], after)
        return after if root is None else after | self.all_of([root])

    def _method(self, name: str, attr: str, call: ast.Call, after: Live) -> Live:
        kind = kind_of(self._lookup, name)
        arguments = [*call.args, *call.keywords]
        if kind is np.ndarray and attr in _OVERWRITING:
            return self._reads(arguments, after - {name + "*"}) | {name}
        if kind not in (None, np.ndarray) and attr in ADDING:
            rest = after - {name + "*"} if attr == "clear" else after
            return self._reads(arguments, rest) | {name} | self._called
        return self.read(call, after)

    # -- blocks --------------------------------------------------------------------------------------------------

    def _for(self, node: ast.For | ast.AsyncFor, after: Live, jumps: _Jumps) -> Live:
        done = self.block(node.orelse, after, jumps)
        head, first = self._for_rounds(node, done, replace(jumps, to_break=after))
        if node is self._loop and self._call is None:
            self.found |= head
            self.in_rounds |= self._for_rounds(node, _NOTHING, _Jumps(to_return=jumps.to_return))[1]
        before = head
        if node is not self._loop and self._range(node):
            # It runs at least once.
            before = first
            if not leaves_early(node.body) and (overwritten := self._overwritten(node)):
                before -= overwritten - self._used_inside(node)
        return self.read(node.iter, before)

    def _for_rounds(self, node: ast.For | ast.AsyncFor, done: Live, jumps: _Jumps) -> tuple[Live, Live]:
        """What is live at the head of a loop, and there if a round follows.

        :param done: what is live where its rounds are over.
        """
        target = self.all_of(assigned_names(node.target))
        head: Live = _NOTHING
        while True:  # It only grows, and there are finitely many names.
            body = self.block(node.body, head, replace(jumps, to_continue=head))
            first = self.store([node.target], body) - target
            new = head | done | first
            if new == head:
                return head, first
            head = new

    def _range(self, node: ast.For | ast.AsyncFor) -> range | None:
        call = node.iter
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "reversed"
            and call.args
        ):
            call = call.args[0]
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            return None
        numbers = [self._number(argument) for argument in call.args]
        if (
            not 0 < len(numbers) < 4
            or call.keywords
            or None in numbers
            or (len(numbers) == 3 and not numbers[2])
        ):
            return None
        return range(*numbers)  # type: ignore[arg-type]

    def _number(self, node: ast.expr) -> int | None:
        """The value of a simple expression that the loop does not change."""
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.Name(id=name) if name not in self._stored_in_loop:
                return whole(self._value(node))
            case ast.Attribute() if root_of(node) not in self._stored_in_loop | self._changed_in_loop:
                return whole(self._value(node))
            case ast.BinOp(
                left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() as operator, right=right
            ):
                a, b = self._number(left), self._number(right)
                if a is None or b is None or (isinstance(operator, ast.FloorDiv) and b == 0):
                    return None
                return {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}.get(
                    type(operator), a // b if b else None
                )
            case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]) if (
                name not in self._stored_in_loop
            ):
                return self._length(name)
        return None

    def _value(self, node: ast.expr) -> Any:
        """The value of `name` or `name.attribute`, without running any code; None if it has none."""
        if isinstance(node, ast.Name):
            try:
                return self._lookup(node.id)
            except LookupError:
                return None
        if isinstance(node, ast.Attribute):
            held = getattr(self._value(node.value), "__dict__", None)
            return held.get(node.attr) if isinstance(held, dict) else None
        return None

    def _length(self, name: str) -> int | None:
        try:
            value = self._lookup(name)
        except LookupError:
            return None
        if isinstance(value, ARRAYS):
            return int(value.shape[0]) if value.ndim else None
        return len(value) if type(value) in (list, tuple, dict, str) else None

    def _overwritten(self, node: ast.For | ast.AsyncFor) -> set[str]:
        """Contents that a loop overwrites from end to end: `for t in range(len(x)): x[t] = ...`."""
        steps = self._range(node)
        if steps is None or not isinstance(node.target, ast.Name):
            return set()
        found = set()
        for statement in sure_statements(node.body):
            for target in targets_of(statement) if isinstance(statement, ast.Assign) else ():
                for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                    name = element_of(part, node.target.id)
                    if name is None or name in self._stored_in_loop | self._resized:
                        continue
                    length = self._length(name)
                    if length is not None and steps in (range(length), range(length)[::-1]):
                        found.add(name + "*")
        return found

    def _used_inside(self, node: ast.For | ast.AsyncFor) -> set[str]:
        """Contents that a loop may read before it has overwritten them."""
        assert isinstance(node.target, ast.Name)
        written: set[str] = set()
        used: set[str] = set(self._called) if any(calls_in(node.body)) else set()
        items = [part for part in own_nodes(node.body) if isinstance(part, ast.withitem)]
        used |= {part.id + "*" for part in own_nodes(items) if isinstance(part, ast.Name)}
        for statement in sure_statements(node.body):
            stores = {
                id(part.value)
                for part in ast.walk(statement)
                if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store)
            }
            loads = {
                id(part.value)
                for part in ast.walk(statement)
                if isinstance(part, ast.Subscript) and element_of(part, node.target.id) in written
            }
            used |= {
                part.id + "*"
                for part in ast.walk(statement)
                if isinstance(part, ast.Name)
                and isinstance(part.ctx, ast.Load)
                and id(part) not in stores | loads
            }
            if isinstance(statement, ast.Assign):
                written |= {
                    name for target in statement.targets if (name := element_of(target, node.target.id))
                }
        return used

    def _while(self, node: ast.While, after: Live, jumps: _Jumps) -> Live:
        ends = not (isinstance(node.test, ast.Constant) and node.test.value)
        done = self.block(node.orelse, after, jumps) if ends else _NOTHING
        head, _ = self._while_rounds(node, done, replace(jumps, to_break=after))
        if node is self._loop and self._call is None:
            self.found |= head
            self.in_rounds |= self._while_rounds(node, _NOTHING, _Jumps(to_return=jumps.to_return))[1]
        return head

    def _while_rounds(self, node: ast.While, done: Live, jumps: _Jumps) -> tuple[Live, Live]:
        """What is live at the head of a loop, and there if a round follows; see `_for_rounds`."""
        head: Live = _NOTHING
        while True:
            body = self.block(node.body, head, replace(jumps, to_continue=head))
            new = head | self.read(node.test, body | done)
            if new == head:
                return head, self.read(node.test, body)
            head = new

    def _with(self, node: ast.With | ast.AsyncWith, after: Live, jumps: _Jumps) -> Live:
        inner = replace(jumps, to_raise=jumps.to_raise | after) if suppresses(node) else jumps
        live = self.block(node.body, after, inner)
        for item in reversed(node.items):
            if item.optional_vars is not None:
                live = self.store([item.optional_vars], live)
            live = self.read(item.context_expr, live)
        return live

    def _try(self, node: ast.Try | ast.TryStar, after: Live, jumps: _Jumps) -> Live:
        def finally_(live: Live) -> Live:
            return self.block(node.finalbody, live, jumps)

        outer = jumps.through(finally_) if node.finalbody else jumps
        after = finally_(after)
        caught = outer.to_raise
        for handler in node.handlers:
            live = self.block(handler.body, after, outer)
            live -= self.all_of([handler.name]) if handler.name else _NOTHING
            caught |= live if handler.type is None else self.read(handler.type, live)
        inside = replace(outer, to_raise=caught)
        return self.block(node.body, self.block(node.orelse, after, outer), inside) | caught

    def _match(self, node: ast.Match, after: Live, jumps: _Jumps) -> Live:
        live = after
        for case in reversed(node.cases):
            entered = self.block(case.body, after, jumps)
            if case.guard is not None:
                entered = self.read(case.guard, entered | live)
            entered -= self.all_of(stored_names([case.pattern]))
            entered = self._reads([case.pattern], entered)
            irrefutable = (
                isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None
            )
            live = entered if irrefutable else entered | live
        return self.read(node.subject, live)
