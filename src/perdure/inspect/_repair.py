"""Repair of what a backend holds of a run: what is beyond help is found, and removed in a safe order.

Only what is proven worthless goes. What the disk could not read just now, what a newer Perdure wrote, and what is
whole but in a wrong place is left alone. It knows no policies: those are :mod:`perdure.upkeep`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from perdure import tree
from perdure.errors import DamagedError, PerdureWarning, StoreError
from perdure.store import (
    RUN_FILE,
    Backend,
    Catalog,
    Manifest,
    NewerFormatError,
    Problem,
    RunInfo,
    load_checksummed,
    manifest_name,
    open_run,
    pack_name,
    pack_sizes,
    read_manifest,
    read_run,
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
    :param target: where to, of "move" and "link".
    :param harmless: nothing that any checkpoint needs was concerned.
    """

    act: Act
    file: str
    reason: str
    meaning: str
    target: str = ""
    harmless: bool = False


@dataclass
class Plan:
    """What a repair would do, in this order; and what is wrong and stays as it is."""

    steps: list[Step] = field(default_factory=list)
    left: list[Problem] = field(default_factory=list)


def plan(backend: Backend) -> Plan:
    """What is to be done about the checkpoints of the run that `backend` holds. Changes nothing.

    :raises StoreError: if there is no run, or it cannot be read.
    """
    made = Plan()
    run = _run(backend, made)
    if run is not None:
        _Survey(backend, run, made).finish()
    return made


def carry_out(backend: Backend, steps: Sequence[Step]) -> None:
    """Do what :func:`plan` planned; the caller holds the lock.

    Each step is durable before the next begins, and the order is that of retention: manifests before packs. So
    whoever is killed in between leaves a run that is no worse, and planning again gives what is left to do.
    """
    for step in steps:
        match step.act:
            case "restore":
                run = open_quietly(backend)
                backend.delete(step.file)
                backend.put(step.file, [write_run(run)])
            case "move":
                backend.put(step.target, [backend.get(step.file)])
                backend.delete(step.file)
            case "remove":
                backend.delete(step.file)


