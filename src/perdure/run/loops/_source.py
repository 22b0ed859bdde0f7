"""What the source of a loop says of its variables: which are assigned, read and changed where. Nothing is run."""

from __future__ import annotations

import ast
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

#: The value that a variable has before the loop; raises `LookupError` if it has none.
Lookup: TypeAlias = Callable[[str], Any]
Loop: TypeAlias = "ast.For | ast.AsyncFor | ast.While"
Scope: TypeAlias = "ast.Module | ast.FunctionDef | ast.AsyncFunctionDef"

ARRAYS = (np.ndarray, torch.Tensor)
_BUILTIN = (list, dict, set, collections.deque, collections.OrderedDict, collections.defaultdict)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
#: Methods that change a built-in container without telling what was in it.
ADDING = frozenset(
    ("append", "appendleft", "extend", "extendleft", "add", "update", "insert", "clear", "sort", "reverse")
)
#: Methods that change a built-in container, or an array.
CHANGING = ADDING | {
    "pop", "popleft", "popitem", "remove", "discard", "setdefault", "rotate", "fill", "fill_", "zero_", "copy_",
}  # fmt: skip
#: Attributes of arrays that have nothing to do with their content.
_SHAPE = frozenset(("shape", "dtype", "device", "ndim", "size"))
#: Functions that make an array of the same form.
_LIKE = frozenset(("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"))


def own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
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


