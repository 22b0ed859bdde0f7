"""`perdure verify`: every byte of the checkpoints of runs, read and checked."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.cli.output import clean, console, count, pairs, print_json, size, text
from perdure.errors import DamagedError, PerdureWarning, StoreError
from perdure.inspect import check_policies, without_directory
from perdure.progress import Bar
from perdure.store import CHECKPOINTS, PACKS, RUN_FILE, Catalog, LocalBackend, Problem, Store

_AGAIN = 2


class _Counting(LocalBackend):
    """Shows how many bytes were read."""

    def __init__(self, directory: str, bar: Bar, total: int) -> None:
        super().__init__(directory)
        self._bar = bar
        self._total = total
        self._done = 0

    def get(self, name: str) -> bytes:
        content = super().get(name)
        self._count(len(content))
        return content

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        super().read_into(name, offset, buffer)
        self._count(buffer.nbytes)

    def _count(self, nbytes: int) -> None:
        # Some bytes are read twice.
        self._done = min(self._done + nbytes, self._total)
        self._bar.update(self._done, self._total)


#: What a person reads; a forged manifest may name any number of packs.
_MOST_PRINTED = 200


@dataclass
class _Outcome:
    """What was found in one run."""

    path: str
    checkpoints: int = 0
    nbytes: int = 0
    found: list[Problem] = field(default_factory=list)
    error: str = ""

    @property
    def problems(self) -> list[Problem]:
        return [each for each in self.found if each.kind == "damage"]

    @property
    def notes(self) -> list[Problem]:
        return [each for each in self.found if each.kind == "note"]

    @property
    def reason(self) -> str:
        """Why something could not be checked; empty if all was."""
        newer = (each.problem for each in self.found if each.kind == "newer format")
        empty = "" if self.checkpoints else "there is no checkpoint in it, so there is nothing to resume from"
        return self.error or next(newer, empty)

    @property
    def code(self) -> int:
        return 1 if self.problems else 2 if self.reason else 0


def verify_runs(paths: tuple[str, ...], as_json: bool) -> int:
    """Check the runs and print what was found; returns the exit code."""
    outcomes: list[_Outcome] = []
    out = console()
    for path in paths:
        outcome = _verify(path)
        if not as_json:
            if outcomes:
                out.print()
            _print(out, outcome)
        outcomes.append(outcome)
    if as_json:
        print_json({"runs": [_document(outcome) for outcome in outcomes]})
    codes = {outcome.code for outcome in outcomes}
    return 1 if 1 in codes else max(codes)


def _verify(path: str) -> _Outcome:
    outcome = _Outcome(path)
    backend = LocalBackend(path)
    try:
        total = sum(entry.size for part in (CHECKPOINTS, PACKS) for entry in backend.list(part))
        with Bar(f"reading {clean(path)}") as bar, warnings.catch_warnings():
            # What a warning says is among the problems.
            warnings.simplefilter("ignore", PerdureWarning)
            _check(outcome, _Counting(path, bar, total))
            for _ in range(_AGAIN):
                if not outcome.found or backend.holder() is None:
                    break
                # A writer removes and adds files while they are looked at. Damage stays.
                before = outcome.found
                _check(outcome, backend)
                outcome.found = [each for each in outcome.found if each in before]
        outcome.nbytes = total
    except DamagedError as error:
        outcome.found.append(Problem(RUN_FILE, str(error), "the run cannot be opened"))
    except StoreError as error:
        outcome.error = str(error)
    return outcome


def _check(outcome: _Outcome, backend: LocalBackend) -> None:
    with Store.open(backend) as store:
        outcome.found = store.verify() + check_policies(outcome.path)
        outcome.checkpoints = len(Catalog(backend, store.run.id).numbers())


def _print(out: Console, outcome: _Outcome) -> None:
    if outcome.code == 0:
        what = f"{count(outcome.checkpoints, 'checkpoint')}, {size(outcome.nbytes)} read: "
        verdict = Text(what) + Text("nothing is wrong", "green")
    elif outcome.problems:
        verdict = Text(count(len(outcome.problems), "problem"), "bold red")
    elif not outcome.checkpoints and not outcome.error:
        verdict = Text("no checkpoint", "bold yellow")
    else:
        verdict = Text("could not be checked", "bold yellow")
    out.print(text(outcome.path, "bold") + Text("  ") + verdict, overflow="fold")
    if outcome.reason:
        out.print(pairs([("reason", clean(outcome.reason))]))
    found = outcome.problems + outcome.notes
    for each in found[:_MOST_PRINTED]:
        kind, style = ("problem", "red") if each.kind == "damage" else ("note", "")
        problem = text(without_directory(each.problem, outcome.path))
        out.print()
        out.print(
            pairs(
                [("file", text(each.file, "bold")), (kind, problem), ("meaning", text(each.meaning, style))]
            )
        )

    if len(found) > _MOST_PRINTED:
        out.print()
        out.print(f"and {len(found) - _MOST_PRINTED:,} more, which --json lists")


def _document(outcome: _Outcome) -> dict[str, Any]:
    return {
        "path": os.path.abspath(outcome.path),
        "checkpoints": outcome.checkpoints,
        "bytes_read": outcome.nbytes,
        "problems": [problem_document(each) for each in outcome.problems],
        "notes": [problem_document(each) for each in outcome.notes],
        "error": outcome.reason or None,
    }


def problem_document(problem: Problem) -> dict[str, str]:
    """A problem as JSON."""
    return {"file": problem.file, "problem": problem.problem, "meaning": problem.meaning}
