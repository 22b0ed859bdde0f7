"""Which variables a loop carries from one round to the next, as its source says."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from perdure.run.loops._liveness import Live, live_in_rounds, live_names
from perdure.run.loops._source import (
    Lookup,
    Loop,
    OtherFunctions,
    Scope,
    arguments_of,
    assigned_names,
    calls_in,
    changed_names,
    in_order,
    own_nodes,
    position_of,
    rebound_to_themselves,
    stored_names,
)


@dataclass(frozen=True)
class Carried:
    """What a loop carries from one round to the next.

    :param bound: variables that the loop assigns, and may read before it assigns them again.
    :param rebound_to_itself: those of `bound` that are only assigned as in `x = x.method(...)`: often the same object.
    :param changed: variables whose objects the loop changes, and may read before it overwrites them.
    :param perhaps: variables whose objects the loop hands on, and may so change.
    :param numbers: those of `bound` of which only the numbers are read, if they are tensors, and not how they were
        computed: a loss that is logged, say.
    """

    bound: tuple[str, ...] = ()
    rebound_to_itself: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


def carried(
    module: ast.Module,
    scope: Scope,
    loop: Loop,
    call: ast.Call | None,
    lookup: Lookup,
    *,
    is_inner: bool = False,
) -> Carried:
    """What a loop carries.

    :param module: the whole source file.
    :param scope: the function, or the module, around the loop.
    :param loop: a loop of `scope`.
    :param call: where in the loop a checkpoint is taken; by default at its head, before the next round.
    :param lookup: gives the values that variables have before the loop.
    :param is_inner: whether the call is that of a function which takes the checkpoint.
    """
    others = OtherFunctions.around(module, scope)
    live = live_names(scope, loop, call, lookup, others)
    stored = stored_names(loop.body) | (others.stores if any(calls_in(loop.body)) else set())
    apart = set() if call is None else _given(call, lookup, is_inner=is_inner)
    if not isinstance(loop, ast.While):
        apart |= set(assigned_names(loop.target))
    if call is not None:
        apart |= _read_back(scope, loop)
    before = _assigned_before(scope, loop) | _read_first(loop)
    changed, itself = changed_names(loop.body, lookup), rebound_to_themselves(loop.body)
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
        tuple(name for name in bound if name + "^" not in live),
    )


@dataclass(frozen=True)
class Needed:
    """What a loop needs of its variables to go on.

    :param names: those that may be read from its head on before they are assigned, in the order of the source.
    :param assigned: those that it may assign.
    :param graphs: those of `names` that hold a tensor, if so, that further rounds may compute gradients through.
    """

    names: tuple[str, ...]
    assigned: frozenset[str]
    graphs: frozenset[str]


def needed(module: ast.Module, scope: Scope, loop: Loop, lookup: Lookup) -> Needed:
    """What a loop needs of its variables to go on.

    :param module: the whole source file.
    :param scope: the function, or the module, around the loop.
    :param loop: a loop of `scope`.
    :param lookup: gives the values that variables have before the loop.
    """
    others = OtherFunctions.around(module, scope)
    live = _names(live_names(scope, loop, None, lookup, others))
    names = dict.fromkeys([*in_order(scope), *sorted(live)])
    return Needed(
        tuple(name for name in names if name in live and not name.startswith("__")),
        frozenset(stored_names(loop.body) | others.stores),
        frozenset(
            name.removesuffix("^")
            for name in live_in_rounds(scope, loop, lookup, others)
            if name.endswith("^")
        ),
    )


def _names(live: Live) -> frozenset[str]:
    return frozenset(name.rstrip("*^") for name in live)


def _given(call: ast.Call, lookup: Lookup, *, is_inner: bool) -> set[str]:
    """The variables that a checkpoint holds because they are given to its call: the step, and the counters."""
    if is_inner:
        # Which argument becomes the step is not seen here; it is a whole number.
        return {name for name in in_order(call) if _is_whole(lookup, name)}
    named = [each.value for each in call.keywords if each.arg in ("world", "step", "counters")]
    return {name for part in (*call.args, *named) for name in in_order(part)}


def _is_whole(lookup: Lookup, name: str) -> bool:
    try:
        return type(lookup(name)) is int
    except LookupError:
        return False


def _assigned_before(scope: Scope, loop: Loop) -> set[str]:
    """The variables that a scope assigns outside a loop."""
    inside = {id(node) for node in ast.walk(loop)}
    found = {
        node.id
        for node in own_nodes(scope.body)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inside
    }
    return found | arguments_of(scope)


def _read_first(loop: Loop) -> set[str]:
    """The variables that a loop reads further up than it assigns them."""
    names = sorted((node for node in ast.walk(loop) if isinstance(node, ast.Name)), key=position_of)
    stored: set[str] = set()
    found: set[str] = set()
    for node in names:
        if isinstance(node.ctx, ast.Load) and node.id not in stored:
            found.add(node.id)
        elif isinstance(node.ctx, ast.Store):
            stored.add(node.id)
    return found


def _read_back(scope: Scope, loop: Loop) -> set[str]:
    """The variables that are set from the world before a loop: `obs = world.obs`, or `obs = world["obs"]`."""
    found = set()
    for node in own_nodes(scope.body):
        if isinstance(node, ast.Assign) and node.lineno < loop.lineno:
            shown = {part.attr for part in ast.walk(node.value) if isinstance(part, ast.Attribute)}
            shown |= {
                part.slice.value
                for part in ast.walk(node.value)
                if isinstance(part, ast.Subscript)
                and isinstance(part.slice, ast.Constant)
                and isinstance(part.slice.value, str)
            }
            found |= {name for target in node.targets for name in assigned_names(target) if name in shown}
    return found
