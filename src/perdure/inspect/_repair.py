"""Repair of the checkpoints of a run: find what cannot be used, and remove it in a safe order.

Only what is proven worthless is removed. What the disk could not read just now, what a newer Perdure wrote, and what
is whole but in a wrong place stays. It knows no policies: `_policies` does.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from perdure.errors import DamagedError, PerdureWarning, StoreError
from perdure.store import (
    RUN_FILE,
    Backend,
    Catalog,
    CheckpointStatus,
    Manifest,
    Problem,
    RunInfo,
    check,
    load_checksummed,
    manifest_name,
    open_run,
    pack_name,
    pack_sizes,
    read_manifest,
    read_run,
    survey,
    verdict_of,
    with_pages,
    write_run,
)

Act = Literal["restore", "move", "remove", "set aside", "link"]


class Step(NamedTuple):
    """One thing that a repair does.

    :param act: "restore" a small file from what others say, "move" a file to the place it belongs to, "remove" it,
        "set aside" what is partly good, or "link" the best policy anew.
    :param file: relative to the run's directory.
    :param reason: what is wrong with it.
    :param meaning: what that loses, or gains.
    :param target: where a "move" or "link" leads to.
    :param harmless: whether no checkpoint needs the file.
    """

    act: Act
    file: str
    reason: str
    meaning: str
    target: str = ""
    harmless: bool = False


@dataclass
class RepairPlan:
    """What a repair would do, in this order; and what is wrong and stays as it is."""

    steps: list[Step] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)


def plan_checkpoints(backend: Backend) -> RepairPlan:
    """What is to be done about the checkpoints of the run that `backend` holds. Changes nothing.

    :raises StoreError: if there is no run, or it cannot be read.
    """
    plan = RepairPlan()
    run = _plan_run(backend, plan)
    if run is not None:
        _Checkpoints(backend, run, plan).add_steps()
    return plan


def carry_out(backend: Backend, steps: Sequence[Step]) -> None:
    """Do what :func:`plan_checkpoints` planned; the caller holds the lock.

    Each step is durable before the next begins, and the order is that of retention: manifests before packs. So if the
    process is killed, the run is no worse than before, and planning again gives what is left to do.
    """
    for step in steps:
        match step.act:
            case "restore":
                run = _open_quietly(backend)
                backend.delete(step.file)
                backend.put(step.file, [write_run(run)])
            case "move":
                backend.put(step.target, [backend.get(step.file)])
                backend.delete(step.file)
            case "remove":
                backend.delete(step.file)


def _open_quietly(backend: Backend) -> RunInfo:
    """The run, without the warning that its ``run.json`` is damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerdureWarning)
        return open_run(backend)


def _plan_run(backend: Backend, plan: RepairPlan) -> RunInfo | None:
    """The run, and the step that restores its ``run.json``. None if no file says which run it is."""
    try:
        run = _open_quietly(backend)
    except DamagedError as error:
        plan.left.append(Problem(RUN_FILE, str(error), _NOTHING_GOOD))
        return None
    where = backend.locate(RUN_FILE)
    reason = f"{where} is that of another run"
    try:
        if read_run(backend.get(RUN_FILE), where) == run:
            return run
    except FileNotFoundError:
        reason = f"{where} is missing"
    except DamagedError as error:
        reason = str(error)
        if verdict_of(error) == "unreadable":
            plan.left.append(Problem(RUN_FILE, reason, _UNREADABLE))
            return run
    meaning = "it is written again from what a manifest says; nothing is lost"
    plan.steps.append(Step("restore", RUN_FILE, reason, meaning))
    return run


_UNREADABLE = "it is left as it is: that it cannot be read now does not prove that it is lost"
_NEWER = "a newer Perdure wrote it; it is left as it is"
_NOTHING_GOOD = (
    "it is left as it is: there is no good checkpoint, and repair does not remove the last traces of a run. Use a copy "
    "of the run; to begin anew, use another directory"
)


