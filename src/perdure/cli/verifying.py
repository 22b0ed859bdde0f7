"""`perdure verify`: every byte of the checkpoints of runs, read and checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.cli.output import clean, console, count, pairs, print_json, reading_bar, size, text
from perdure.errors import DamagedError, PerdureWarning, StoreError, UnsupportedFormatError
from perdure.inspect import check_policies, holder, without_directory
from perdure.store import (
    CHECKPOINTS,
    PACKS,
    RUN_FILE,
    Catalog,
    LocalBackend,
    Problem,
    Store,
)

_AGAIN = 2


class _Counting(LocalBackend):
    """Tells how many bytes were read."""

    def __init__(self, directory: str, read: Callable[[int], None]) -> None:
        super().__init__(directory)
        self._read = read

    def get(self, name: str) -> bytes:
        content = super().get(name)
        self._read(len(content))
        return content

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        super().read_into(name, offset, buffer)
        self._read(buffer.nbytes)


class _Outcome:
    """What was found in one run."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.checkpoints = 0
        self.nbytes = 0
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.error = ""

    @property
    def code(self) -> int:
        if self.problems:
            return 1
        return 2 if self.error else 0


def verify_runs(paths: tuple[str, ...], as_json: bool) -> int:
    """Check the runs and print what was found; returns the exit code."""
    outcomes = []
    out = console()
    for path in paths:
        outcome = _verify(path)
        outcomes.append(outcome)
        if not as_json:
            _print(out, outcome, first=len(outcomes) == 1)
    if as_json:
        print_json({"runs": [_document(outcome) for outcome in outcomes]})
    codes = {outcome.code for outcome in outcomes}
    return 1 if 1 in codes else max(codes)


def _verify(path: str) -> _Outcome:
    outcome = _Outcome(path)
    plain = LocalBackend(path)
    try:
        total = sum(entry.size for part in (CHECKPOINTS, PACKS) for entry in plain.list(part))
        with reading_bar(f"reading {path}", total) as (progress, task), warnings.catch_warnings():
            # What a warning says is among the problems.
            warnings.simplefilter("ignore", PerdureWarning)
            _check(outcome, _Counting(path, lambda read: progress.advance(task, read)))
            for _ in range(_AGAIN):
                if not (outcome.problems or outcome.notes) or holder(path) is None:
                    break
                # A writer removes and adds files while they are looked at. Damage stays.
                before = outcome.problems, outcome.notes
                _check(outcome, LocalBackend(path))
                outcome.problems = [each for each in outcome.problems if each in before[0]]
                outcome.notes = [each for each in outcome.notes if each in before[1]]
        outcome.nbytes = total
    except DamagedError as error:
        outcome.problems.append(Problem(RUN_FILE, str(error), "the run cannot be opened"))
    except StoreError as error:
        outcome.error = str(error)
    return outcome


def _check(outcome: _Outcome, backend: LocalBackend) -> None:
    with Store.open(backend) as store:
        found = store.verify()
        run_id = store.run.id
    catalog = Catalog(backend, run_id)
    newer: dict[str, str] = {}
    outcome.checkpoints = len(catalog.numbers())
    for each in found:
        # Not damage, but not checked either.
        if each.file.startswith(f"{CHECKPOINTS}/") and (message := _newer(catalog, each.file)):
            newer[each.file] = message
    outcome.error = next(iter(newer.values()), "")
    found += check_policies(outcome.path)
    outcome.notes = [each for each in found if each.harmless]
    outcome.problems = [each for each in found if not each.harmless and each.file not in newer]


def _newer(catalog: Catalog, file: str) -> str:
    try:
        catalog.load(int(os.path.basename(file).removesuffix(".json")))
    except UnsupportedFormatError as error:
        return str(error)
    except (StoreError, FileNotFoundError, ValueError):
        pass
    return ""


def _print(out: Console, outcome: _Outcome, *, first: bool) -> None:
    if not first:
        out.print()
    name = text(outcome.path, "bold")
    if outcome.code == 0:
        what = f"{count(outcome.checkpoints, 'checkpoint')}, {size(outcome.nbytes)} read"
        out.print(name + Text(f"  {what}: ") + Text("nothing is wrong", "green"), overflow="fold")
    elif outcome.problems:
        out.print(
            name + Text("  ") + Text(count(len(outcome.problems), "problem"), "bold red"), overflow="fold"
        )
    else:
        out.print(name + Text("  could not be checked", "bold yellow"), overflow="fold")
    if outcome.error:
        out.print(pairs([("reason", clean(outcome.error))]))
    for kind, found in (("problem", outcome.problems), ("note", outcome.notes)):
        for each in found:
            out.print()
            out.print(
                pairs(
                    [
                        ("file", text(each.file, "bold")),
                        (kind, clean(without_directory(each.problem, outcome.path))),
                        ("meaning", text(each.meaning, "red" if kind == "problem" else "")),
                    ]
                )
            )


def _document(outcome: _Outcome) -> dict[str, Any]:
    return {
        "path": os.path.abspath(outcome.path),
        "checkpoints": outcome.checkpoints,
        "bytes_read": outcome.nbytes,
        "problems": [_entry(each) for each in outcome.problems],
        "notes": [_entry(each) for each in outcome.notes],
        "error": outcome.error or None,
    }


def _entry(problem: Problem) -> dict[str, str]:
    return {"file": problem.file, "problem": problem.problem, "meaning": problem.meaning}
