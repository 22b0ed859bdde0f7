"""From a `State` back into live objects, in two steps: match everything first, then write.

Matching changes nothing: what does not fit is known, path by path, before the first live object is touched.
It knows no files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure.errors import PerdureError, RestoreError
from perdure.state import rng
from perdure.state._capture import parts_of
from perdure.state._report import Report
from perdure.state.restoring._apply import Writer
from perdure.state.restoring._match import make_plan
from perdure.state.restoring._plan import ABSENT, Plan
from perdure.state.restoring._read_arrays import fill
from perdure.tree import Node, Object, Omitted, State


def restore(
    state: State,
    world: Any,
    *,
    strict: bool = True,
    skip: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a state into the live objects of a world that the same script built anew.

    Objects, arrays and tensors that are there keep their identity and are filled in place; what was created
    while the program ran is made from plain values. The process's random generators are set last.

    :param state: what `capture` returned, or a store read.
    :param world: a :class:`perdure.World`, a dict of names to objects, or a single object, as it was
        captured.
    :param strict: raise if anything is missing, unexpected or does not fit; otherwise leave such parts as
        they are and say so in the report.
    :param skip: paths of live objects to leave alone, as for `capture`.
    :param progress: called now and then with the number of bytes that were read, and of all that are to be read.
    :returns: what became of every path.
    :raises RestoreError: if something does not fit (before anything was changed), or a handler failed.
    :raises DamagedError: if an array could not be read. Arrays that are there may have been written into, and
        nothing else was changed: an older state can be restored.
    """
    before = rng.get_state()
    # Whatever happens below may draw: the last thing done is to put the generators where they belong.
    after = before
    try:
        live = parts_of(world)
        plan, generators = _matched(state, world, live, skip)
        if strict and not plan.report.exact:
            raise RestoreError(
                "the checkpoint does not fit what the script has built; nothing was changed:\n"
                f"{plan.report.problems()}\n"
                "Run the script that wrote it, or take what fits with strict=False (perdure.Run(..., strict=False)).",
                plan.report,
            )
        fill(plan, progress)
        _put(world, live, Writer(plan).write())
        after = generators or before
    finally:
        rng.set_state(after)
    return plan.report


def check(state: State, world: Any, *, skip: Sequence[str] = ()) -> Report:
    """What `restore` would make of every path; nothing is changed."""
    before = rng.get_state()
    try:
        plan, _ = _matched(state, world, parts_of(world), skip)
    finally:
        rng.set_state(before)
    return plan.report


def _matched(
    state: State, world: Any, live: dict[str, Any], skip: Sequence[str]
) -> tuple[Plan, dict[str, Any] | None]:
    try:
        fields = dict(state.root.fields)
        process = next((name for name, node in fields.items() if rng.is_process(node)), None)
        generators = None if process is None else (process, fields.pop(process))
        # A world of named parts may be given more of them while it runs.
        grows = callable(getattr(type(world), "parts", None))
        plan = make_plan(Object(state.root.type, fields), live, skip, grows)
        _check_places(plan, world, live)
        return plan, None if generators is None else _generators(*generators, plan.report, skip)
    except PerdureError:
        raise
    except Exception as error:
        raise RestoreError(
            f"the checkpoint could not be compared with what the script has built ({type(error).__name__}: {error}); "
            "nothing was changed"
        ) from error


def _check_places(plan: Plan, world: Any, live: dict[str, Any]) -> None:
    """A part that is a value by itself can only be restored where there is a place to put it."""
    if isinstance(world, dict) or callable(getattr(type(world), "parts", None)):
        return
    for name, node in plan.root.fields.items():
        in_place = isinstance(node, Node) and plan.pairs.get(id(node), ABSENT) is live.get(name)
        if isinstance(node, Omitted) or (in_place and not isinstance(live[name], tuple | frozenset)):
            continue
        if (id(plan.root), name) not in plan.left and id(node) not in plan.bad:
            plan.report.mismatched.append(
                (name, "it can only be replaced as a whole. Put it into a perdure.World")
            )
            plan.bad.add(id(node))
            plan.left.add((id(plan.root), name))


def _generators(name: str, node: Node, report: Report, skip: Sequence[str]) -> dict[str, Any] | None:
    """The saved state of the process's generators, tried out; None if it is not to be had."""
    process = rng.Generators(rng.get_state())
    plan = make_plan(Object("", {name: node}), {name: process}, skip)
    report.restored += plan.report.restored
    report.skipped += plan.report.skipped
    report.missing += plan.report.missing
    report.unexpected += plan.report.unexpected
    report.mismatched += plan.report.mismatched
    if not plan.report.exact:
        return None
    fill(plan)
    before = rng.get_state()
    try:
        Writer(plan).write()
        rng.set_state(vars(process))
    except Exception as error:
        report.mismatched.append(
            (rng.PART, f"the checkpoint has states that no generators can have: {error}")
        )
        return None
    finally:
        rng.set_state(before)
    return vars(process)


def _put(world: Any, live: dict[str, Any], written: dict[str, Any]) -> None:
    for name, value in written.items():
        if value is live.get(name, ABSENT):
            continue
        if isinstance(world, dict):
            dict.__setitem__(world, name, value)
        else:
            setattr(world, name, value)
