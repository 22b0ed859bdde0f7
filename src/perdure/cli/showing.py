"""`perdure show`: what a run is, and what is in one of its checkpoints."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure.cli.listing import checkpoint_document, print_problems, run_document, state_of, values
from perdure.cli.output import (
    clean,
    console,
    count,
    error_line,
    moment,
    pairs,
    print_json,
    score,
    size,
    table,
    text,
)
from perdure.errors import StoreError
from perdure.inspect import Leaf, RunStatus, is_run, leaves_of, look
from perdure.state import matches, without_secrets
from perdure.store import Catalog, CheckpointStatus, LocalBackend, RunInfo, library_versions

_LONGEST_PATH = 300
_MOST_ROWS = 2_000


@dataclass
class _Part:
    """A part of the world: how much of it there is."""

    paths: int = 0
    arrays: int = 0
    bytes: int = 0


def show_run(path: str, number: int | None, pattern: str | None, as_json: bool) -> int:
    """Print it; returns the exit code."""
    if not is_run(path):
        raise StoreError(
            f"{os.path.abspath(path)} is not a run: expected a directory with a run.json. "
            "`perdure ls` lists the runs below a directory."
        )
    run = look(path)
    if run.error is not None:
        raise run.error
    assert run.run is not None
    chosen = _choose(run, number)
    leaves = [] if chosen is None else _leaves(run.path, run.run, chosen)
    listed = (
        None if pattern is None else [leaf for leaf in leaves if matches(leaf.path, _at_and_below(pattern))]
    )
    if as_json:
        print_json(_document(run, chosen, leaves, listed))
    else:
        out = console()
        if listed is None:
            _print_run(out, run, run.run)
            if chosen is not None:
                _print_checkpoint(out, chosen, leaves)
        elif listed:
            _print_tree(out, listed)
        print_problems([run])
    if listed is not None and not listed:
        error_line(f"perdure: no path matches {pattern}")
        return 2
    if run.damaged:
        return 1
    # Asked for the newest, and another one is shown.
    return 2 if run.state == "newer format" and number is None else 0


def _choose(run: RunStatus, number: int | None) -> CheckpointStatus | None:
    if number is None:
        # What cannot be read is reported below.
        return next((each for each in reversed(run.checkpoints) if each.verdict == "ok"), None)
    for each in run.checkpoints:
        if each.number == number:
            if each.error is not None:
                raise type(each.error)(f"checkpoint {number} cannot be shown: {each.problem}")
            return each
    there = ", ".join(str(each.number) for each in run.checkpoints) or "none"
    raise StoreError(
        f"there is no checkpoint {number} in {os.path.abspath(run.path)}; those there are: {there}"
    )


def _leaves(path: str, run: RunInfo, chosen: CheckpointStatus) -> list[Leaf]:
    assert chosen.manifest is not None
    state, _ = Catalog(LocalBackend(path), run.id).decode(chosen.manifest)
    return list(leaves_of(state))


def _at_and_below(pattern: str) -> list[str]:
    return [pattern, f"{pattern}.*", f"{pattern}[*"]


def _parts(leaves: list[Leaf]) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for leaf in leaves:
        part = parts.setdefault(leaf.part, _Part())
        part.paths += not leaf.left_out
        part.arrays += leaf.shape is not None
        part.bytes += leaf.nbytes
    return parts


# -- for people -----------------------------------------------------------------------------------------------


def _print_run(out: Console, run: RunStatus, info: RunInfo) -> None:
    rows: list[tuple[str, Text | str]] = [
        ("id", info.id),
        ("created", moment(info.created)),
        ("state", state_of(run)),
        ("on disk", f"{size(run.nbytes)}, {_numbers(run)}"),
    ]
    if run.best is not None:
        at = "" if run.best.step is None else f" at step {run.best.step:,}"
        rows.append(("best", f"{score(run.best.score)}{at}"))
    if info.metadata:
        rows.append(("metadata", _plain(without_secrets(info.metadata)[0])))
    out.print(text(f"run {run.path}", "bold"), overflow="fold")
    out.print(pairs(rows))


def _numbers(run: RunStatus) -> str:
    numbers = [str(each.number) for each in run.checkpoints]
    if not numbers:
        return "no checkpoint yet"
    shown = numbers if len(numbers) <= 12 else [*numbers[:3], "…", *numbers[-6:]]
    return f"{count(len(numbers), 'checkpoint')}: {', '.join(shown)}"


def _plain(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False, default=str))


def _print_checkpoint(out: Console, chosen: CheckpointStatus, leaves: list[Leaf]) -> None:
    info = chosen.info
    rows: list[tuple[str, Text | str]] = [
        ("step", f"{info.step:,}"),
        ("written", moment(info.created)),
        ("metrics", values(info.metrics)),
        ("counters", values(info.counters)),
        ("tags", ", ".join(info.tags)),
        ("versions", _versions(info.versions or {})),
        *_process(info.process or {}),
    ]
    out.print()
    out.print(Text(f"checkpoint {info.number}", "bold"))
    out.print(pairs([(name, value) for name, value in rows if value]))
    parts = _parts(leaves)
    made = table(
        "  part", "paths", "arrays", "bytes", right=("paths", "arrays", "bytes"), elastic=("  part",)
    )
    for name, part in parts.items():
        made.add_row(text(f"  {name}"), f"{part.paths:,}", f"{part.arrays:,}", size(part.bytes))
    if len(parts) > 1:
        paths, arrays, nbytes = (
            sum(getattr(part, column) for part in parts.values()) for column in ("paths", "arrays", "bytes")
        )
        made.add_row("  together", f"{paths:,}", f"{arrays:,}", size(nbytes), style="bold")
    out.print()
    out.print(made)
    left_out = [leaf for leaf in leaves if leaf.left_out]
    if left_out:
        out.print()
        out.print(Text(f"  {count(len(left_out), 'path')} left out on purpose:"))
        reasons: dict[str, list[str]] = {}
        for leaf in left_out:
            reasons.setdefault(leaf.what, []).append(leaf.path)
        out.print(pairs([(clean(reason), _some(paths)) for reason, paths in reasons.items()]))


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def _process(process: Mapping[str, Any]) -> list[tuple[str, Text | str]]:
    """The process that wrote a checkpoint. A file may hold anything under these names."""
    command, git, machine = (process.get(name) for name in ("command", "git", "machine"))
    found: list[tuple[str, Text | str]] = []
    if isinstance(command, list):
        found.append(("command", text(shlex.join(map(str, command)))))
    if isinstance(git, dict):
        changed = ", with changes" if git.get("changed") else ""
        found.append(("code", text(f"commit {str(git.get('commit'))[:12]}{changed}")))
    if isinstance(machine, dict):
        told = [f"{name} {value}" for name, value in machine.items()]
        found.append(("machine", text(", ".join([f"host {process.get('host')}", *told]))))
    return found


def _versions(versions: Mapping[str, Any]) -> Text:
    """The checkpoint's versions. Where another one is in use here, a resumed run may not be bit-identical."""
    here = library_versions()
    shown = Text()
    for name, version in versions.items():
        shown.append(", " if shown else "").append_text(text(f"{name} {version}"))
        if name in here and here[name] != version:
            shown.append(f" (here {here[name]})", "yellow")
    return shown


