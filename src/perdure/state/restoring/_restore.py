"""From a `State` back into live objects, in two steps: match everything first, then write.

Matching changes nothing. What does not fit is known, path by path, before the first live object is touched. Knows no
files.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from perdure.errors import NotCapturedWarning, PerdureError, RestoreError, user_level
from perdure.state import rng
from perdure.state._capture import LiveWorld, walk_live
from perdure.state._class_names import class_name
from perdure.state._live_objects import LiveObjects
from perdure.state._protocol import CREATE, RESTORE, OwnHandler
from perdure.state._report import Report, grouped
from perdure.state.restoring._apply import FilledArray, Written, filled_arrays, write
from perdure.state.restoring._match import make_plan
from perdure.state.restoring._override import Overridden
from perdure.state.restoring._override import override as apply_override
from perdure.state.restoring._plan import ABSENT, RestorePlan
from perdure.state.restoring._process_strings import own_strings
from perdure.state.restoring._put_back import InPlace
from perdure.state.restoring._read_arrays import read_arrays
from perdure.tree import Node, Object, Omitted, State

Progress = Callable[[int, int], None]


def restore(
    state: State,
    world: Any,
    *,
    strict: bool = True,
    skip: Sequence[str] = (),
    override: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a state into the live objects of a world that the same script built anew.

    Existing objects, arrays and tensors keep their identity and are filled in place. What was created while the
    program ran is made from plain values. The process's random generators are set last.

    :param state: what `capture` returned, or a store read.
    :param world: a :class:`perdure.World`, a dict of names to objects, or a single object, as it was captured.
    :param strict: raise if anything is missing, unexpected or does not fit; otherwise leave such parts as they are and
        list them in the report.
    :param skip: paths of live objects to leave alone, as for `capture`.
    :param override: values that win over those of the state, which is changed: for each path (with `*` and `?`) the
        value, or `FROM_SCRIPT` for what is in the world.
    :param progress: called now and then with the number of bytes that were read, and the number of bytes to read.
    :returns: what became of every path.
    :raises RestoreError: if something does not fit (nothing was changed then), or a handler failed.
    :raises DamagedError: if an array could not be read. Live arrays may have been written into, and nothing else was
        changed: an older state can be restored.
    """
    with _comparing():
        live = walk_live(world, skip=skip)
    overridden = apply_override(state, live.root, override or {})
    restored = prepare(state, world, live).apply(strict=strict, progress=progress)
    restored.write_arrays(overridden)
    return restored.report


def check(state: State, world: Any, *, skip: Sequence[str] = ()) -> Report:
    """What `restore` would make of every path; nothing is changed."""
    with _comparing():
        live = walk_live(world, skip=skip)
    return prepare(state, world, live).report


@dataclass(frozen=True)
class Restored:
    """The outcome of restoring.

    :param report: what became of every path.
    """

    report: Report
    _plan: RestorePlan
    _written: Written

    def write_arrays(self, overridden: Overridden) -> None:
        """Write the arrays that were overridden."""
        overridden.write_arrays(self._written.objects)

    def filled_arrays(self) -> list[FilledArray]:
        """The live arrays that were filled, each with what it was read from."""
        return filled_arrays(self._plan, self._written)


class Restoration:
    """A saved state that was matched with a world; `apply` writes it. The world must not change in between.

    :param report: what becomes of every path.
    """

    def __init__(
        self,
        plan: RestorePlan,
        world: Any,
        parts: Mapping[str, Any],
        report: Report,
        generators: dict[str, Any] | None,
    ) -> None:
        self.report = report
        self._plan = plan
        self._world = world
        self._parts = parts
        self._generators = generators

    def apply(self, *, strict: bool = True, progress: Progress | None = None) -> Restored:
        """Write the state into the world; see :func:`restore`, which documents the parameters and the errors."""
        if strict and not self.report.exact:
            raise RestoreError(
                "the checkpoint does not fit what the script has built; nothing was changed:\n"
                f"{self.report.problems()}\n"
                f"Run the script that wrote it. {_price(self.report)}",
                self.report,
            )
        # Handlers may draw random numbers, so the generators are set last, whatever happens.
        last = rng.get_state()
        try:
            written = write(self._plan, read_arrays(self._plan, progress))
            self._rebind(written.parts)
            last = self._generators or last
            _verify(written.in_place, self._plan.matches.world.skip, strict=strict)
        finally:
            rng.set_state(last)
        return Restored(self.report, self._plan, written)

    def _rebind(self, written: Mapping[str, Any]) -> None:
        for name in self._plan.matches.removed:
            if isinstance(self._world, dict):
                dict.pop(self._world, name, None)
            else:
                delattr(self._world, name)
        for name, value in written.items():
            if value is self._parts.get(name, ABSENT):
                continue
            if isinstance(self._world, dict):
                dict.__setitem__(self._world, name, value)
            else:
                setattr(self._world, name, value)


