"""Which variables carry state from one round of a loop to the next: read from the source, nothing is run.

A variable is *live* at a place if some path from there reads it before it assigns it. What is live where a round ends,
and is assigned or changed in the loop, is what a resumed process would need and no checkpoint holds. The analysis is
the usual backward one of compilers, done on the syntax tree of the function around the loop.

A name stands for two things here: what it is bound to (`x`), and the content of that object (`x*`). `x.append(1)` needs
the first and changes the second; `x[t] = ...` for every `t` makes what was in `x` before irrelevant.
"""

from __future__ import annotations

import ast
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

#: Names (`x`) and their contents (`x*`).
Live: TypeAlias = frozenset[str]
#: The value that a variable has before the loop; raises `LookupError` if it has none.
Lookup: TypeAlias = Callable[[str], Any]
Loop: TypeAlias = "ast.For | ast.AsyncFor | ast.While"
Scope: TypeAlias = "ast.Module | ast.FunctionDef | ast.AsyncFunctionDef"

_NOTHING: Live = frozenset()
_ARRAYS = (np.ndarray, torch.Tensor)
_BUILTIN = (list, dict, set, collections.deque, collections.OrderedDict, collections.defaultdict)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
#: Methods that change a built-in container without telling what was in it.
_ADDING = frozenset(
    ("append", "appendleft", "extend", "extendleft", "add", "update", "insert", "clear", "sort", "reverse")
)
#: Methods that change a built-in container, or an array.
_CHANGING = _ADDING | {
    "pop", "popleft", "popitem", "remove", "discard", "setdefault", "rotate", "fill", "fill_", "zero_", "copy_",
}  # fmt: skip
#: Methods that overwrite a whole array.
_OVERWRITING = frozenset(("fill", "fill_", "zero_", "copy_"))
#: Attributes of arrays that have nothing to do with their content.
_SHAPE = frozenset(("shape", "dtype", "device", "ndim", "size"))
#: Functions that make an array of the same form.
_LIKE = frozenset(("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"))
#: Functions through which a loop may read any variable.
_READ_ALL = frozenset(("eval", "exec"))
_READ_OWN = frozenset(("locals", "globals", "vars"))


@dataclass(frozen=True)
class Carried:
    """What a loop carries from one round to the next.

    :param bound: variables that the loop assigns, and may read before it assigns them again.
    :param rebound_to_itself: those of `bound` that are only assigned as in `x = x.method(...)`: often the same object.
    :param changed: variables whose objects the loop changes, and may read before it overwrites them.
    :param perhaps: variables whose objects the loop hands on, and may so change.
    """

    bound: tuple[str, ...] = ()
    rebound_to_itself: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()


def carried(module: ast.Module, scope: Scope, loop: Loop, call: ast.Call | None, lookup: Lookup) -> Carried:
    """What a loop carries.

    :param module: the whole source file.
    :param scope: the function, or the module, around the loop.
    :param loop: a loop of `scope`.
    :param call: where in the loop a checkpoint is taken; by default at its head, before the next round.
    :param lookup: gives the values that variables have before the loop.
    """
    others = _Functions.around(module, scope)
    live = _analyse(scope, loop, call, lookup, others)
    stored = _stored(loop.body) | (others.stores if any(_calls(loop.body)) else set())
    # What the call is given is in the checkpoint: the step, and the counters.
    apart = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)} if call is not None else set()
    if not isinstance(loop, ast.While):
        apart |= set(_names(loop.target))
    if call is not None:
        apart |= _read_back(scope, loop)
    before = _assigned_before(scope, loop) | _read_first(loop)
    changed, itself = _changed(loop.body, lookup), _rebound_to_themselves(loop.body)
    order = [name for name in in_order(loop) if name not in apart]
    # What only the loop assigns, and further up than it reads it, was assigned in the same round: a fresh process
    # that begins with this round would otherwise fail aloud.
    bound = [name for name in order if name in live & stored & before]
    content = [name for name in order if name + "*" in live and name not in stored]
    return Carried(
        tuple(bound),
        tuple(name for name in bound if name in itself),
        tuple(name for name in content if name in changed),
        tuple(name for name in content if name not in changed),
    )


def in_order(node: ast.AST) -> list[str]:
    """All names in a piece of source, in the order in which they are first written."""
    found = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return list(dict.fromkeys(part.id for part in sorted(found, key=_position)))