def _what(leaf: Leaf) -> str:
    if leaf.shape is not None:
        return f"{leaf.type} {leaf.shape}" + (f", {size(leaf.nbytes)}" if leaf.nbytes else "")
    return leaf.what if leaf.plain else f"{leaf.type}: {leaf.what}"


def _clipped(path: str) -> str:
    """A path of which a person sees both ends: one of a chain of objects is as long as the chain."""
    return (
        path
        if len(path) <= _LONGEST_PATH
        else f"{path[:100]}\N{HORIZONTAL ELLIPSIS}{path[101 - _LONGEST_PATH :]}"
    )


def _print_tree(out: Console, listed: list[Leaf]) -> None:
    if len(listed) > _MOST_ROWS:
        # To lay out a table takes a hundred times as long as to print its lines.
        for leaf in listed:
            out.file.write(f"{clean(_clipped(leaf.path))}  {clean(_what(leaf))}\n")
        return
    made = table("path", "what is there", elastic=("path", "what is there"))
    for leaf in listed:
        made.add_row(text(_clipped(leaf.path)), text(_what(leaf)), style="dim" if leaf.left_out else "")
    out.print(made)


# -- for programs ---------------------------------------------------------------------------------------------


def _document(
    run: RunStatus, chosen: CheckpointStatus | None, leaves: list[Leaf], listed: list[Leaf] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run": run_document(run),
        "checkpoint": None if chosen is None else checkpoint_document(chosen),
        "parts": [{"part": name, **vars(part)} for name, part in _parts(leaves).items()],
        "left_out": [{"path": leaf.path, "reason": leaf.what} for leaf in leaves if leaf.left_out],
    }
    if listed is not None:
        document["tree"] = [
            {
                "path": leaf.path,
                "type": leaf.type,
                "shape": None if leaf.shape is None else list(leaf.shape),
                "value": leaf.what if leaf.shape is None else None,
                "bytes": leaf.nbytes,
                "left_out": leaf.left_out,
            }
            for leaf in listed
        ]
    return document