def _verify(restored: Sequence[InPlace], skip: Sequence[str], *, strict: bool) -> None:
    """See that registered handlers put back what they had saved."""
    unchanged, otherwise = [], []
    for each in restored:
        found = each.difference(skip)
        if found is None:
            continue
        name = type(each.obj).__qualname__
        how, is_unchanged = found
        if is_unchanged:
            own = isinstance(each.handler, OwnHandler)
            remedy = (
                f"give {name} a {CREATE} and no {RESTORE}"
                if own
                else f"leave restore=... out: perdure.register({name}, capture=..., create=...)"
            )
            detail = f"what restores a {name} changed nothing (saved and there now: {how}). If it cannot be changed, "
            unchanged.append((each.path, f"{detail}{remedy}"))
        else:
            detail = (
                f"what restores a {name} did not put back all that was captured (saved and there now: {how})"
            )
            otherwise.append((each.path, detail))
    if unchanged and strict:
        raise RestoreError(
            f"the world is half restored, do not train on with it:\n{grouped(unchanged)}\n"
            "The checkpoint is good: mend what restores these objects, and start the script again"
        )
    if unchanged or otherwise:
        warnings.warn(
            f"a resumed run may not be exact:\n{grouped(unchanged + otherwise)}",
            NotCapturedWarning,
            stacklevel=user_level(),
        )


def _price(report: Report) -> str:
    """What it would cost to restore what fits."""
    lost = len(report.mismatched) + len(report.unexpected) + len(report.incomplete)
    cost = [f"{lost} value(s) of the checkpoint would be lost"] if lost else []
    if report.missing:
        cost.append(f"{len(report.missing)} would be as the script builds them")
    return (
        f"perdure.Run(..., strict=False) takes what fits, but then {' and '.join(cost)}: it is another run."
    )


def prepare(state: State, world: Any, live: LiveWorld) -> Restoration:
    """Match a state with a world that was walked; nothing is changed.

    :param state: what `capture` returned, or a store read.
    :param world: as for :func:`restore`.
    :param live: what the walk over this world found. The world must not have changed since.
    :raises RestoreError: if the two cannot be compared at all.
    :raises DamagedError: if the states of the random generators could not be read.
    """
    before = rng.get_state()
    try:
        with _comparing():
            return _match(state, world, live)
    finally:
        rng.set_state(before)


@contextmanager
def _comparing() -> Iterator[None]:
    try:
        yield
    except PerdureError:
        raise
    except Exception as error:
        raise RestoreError(
            f"the checkpoint could not be compared with what the script has built ({type(error).__name__}: {error}); "
            "nothing was changed"
        ) from error


def _match(state: State, world: Any, live: LiveWorld) -> Restoration:
    fields = dict(state.root.fields)
    process = next((name for name, node in fields.items() if rng.is_process(node)), None)
    generators = None if process is None else fields.pop(process)
    # A world of named parts may be given more of them while it runs.
    grows = callable(getattr(type(world), "parts", None))
    root = Object(state.root.type, fields)
    plan = make_plan(root, live, own_strings(root, live.root, live.skip), grows=grows)
    if not (grows or isinstance(world, dict)):
        plan = _without_unplaceable(plan, live.parts)
    if process is None:
        return Restoration(plan, world, live.parts, plan.report, None)
    report, values = _match_generators(process, generators, live.skip)
    return Restoration(plan, world, live.parts, _joined(plan.report, report), values)


def _without_unplaceable(plan: RestorePlan, parts: Mapping[str, Any]) -> RestorePlan:
    """The plan without parts that would have to be replaced: where the world is a single object, nothing holds it."""
    left, bad, mismatched = dict(plan.left), set(plan.bad), list(plan.report.mismatched)
    for name, node in plan.root.fields.items():
        in_place = isinstance(node, Node) and plan.matches.live(node) is parts.get(name)
        if isinstance(node, Omitted) or (in_place and not isinstance(parts[name], tuple | frozenset)):
            continue
        if plan.writes(plan.root, name, node):
            mismatched.append((name, "it can only be replaced as a whole. Put it into a perdure.World"))
            bad.add(id(node))
            left[id(plan.root), name] = False
    report = replace(plan.report, mismatched=mismatched)
    return replace(plan, report=report, left=left, bad=frozenset(bad))


def _match_generators(name: str, node: Any, skip: Sequence[str]) -> tuple[Report, dict[str, Any] | None]:
    """Match the saved states of the process's random generators and try them out.

    :returns: what becomes of them, and the states; None if they cannot be had.
    """
    process = rng.Generators(rng.get_state())
    live = LiveObjects({name: process}, {class_name(rng.Generators): rng.Generators}, skip=skip)
    plan = make_plan(Object("", {name: node}), live)
    if not plan.report.exact:
        return plan.report, None
    contents = read_arrays(plan)
    before = rng.get_state()
    try:
        write(plan, contents)
        rng.set_state(vars(process))
    except Exception as error:
        problem = (rng.PART, f"the checkpoint has states that no generators can have: {error}")
        return replace(plan.report, mismatched=[*plan.report.mismatched, problem]), None
    finally:
        rng.set_state(before)
    return plan.report, vars(process)


def _joined(a: Report, b: Report) -> Report:
    return Report(
        a.restored + b.restored,
        a.skipped + b.skipped,
        a.missing + b.missing,
        a.unexpected + b.unexpected,
        a.mismatched + b.mismatched,
        a.incomplete + b.incomplete,
        a.places + b.places,
        {**a.alike, **b.alike},
    )