def _assigned_before(scope: Scope, loop: Loop) -> set[str]:
    """The variables that a scope assigns outside a loop."""
    inside = {id(node) for node in ast.walk(loop)}
    found = {
        node.id
        for node in _own(scope.body)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inside
    }
    return found | _arguments(scope)


def _read_first(loop: Loop) -> set[str]:
    """The variables that a loop reads further up than it assigns them."""
    names = sorted((node for node in ast.walk(loop) if isinstance(node, ast.Name)), key=_position)
    stored: set[str] = set()
    found: set[str] = set()
    for node in names:
        if isinstance(node.ctx, ast.Load) and node.id not in stored:
            found.add(node.id)
        elif isinstance(node.ctx, ast.Store):
            stored.add(node.id)
    return found


def _position(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _arguments(scope: ast.AST) -> set[str]:
    """The names of a function's arguments; none of a module or a class."""
    if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return set()
    return {argument.arg for argument in ast.walk(scope.args) if isinstance(argument, ast.arg)}


def _read_back(scope: Scope, loop: Loop) -> set[str]:
    """The variables that are set from the world before a loop: `obs = world.obs`, or `obs = world["obs"]`."""
    found = set()
    for node in _own(scope.body):
        if isinstance(node, ast.Assign) and node.lineno < loop.lineno:
            shown = {part.attr for part in ast.walk(node.value) if isinstance(part, ast.Attribute)}
            shown |= {
                part.slice.value
                for part in ast.walk(node.value)
                if isinstance(part, ast.Subscript)
                and isinstance(part.slice, ast.Constant)
                and isinstance(part.slice.value, str)
            }
            found |= {name for target in node.targets for name in _names(target) if name in shown}
    return found


# -- what the source says ---------------------------------------------------------------------------------------------


def _own(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below these that run with them.

    The bodies of functions and classes do not, and a comprehension's targets are variables of its own.
    """
    todo = list(nodes)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            todo += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.Lambda):
            todo += [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif isinstance(node, ast.ClassDef):
            todo += [*node.decorator_list, *node.bases]
        elif isinstance(node, ast.comprehension):
            todo += [node.iter, *node.ifs]
        else:
            todo += ast.iter_child_nodes(node)


def _names(target: ast.AST) -> list[str]:
    return [
        node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def _stored(body: Sequence[ast.AST]) -> set[str]:
    """All variables that these statements may assign or delete."""
    found: set[str] = set()
    for node in _own(body):
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                found.add(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found |= _imported(node)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                found.add(name)
            case ast.MatchMapping(rest=str(name)):
                found.add(name)
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}


def _targets(node: ast.stmt) -> list[ast.expr]:
    match node:
        case ast.Assign():
            return node.targets
        case ast.AugAssign() | ast.AnnAssign() | ast.For() | ast.AsyncFor():
            return [node.target]
        case ast.With() | ast.AsyncWith():
            return [item.optional_vars for item in node.items if item.optional_vars is not None]
    return []


def _calls(body: Iterable[ast.AST]) -> Iterator[ast.Call]:
    return (node for node in _own(body) if isinstance(node, ast.Call))


def _root(node: ast.expr) -> str | None:
    """The variable at the beginning of `x.a[0].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _changed(body: Sequence[ast.stmt], lookup: Lookup) -> set[str]:
    """The variables whose objects these statements change, as the source shows."""
    found: set[str | None] = set()
    for node in _own(body):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                found.add(_root(node))
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _CHANGING:
                name = _root(value)
                if name is not None and (not isinstance(value, ast.Name) or _kind(lookup, name) is not None):
                    found.add(name)
            case ast.Call(func=ast.Name(id="next"), args=[ast.Name(id=name), *_]):
                found.add(name)
            case ast.For(iter=ast.Name(id=name)) if _is_iterator(lookup, name):
                found.add(name)
    return {name for name in found if name is not None}


def _is_iterator(lookup: Lookup, name: str) -> bool:
    try:
        return hasattr(type(lookup(name)), "__next__")
    except LookupError:
        return False


def _kind(lookup: Lookup, name: str) -> type | None:
    """The class of a built-in container, `np.ndarray` for arrays of all kinds, None for everything else."""
    try:
        value = lookup(name)
    except LookupError:
        return None
    if type(value) in _BUILTIN:
        return type(value)
    return np.ndarray if isinstance(value, _ARRAYS) else None


def _rebound_to_themselves(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that are only assigned as in `x = x.to(device)`."""
    itself: set[str] = set()
    otherwise: set[str] = set()
    shown = set()
    for node in _own(body):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            value = node.value
            while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                value = value.func.value
            if isinstance(value, ast.Name) and value.id == name and value is not node.value:
                itself.add(name)
                shown.add(id(node.targets[0]))
    for node in _own(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in shown:
            otherwise.add(node.id)
    return itself - otherwise


@dataclass(frozen=True)
class _Functions:
    """What other functions of the file do with the variables of a scope when they are called.

    :param reads: what they read.
    :param stores: what they assign.
    :param shared: variables of the scope that are read after it has returned.
    """

    reads: set[str]
    stores: set[str]
    shared: set[str]

    @classmethod
    def around(cls, module: ast.Module, scope: Scope) -> _Functions:
        at_module = isinstance(scope, ast.Module)
        inside = [node for statement in scope.body for node in ast.walk(statement)]
        reads = {name for node in _own(scope.body) if isinstance(node, _SCOPES) for name in free_reads(node)}
        kind = ast.Global if at_module else ast.Nonlocal
        stores = {name for node in inside if isinstance(node, kind) for name in node.names}
        if at_module:
            return cls(reads, stores, stores)
        shared = {name for node in _own(scope.body) if isinstance(node, ast.Global) for name in node.names}
        own = _stored(scope.body) - shared
        own |= _arguments(scope)
        elsewhere = {
            name
            for node in _own(module.body)
            if isinstance(node, _SCOPES) and node is not scope
            for name in free_reads(node)
        }
        return cls(reads | (elsewhere - own), stores, shared)


def free_reads(scope: ast.AST) -> set[str]:
    """The variables that a function or class reads and does not have itself."""
    if isinstance(scope, ast.Lambda):
        body: list[Any] = [scope.body]
    else:
        assert isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        body = scope.body
    own: set[str] = set()
    if not isinstance(scope, ast.ClassDef):
        own = _arguments(scope) | _stored(body)
    outer = {
        name for node in _own(body) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    own -= outer
    found: set[str] = set()
    for node in _own(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, _SCOPES):
            found |= free_reads(node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    for node in _own(body):
        if isinstance(node, _COMPREHENSIONS):
            own |= {name for part in node.generators for name in _names(part.target)} - outer
    return found - own


# -- liveness ---------------------------------------------------------------------------------------------------------


def _analyse(
    scope: Scope,
    loop: Loop,
    call: ast.Call | None,
    lookup: Lookup,
    others: _Functions,
) -> Live:
    flow = _Flow(loop, call, lookup, others)
    end = flow.both(others.shared)
    flow.block(scope.body, end, _Jumps(to_return=end))
    return flow.found


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
    """One pass, backwards. `found` is what is live at the place asked for."""

    def __init__(
        self,
        loop: Loop,
        call: ast.Call | None,
        lookup: Lookup,
        others: _Functions,
    ) -> None:
        self._loop = loop
        self._call = call
        self._lookup = lookup
        self._called = self.both(others.reads)
        self._stored_in_loop = _stored(loop.body)
        self._changed_in_loop = _changed(loop.body, lookup)
        self._resized = {
            _root(each.func)
            for each in _calls(loop.body)
            if isinstance(each.func, ast.Attribute) and each.func.attr in _CHANGING
        }
        self.found: Live = _NOTHING

    @staticmethod
    def both(names: Iterable[str]) -> Live:
        return frozenset(each for name in names for each in (name, name + "*"))

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
        return any(node is self._call for node in _own(parts))

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
                return after - self.both(_imported(node))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                after = after - self.both([node.name])
                return self._reads([node], after) | self.both(free_reads(node))
        return self._reads([node], after)

    # -- expressions ---------------------------------------------------------------------------------------------

    def read(self, node: ast.AST, after: Live) -> Live:
        return self._reads([node], after)

    def _reads(self, nodes: Sequence[ast.AST], after: Live) -> Live:
        """What is live before some expressions."""
        assigned = {
            name: (part.end_lineno or 0, part.end_col_offset or 0)
            for node in nodes
            for part in _certain(node)
            if isinstance(part, ast.NamedExpr)
            for name in _names(part.target)
        }
        before = set(after) - self.both(assigned)
        hidden = set()
        for part in _own(nodes):
            if isinstance(part, _COMPREHENSIONS):
                hidden |= {
                    id(inner)
                    for names in [{name for each in part.generators for name in _names(each.target)}]
                    for inner in ast.walk(part)
                    if isinstance(inner, ast.Name) and inner.id in names
                }
        for part in _own(nodes):
            match part:
                case ast.Call():
                    before |= self._called
                    if isinstance(part.func, ast.Name) and part.func.id in (
                        _READ_ALL if part.args else _READ_OWN
                    ):
                        before |= self.both(self._stored_in_loop)
                case ast.Lambda():
                    before |= self.both(free_reads(part))
            for asked in _asks_for_form(part):
                if _kind(self._lookup, asked.id) is np.ndarray:
                    hidden.add(id(asked))
                    before.add(asked.id)
        for part in _own(nodes):
            if (
                isinstance(part, ast.Name)
                and isinstance(part.ctx, ast.Load)
                and id(part) not in hidden
                and not assigned.get(part.id, (1 << 30, 0)) <= (part.lineno, part.col_offset)
            ):
                before |= {part.id, part.id + "*"}
        return frozenset(before)

    def store(self, targets: Sequence[ast.expr], after: Live) -> Live:
        """What is live before some targets are assigned or deleted."""
        for target in targets:
            match target:
                case ast.Name():
                    after -= self.both([target.id])
                case ast.Tuple() | ast.List():
                    after = self.store(target.elts, after)
                case ast.Starred():
                    after = self.store([target.value], after)
                case ast.Subscript(value=ast.Name(id=name)):
                    if _is_whole(target.slice) and _kind(self._lookup, name) in (np.ndarray, list):
                        after -= {name + "*"}
                    # Of an object of an unknown class, code of its own runs.
                    known = {name} if _kind(self._lookup, name) is not None else self.both([name])
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
                if _kind(self._lookup, name) in (list, set):
                    return after | {name}
                return after | self.both([name])
        root = _root(node.target)
        after = self._reads([node.value, node.target], after)
        return after if root is None else after | self.both([root])

    def _method(self, name: str, attr: str, call: ast.Call, after: Live) -> Live:
        kind = _kind(self._lookup, name)
        arguments = [*call.args, *call.keywords]
        if kind is np.ndarray and attr in _OVERWRITING:
            return self._reads(arguments, after - {name + "*"}) | {name}
        if kind not in (None, np.ndarray) and attr in _ADDING:
            rest = after - {name + "*"} if attr == "clear" else after
            return self._reads(arguments, rest) | {name} | self._called
        return self.read(call, after)

    # -- blocks --------------------------------------------------------------------------------------------------

    def _for(self, node: ast.For | ast.AsyncFor, after: Live, jumps: _Jumps) -> Live:
        done = self.block(node.orelse, after, jumps)
        target = self.both(_names(node.target))
        head: Live = _NOTHING
        first: Live = _NOTHING
        while True:  # It only grows, and there are finitely many names.
            inner = replace(jumps, to_break=after, to_continue=head)
            first = self.store([node.target], self.block(node.body, head, inner)) - target
            new = head | done | first
            if new == head:
                break
            head = new
        if node is self._loop and self._call is None:
            self.found |= head
        before = head
        if node is not self._loop and self._range(node):
            # It runs at least once.
            before = first
            if not _leaves(node.body) and (overwritten := self._overwritten(node)):
                before -= overwritten - self._used_inside(node)
        return self.read(node.iter, before)

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
                return _whole(self._value(node))
            case ast.Attribute() if _root(node) not in self._stored_in_loop | self._changed_in_loop:
                return _whole(self._value(node))
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
        if isinstance(value, _ARRAYS):
            return int(value.shape[0]) if value.ndim else None
        return len(value) if type(value) in (list, tuple, dict, str) else None

    def _overwritten(self, node: ast.For | ast.AsyncFor) -> set[str]:
        """Contents that a loop overwrites from end to end: `for t in range(len(x)): x[t] = ...`."""
        steps = self._range(node)
        if steps is None or not isinstance(node.target, ast.Name):
            return set()
        found = set()
        for statement in _sure(node.body):
            for target in _targets(statement) if isinstance(statement, ast.Assign) else ():
                for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                    name = _element(part, node.target.id)
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
        used: set[str] = set(self._called) if any(_calls(node.body)) else set()
        items = [part for part in _own(node.body) if isinstance(part, ast.withitem)]
        used |= {part.id + "*" for part in _own(items) if isinstance(part, ast.Name)}
        for statement in _sure(node.body):
            stores = {
                id(part.value)
                for part in ast.walk(statement)
                if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store)
            }
            loads = {
                id(part.value)
                for part in ast.walk(statement)
                if isinstance(part, ast.Subscript) and _element(part, node.target.id) in written
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
                    name for target in statement.targets if (name := _element(target, node.target.id))
                }
        return used

    def _while(self, node: ast.While, after: Live, jumps: _Jumps) -> Live:
        ends = not (isinstance(node.test, ast.Constant) and node.test.value)
        done = self.block(node.orelse, after, jumps) if ends else _NOTHING
        head: Live = _NOTHING
        while True:
            inner = replace(jumps, to_break=after, to_continue=head)
            new = head | self.read(node.test, self.block(node.body, head, inner) | done)
            if new == head:
                break
            head = new
        if node is self._loop and self._call is None:
            self.found |= head
        return head

    def _with(self, node: ast.With | ast.AsyncWith, after: Live, jumps: _Jumps) -> Live:
        inner = replace(jumps, to_raise=jumps.to_raise | after) if _suppresses(node) else jumps
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
            live -= self.both([handler.name]) if handler.name else _NOTHING
            caught |= live if handler.type is None else self.read(handler.type, live)
        inside = replace(outer, to_raise=caught)
        return self.block(node.body, self.block(node.orelse, after, outer), inside) | caught

    def _match(self, node: ast.Match, after: Live, jumps: _Jumps) -> Live:
        live = after
        for case in reversed(node.cases):
            entered = self.block(case.body, after, jumps)
            if case.guard is not None:
                entered = self.read(case.guard, entered | live)
            entered -= self.both(_stored([case.pattern]))
            entered = self._reads([case.pattern], entered)
            irrefutable = (
                isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None
            )
            live = entered if irrefutable else entered | live
        return self.read(node.subject, live)


def _asks_for_form(node: ast.AST) -> list[ast.Name]:
    """The variables of which only the shape or the dtype matters: in `x.shape`, `len(x)`, `np.zeros_like(x)`."""
    match node:
        case ast.Attribute(value=ast.Name() as name, attr=attr) if attr in _SHAPE:
            return [name]
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name() as name]):
            return [name]
        case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Name() as name, *_]) if attr in _LIKE:
            return [name]
    return []


def _certain(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression that are evaluated whenever it is."""
    todo = [node]
    while todo:
        part = todo.pop()
        yield part
        match part:
            case ast.BoolOp():
                todo.append(part.values[0])
            case ast.IfExp():
                todo.append(part.test)
            case ast.Compare() if len(part.ops) > 1:
                todo += [part.left, part.comparators[0]]
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                todo.append(part.generators[0].iter)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
                pass
            case _:
                todo += ast.iter_child_nodes(part)


def _is_whole(index: ast.expr) -> bool:
    """Whether an index is `:` or `...`."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return all(
        (isinstance(part, ast.Slice) and part.lower is part.upper is part.step is None)
        or (isinstance(part, ast.Constant) and part.value is ...)
        for part in parts
    )


def _element(node: ast.AST, index: str) -> str | None:
    """The `x` of `x[index]` or `x[index, :]`."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return None
    first, *rest = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    whole = isinstance(first, ast.Name) and first.id == index and all(map(_is_whole, rest))
    return node.value.id if whole else None


def _leaves(body: Sequence[ast.AST], *, inside: bool = False) -> bool:
    """Whether a loop's body may end a round early, or the loop. `inside`: whether it is in an inner loop."""
    for node in body:
        if isinstance(node, ast.Return | ast.Raise) or (
            isinstance(node, ast.Break | ast.Continue) and not inside
        ):
            return True
        if isinstance(node, (*_SCOPES, ast.expr)):
            continue
        if _leaves(list(ast.iter_child_nodes(node)), inside=inside or isinstance(node, _LOOPS)):
            return True
    return False


def _sure(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block that run whenever it does, also those in `with` blocks."""
    for statement in body:
        if isinstance(statement, ast.With | ast.AsyncWith) and not _suppresses(statement):
            yield from _sure(statement.body)
        else:
            yield statement


def _suppresses(node: ast.With | ast.AsyncWith) -> bool:
    """Whether a `with` block may swallow an exception."""
    calls = _calls([item.context_expr for item in node.items])
    return any(ast.unparse(call.func).endswith(("suppress", "raises")) for call in calls)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None
