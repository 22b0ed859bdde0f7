"""`perdure repair`: show what cannot be used in a run, and remove it if the user agrees."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import click
from rich.text import Text

from perdure.cli.output import clean, console, count, pairs, print_json, text
from perdure.cli.verifying import problem_document
from perdure.errors import LockedError, PerdureWarning
from perdure.inspect import RepairPlan, Step, plan_repair, repair, without_directory
from perdure.store import LocalBackend, Problem

_COLOURS = {"restore": "green", "move": "green", "link": "green", "set aside": "yellow", "remove": "red"}


def repair_run(path: str, yes: bool, as_json: bool) -> int:
    """Show what a repair would do, and do it if the user agrees; returns the exit code."""
    holder = LocalBackend(path).holder()
    if holder is not None:
        raise LockedError(
            f"{os.path.abspath(path)} is being written by {holder}: repair it when that process has ended"
        )
    plan = plan_repair(path)
    if not as_json:
        _print(path, plan)
    wanted = bool(plan.steps) and (yes or (not as_json and _is_wanted()))
    if wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerdureWarning)
            repair(path, plan.steps)
        plan = RepairPlan(plan.steps, plan_repair(path).left)
    if as_json:
        print_json(_document(path, plan, wanted))
    elif wanted:
        click.echo("done" if not plan.left else f"done; {count(len(plan.left), 'problem')} left, see above")
    elif plan.steps and not sys.stdin.isatty():
        click.echo("nothing was changed; to do this: perdure repair --yes RUN", err=True)
    undone = [] if wanted else [step for step in plan.steps if not step.harmless]
    return 1 if undone or plan.left else 0


def _is_wanted() -> bool:
    if not sys.stdin.isatty():
        return False
    return click.confirm("\nDo this?", default=False)


def _print(path: str, plan: RepairPlan) -> None:
    out = console()
    name = text(path, "bold")
    if not plan.steps and not plan.left:
        out.print(name + Text("  ") + Text("nothing to repair", "green"), overflow="fold")
        return
    what = f"{count(len(plan.steps), 'step')} to repair it" if plan.steps else "cannot be repaired"
    out.print(name + Text(f"  {what}"), overflow="fold")
    for step in plan.steps:
        done = f"{step.act} {step.file}" + (f" to {step.target}" if step.target else "")
        out.print()
        out.print(_rows(path, text(done, f"bold {_COLOURS[step.act]}"), step))
    for problem in plan.left:
        out.print()
        out.print(_rows(path, text(f"leave {problem.file}", "bold yellow"), problem))


def _rows(path: str, title: Text, of: Step | Problem) -> Any:
    reason = of.reason if isinstance(of, Step) else of.problem
    return pairs(
        [
            ("", title),
            ("reason", clean(without_directory(reason, path))),
            ("meaning", text(of.meaning)),
        ]
    )


def _document(path: str, plan: RepairPlan, done: bool) -> dict[str, Any]:
    return {
        "path": os.path.abspath(path),
        "done": done,
        "steps": [
            {
                "does": step.act,
                "file": step.file,
                "target": step.target or None,
                "reason": step.reason,
                "meaning": step.meaning,
                "harmless": step.harmless,
            }
            for step in plan.steps
        ],
        "left": [problem_document(each) for each in plan.left],
    }