class _Checkpoints:
    """Decides what becomes of each manifest, and of each pack, and adds that to a plan."""

    def __init__(self, backend: Backend, run: RunInfo, plan: RepairPlan) -> None:
        self._backend = backend
        self._run = run
        self._plan = plan
        self._good: dict[int, Manifest] = {}
        self._bad: dict[int, str] = {}
        #: Whole manifests in a wrong place, by the number under which they lie.
        self._misplaced: dict[int, tuple[Manifest, str]] = {}
        self._moves: list[Step] = []
        #: Whether a manifest stays that may refer to any pack.
        self._unsure = False

    def add_steps(self) -> None:
        for status in survey(Catalog(self._backend, self._run.id), "data"):
            self._sort(status)
        for number, (manifest, problem) in self._misplaced.items():
            self._place(number, manifest, problem)
        if self._good:
            self._give_up()
            self._plan.steps.extend(self._moves)
        else:
            for number, problem in self._bad.items():
                self._leave(manifest_name(number), problem, _NOTHING_GOOD)
        if not self._unsure:
            self._remove_packs()

    def _leave(self, file: str, problem: str, meaning: str) -> None:
        self._plan.left.append(Problem(file, problem, meaning))
        self._unsure = True

    def _sort(self, status: CheckpointStatus) -> None:
        number, problem, manifest = status.number, status.problem, status.manifest
        match status.verdict:
            case "newer format":
                self._leave(status.info.file, problem, _NEWER)
            case "unreadable":
                self._leave(status.info.file, problem, _UNREADABLE)
            case "ok" if manifest is not None:
                self._good[number] = manifest
            case _ if manifest is None and (elsewhere := _misplaced(self._backend, number)) is not None:
                self._misplaced[number] = elsewhere, problem
            case _:
                self._bad[number] = problem

    def _place(self, number: int, manifest: Manifest, problem: str) -> None:
        own, name, target = manifest.info.number, manifest_name(number), manifest.info.file
        meaning = ""
        if manifest.run.id != self._run.id:
            meaning = (
                "it is whole, and left as it is: move it and the packs it needs to the run that it belongs to"
            )
        elif own in self._misplaced:
            meaning = f"it is whole, and belongs at {target}, where there is another whole file: rename both by hand"
        elif own in self._good and self._backend.get(name) != self._backend.get(target):
            meaning = f"it is whole, but there is another {target}: move it away by hand"
        if meaning:
            self._leave(name, problem, meaning)
        elif own in self._good:
            copy = Step("remove", name, problem, f"it is only a copy of {target}", harmless=True)
            self._moves.append(copy)
        elif (error := self._error_in(manifest)) is not None:
            if verdict_of(error) == "unreadable":
                self._leave(name, problem, _UNREADABLE)
            else:
                self._bad[number] = problem
        else:
            # Where a damaged file is in its place, that goes first; this one is there until it has a second name.
            self._moves.append(Step("move", name, problem, f"checkpoint {own} can be used again", target))
            self._good[own] = manifest

    def _error_in(self, manifest: Manifest) -> StoreError | None:
        try:
            check(Catalog(self._backend, self._run.id), manifest, "data")
        except StoreError as error:
            return error
        return None

    def _give_up(self) -> None:
        newest = self._good[max(self._good)].info
        for number, problem in sorted(self._bad.items()):
            outcome = (
                f"the run goes on from checkpoint {newest.number} (step {newest.step})"
                if number > newest.number
                else f"newer ones are good, up to checkpoint {newest.number} (step {newest.step})"
            )
            meaning = f"checkpoint {number} is given up; {outcome}"
            self._plan.steps.append(Step("remove", manifest_name(number), problem, meaning))

    def _remove_packs(self) -> None:
        sizes = pack_sizes(self._backend)
        needed = {pack for manifest in self._good.values() for pack in manifest.packs}
        for pack in sorted(sizes.keys() - needed):
            name = pack_name(pack)
            reason = f"no good checkpoint refers to {self._backend.locate(name)}"
            meaning = f"nothing is lost, and {sizes[pack]:,} bytes become free"
            self._plan.steps.append(Step("remove", name, reason, meaning, harmless=True))


def _misplaced(backend: Backend, number: int) -> Manifest | None:
    """The manifest in the file of checkpoint `number`, if it is a whole one that belongs elsewhere."""
    name = manifest_name(number)
    where = backend.locate(name)
    try:
        content = backend.get(name)
        own = load_checksummed("manifest", content, where).get("checkpoint")
        if type(own) is not int or not 0 <= own < 10**12:
            return None
        return with_pages(backend, read_manifest(content, manifest_name(own), where))
    except (DamagedError, FileNotFoundError):
        return None
