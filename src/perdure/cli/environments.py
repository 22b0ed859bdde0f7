"""`perdure check-env` on the screen: progress while it runs, and what was found."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.check_env import CheckReport, check_spec, env_spec
from perdure.cli.leaving import leaving_properly
from perdure.cli.output import clean, console, print_json, text
from perdure.errors import EnvSpecError


def check_environment(
    env: str,
    *,
    wrappers: tuple[str, ...],
    kwargs: str | None,
    imports: tuple[str, ...],
    ignore: tuple[str, ...],
    as_json: bool,
    replay: bool,
    vector: str,
    **options: Any,
) -> int:
    """Check it and print what was found; returns the exit code."""
    # As `python -m` does: the user's modules are in the current directory.
    sys.path.insert(0, os.getcwd())
    spec = env_spec(
        env,
        kwargs=_arguments(kwargs, "--kwargs"),
        wrappers=[_wrapper(each) for each in wrappers],
        imports=imports,
        replay=replay,
        vector=vector,
    )
    with leaving_properly(), console(stderr=True).status("") as status:
        report = check_spec(
            spec,
            ignore=ignore,
            tell=lambda doing: status.update(text(f"{spec.name}: {doing}")),
            **options,
        )
    if as_json:
        print_json(report.document())
    else:
        _print(console(), report)
    return 0 if report.exact else 2 if report.verdict == "unchecked" else 1


def _print(out: Console, report: CheckReport) -> None:
    style = "bold green" if report.exact else "bold yellow" if report.verdict == "unchecked" else "bold red"
    first, *rest = report.text().splitlines()
    name, _, verdict = first.rpartition(f"{report.name}: ")
    out.print(text(f"{name}{report.name}: ") + Text(clean(verdict), style), overflow="fold")
    for line in rest:
        out.print(text(line), overflow="fold")


def _wrapper(given: str) -> tuple[str, dict[str, Any]]:
    """`module:Class`, or `module:Class={"stack_size": 4}`."""
    name, _, kwargs = given.partition("=")
    return name, _arguments(kwargs or None, f"--wrapper {name}")


def _arguments(given: str | None, option: str) -> dict[str, Any]:
    if given is None:
        return {}
    try:
        found = json.loads(given)
    except ValueError as error:
        raise EnvSpecError(f"{option}: expected JSON, found {given!r}: {error}") from error
    if not isinstance(found, dict):
        raise EnvSpecError(
            f'{option}: expected a JSON object, as in \'{{"map_name": "8x8"}}\', found {given!r}'
        )
    return found