def assigned_names(target: ast.AST) -> list[str]:
    return [
        node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def stored_names(body: Sequence[ast.AST]) -> set[str]:
    """All variables that these statements may assign or delete."""
    found: set[str] = set()
    for node in own_nodes(body):
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                found.add(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Import() | ast.ImportFrom():
                found |= imported_names(node)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                found.add(name)
            case ast.MatchMapping(rest=str(name)):
                found.add(name)
    return found


def imported_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}


def targets_of(node: ast.stmt) -> list[ast.expr]:
    match node:
        case ast.Assign():
            return node.targets
        case ast.AugAssign() | ast.AnnAssign() | ast.For() | ast.AsyncFor():
            return [node.target]
        case ast.With() | ast.AsyncWith():
            return [item.optional_vars for item in node.items if item.optional_vars is not None]
    return []


def calls_in(body: Iterable[ast.AST]) -> Iterator[ast.Call]:
    return (node for node in own_nodes(body) if isinstance(node, ast.Call))


def root_of(node: ast.expr) -> str | None:
    """The variable at the beginning of `x.a[0].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def changed_names(body: Sequence[ast.stmt], lookup: Lookup) -> set[str]:
    """The variables whose objects these statements change, as the source shows."""
    found: set[str | None] = set()
    for node in own_nodes(body):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                found.add(root_of(node))
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in CHANGING:
                name = root_of(value)
                if name is not None and (
                    not isinstance(value, ast.Name) or kind_of(lookup, name) is not None
                ):
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


def kind_of(lookup: Lookup, name: str) -> type | None:
    """The class of a built-in container, `np.ndarray` for arrays of all kinds, None for everything else."""
    try:
        value = lookup(name)
    except LookupError:
        return None
    if type(value) in _BUILTIN:
        return type(value)
    return np.ndarray if isinstance(value, ARRAYS) else None


def rebound_to_themselves(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that are only assigned as in `x = x.to(device)`."""
    itself: set[str] = set()
    otherwise: set[str] = set()
    shown = set()
    for node in own_nodes(body):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            value = node.value
            while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
                value = value.func.value
            if isinstance(value, ast.Name) and value.id == name and value is not node.value:
                itself.add(name)
                shown.add(id(node.targets[0]))
    for node in own_nodes(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in shown:
            otherwise.add(node.id)
    return itself - otherwise


@dataclass(frozen=True)
class OtherFunctions:
    """What other functions of the file do with the variables of a scope when they are called.

    :param reads: what they read.
    :param stores: what they assign.
    :param shared: variables of the scope that are read after it has returned.
    """

    reads: set[str]
    stores: set[str]
    shared: set[str]

    @classmethod
    def around(cls, module: ast.Module, scope: Scope) -> OtherFunctions:
        at_module = isinstance(scope, ast.Module)
        inside = [node for statement in scope.body for node in ast.walk(statement)]
        reads = {
            name for node in own_nodes(scope.body) if isinstance(node, SCOPES) for name in free_reads(node)
        }
        kind = ast.Global if at_module else ast.Nonlocal
        stores = {name for node in inside if isinstance(node, kind) for name in node.names}
        if at_module:
            return cls(reads, stores, stores)
        shared = {
            name for node in own_nodes(scope.body) if isinstance(node, ast.Global) for name in node.names
        }
        own = stored_names(scope.body) - shared
        own |= arguments_of(scope)
        elsewhere = {
            name
            for node in own_nodes(module.body)
            if isinstance(node, SCOPES) and node is not scope
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
        own = arguments_of(scope) | stored_names(body)
    outer = {
        name for node in own_nodes(body) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    own -= outer
    found: set[str] = set()
    for node in own_nodes(body):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, SCOPES):
            found |= free_reads(node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    for node in own_nodes(body):
        if isinstance(node, COMPREHENSIONS):
            own |= {name for part in node.generators for name in assigned_names(part.target)} - outer
    return found - own


def arguments_of(scope: ast.AST) -> set[str]:
    """The names of a function's arguments; none of a module or a class."""
    if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return set()
    return {argument.arg for argument in ast.walk(scope.args) if isinstance(argument, ast.arg)}


def in_order(node: ast.AST) -> list[str]:
    """All names in a piece of source, in the order in which they are first written."""
    found = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
    return list(dict.fromkeys(part.id for part in sorted(found, key=position_of)))


def position_of(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def asks_for_form(node: ast.AST) -> list[ast.Name]:
    """The variables of which only the shape or the dtype matters: in `x.shape`, `len(x)`, `np.zeros_like(x)`."""
    match node:
        case ast.Attribute(value=ast.Name() as name, attr=attr) if attr in _SHAPE:
            return [name]
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name() as name]):
            return [name]
        case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Name() as name, *_]) if attr in _LIKE:
            return [name]
    return []


def certain_parts(node: ast.AST) -> Iterator[ast.AST]:
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


def is_whole(index: ast.expr) -> bool:
    """Whether an index is `:` or `...`."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return all(
        (isinstance(part, ast.Slice) and part.lower is part.upper is part.step is None)
        or (isinstance(part, ast.Constant) and part.value is ...)
        for part in parts
    )


def element_of(node: ast.AST, index: str) -> str | None:
    """The `x` of `x[index]` or `x[index, :]`."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return None
    first, *rest = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    whole = isinstance(first, ast.Name) and first.id == index and all(map(is_whole, rest))
    return node.value.id if whole else None


def leaves_early(body: Sequence[ast.AST], *, inside: bool = False) -> bool:
    """Whether a loop's body may end a round early, or the loop. `inside`: whether it is in an inner loop."""
    for node in body:
        if isinstance(node, ast.Return | ast.Raise) or (
            isinstance(node, ast.Break | ast.Continue) and not inside
        ):
            return True
        if isinstance(node, (*SCOPES, ast.expr)):
            continue
        if leaves_early(list(ast.iter_child_nodes(node)), inside=inside or isinstance(node, _LOOPS)):
            return True
    return False


def sure_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block that run whenever it does, also those in `with` blocks."""
    for statement in body:
        if isinstance(statement, ast.With | ast.AsyncWith) and not suppresses(statement):
            yield from sure_statements(statement.body)
        else:
            yield statement


def suppresses(node: ast.With | ast.AsyncWith) -> bool:
    """Whether a `with` block may swallow an exception."""
    calls = calls_in([item.context_expr for item in node.items])
    return any(ast.unparse(call.func).endswith(("suppress", "raises")) for call in calls)


def whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


#: What a tensor gives that does not lead back to how it was computed.
_NUMBERS = frozenset(
    ("data", "detach", "device", "dim", "dtype", "item", "ndim", "numel", "numpy", "shape", "size", "tolist")
)
#: Not `print` and `str`: what they show of a tensor names the function that computed it.
_OF_NUMBERS = frozenset(("bool", "float", "int", "len"))


def reads_of_numbers(nodes: Sequence[ast.AST], is_log: Callable[[str], bool]) -> set[int]:
    """The names (by their ids) of which some expressions read the numbers alone, if they are tensors: `loss.item()`.

    :param is_log: whether a variable is something that numbers are written to.
    """
    found: set[int] = set()
    for node in own_nodes(nodes):
        match node:
            case ast.Attribute(attr=attr, value=value) if attr in _NUMBERS:
                read = _base_of(value)
            case ast.Call(func=ast.Name(id=name)) if name in _OF_NUMBERS:
                read = [*node.args]
            case ast.Call(func=ast.Attribute(attr="add_scalar")):
                read = [*node.args]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if is_log(name):
                read = [*node.args, *(each.value for each in node.keywords)]
            case ast.Compare():
                read = [node.left, *node.comparators]
            case ast.FormattedValue(format_spec=ast.AST()):  # `f"{loss:.3f}"`
                read = [node.value]
            case _:
                continue
        found |= {id(each) for each in read if isinstance(each, ast.Name)}
    return found


def _base_of(node: ast.expr) -> list[ast.expr]:
    """What a chain of methods, attributes and subscripts begins with: `x` of `x.mean().cpu()`."""
    while True:
        match node:
            case ast.Call(func=ast.Attribute(attr=attr, value=value)) if attr != "backward":
                node = value
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                node = value
            case _:
                return [node]