def open_quietly(backend: Backend) -> RunInfo:
    """The run, without the warning that its ``run.json`` is damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerdureWarning)
        return open_run(backend)


def _run(backend: Backend, made: Plan) -> RunInfo | None:
    """The run; and the plan to restore its ``run.json``. None if nothing at all tells which run it is."""
    try:
        run = open_quietly(backend)
    except NewerFormatError:
        raise
    except DamagedError as error:
        made.left.append(Problem(RUN_FILE, str(error), _NOTHING_GOOD))
        return None
    reason = f"{backend.locate(RUN_FILE)} is that of another run"
    try:
        if read_run(backend.get(RUN_FILE), backend.locate(RUN_FILE)) == run:
            return run
    except FileNotFoundError:
        reason = f"{backend.locate(RUN_FILE)} is missing"
    except DamagedError as error:
        reason = str(error)
        if _is_unread(error):
            made.left.append(Problem(RUN_FILE, reason, _UNREAD))
            return run
    made.steps.append(
        Step("restore", RUN_FILE, reason, "what it said is taken from a manifest; nothing is lost")
    )
    return run


_UNREAD = "it is left as it is: that it could not be read now does not prove that it is lost"
_NOTHING_GOOD = (
    "it is left as it is: there is no good checkpoint, and repair does not remove the last traces of a run. Use a copy "
    "of the run; to begin anew, use another directory"
)


def _is_unread(error: StoreError) -> bool:
    return not isinstance(error, DamagedError) or isinstance(error.__cause__, OSError)


class _Survey:
    """What becomes of each manifest, and of each pack."""

    def __init__(self, backend: Backend, run: RunInfo, made: Plan) -> None:
        self._backend = backend
        self._run = run
        self._made = made
        self._catalog = Catalog(backend, run.id)
        self._good: dict[int, Manifest] = {}
        self._bad: dict[int, str] = {}
        #: Whole manifests in a wrong place, by the number under which they lie.
        self._misplaced: dict[int, tuple[Manifest, str]] = {}
        self._moves: list[Step] = []
        #: Whether a manifest stays that may refer to any pack.
        self._unsure = False

    def finish(self) -> None:
        for number in self._catalog.numbers():
            self._look_at(number)
        for number, (manifest, problem) in self._misplaced.items():
            self._place(number, manifest, problem)
        if self._good:
            self._give_up()
            self._made.steps.extend(self._moves)
        else:
            for number, problem in self._bad.items():
                self._made.left.append(Problem(manifest_name(number), problem, _NOTHING_GOOD))
                self._unsure = True
        if not self._unsure:
            self._sweep()

    def _look_at(self, number: int) -> None:
        try:
            manifest = self._catalog.load(number)
        except FileNotFoundError:
            return
        except StoreError as error:
            if not self._stays(number, error):
                misplaced = _misplaced(self._backend, number)
                if misplaced is None:
                    self._bad[number] = str(error)
                else:
                    self._misplaced[number] = misplaced, str(error)
            return
        problem = self._problem_with_data(manifest)
        if problem is None:
            self._good[number] = manifest
        elif not self._stays(number, problem):
            self._bad[number] = str(problem)

    def _problem_with_data(self, manifest: Manifest) -> StoreError | None:
        try:
            self._catalog.verify(manifest)
            tree.decode(manifest.document, self._catalog.sources(manifest))
        except StoreError as error:
            return error
        return None

    def _stays(self, number: int, error: StoreError) -> bool:
        newer = isinstance(error, NewerFormatError)
        if newer or _is_unread(error):
            meaning = "a newer Perdure wrote it; it is left as it is" if newer else _UNREAD
            self._made.left.append(Problem(manifest_name(number), str(error), meaning))
            self._unsure = True
            return True
        return False

    def _place(self, number: int, manifest: Manifest, problem: str) -> None:
        own, name, target = manifest.info.number, manifest_name(number), manifest.info.file
        meaning = ""
        if manifest.run.id != self._run.id:
            meaning = "it is whole, and left as it is: move it, and the packs it needs, to the run it is of"
        elif own in self._misplaced:
            meaning = f"it is whole, and belongs at {target}, where there is another whole file: rename both by hand"
        elif own in self._good and self._backend.get(name) != self._backend.get(target):
            meaning = f"it is whole, but there is another {target}: move it away by hand"
        if meaning:
            self._made.left.append(Problem(name, problem, meaning))
            self._unsure = True
        elif own in self._good:
            copy = Step("remove", name, problem, f"it is only a copy of {target}", harmless=True)
            self._moves.append(copy)
        elif self._problem_with_data(manifest) is not None:
            self._bad[number] = problem
        else:
            # Where a damaged file is in its place, that goes first; this one is there until it has a second name.
            self._moves.append(Step("move", name, problem, f"checkpoint {own} can be used again", target))
            self._good[own] = manifest

    def _give_up(self) -> None:
        newest = self._good[max(self._good)].info
        for number, problem in sorted(self._bad.items()):
            meaning = f"checkpoint {number} is given up; "
            meaning += (
                f"the run goes on from checkpoint {newest.number} (step {newest.step})"
                if number > newest.number
                else f"newer ones are good, up to checkpoint {newest.number} (step {newest.step})"
            )
            self._made.steps.append(Step("remove", manifest_name(number), problem, meaning))

    def _sweep(self) -> None:
        sizes = pack_sizes(self._backend)
        needed = {pack for manifest in self._good.values() for pack in manifest.packs}
        for pack in sorted(sizes.keys() - needed):
            name = pack_name(pack)
            reason = f"no good checkpoint refers to {self._backend.locate(name)}"
            meaning = f"nothing is lost; gives back {sizes[pack]:,} bytes"
            self._made.steps.append(Step("remove", name, reason, meaning, harmless=True))


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
