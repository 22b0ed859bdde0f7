"""`perdure show`: what a run is, and what is in one of its checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from perdure import tree
from perdure.cli.listing import print_problems, state_of, values
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
from perdure.errors import DamagedError, StoreError, UnsupportedFormatError
from perdure.inspect import (
    DAMAGED,
    NEWER,
    OK,
    Leaf,
    Look,
    Seen,
    checkpoint_document,
    is_run,
    leaves_of,
    look,
    run_document,
)
from perdure.state import matches
from perdure.store import Catalog, LocalBackend, library_versions


@dataclass
class _Part:
    """A part of the world: how much of it there is."""

    paths: int = 0
    arrays: int = 0
    nbytes: int = 0


def show_run(path: str, number: int | None, pattern: str | None, as_json: bool) -> int:
    """Print it; returns the exit code."""
    if not is_run(path):
        raise StoreError(
            f"{os.path.abspath(path)} is not a run: expected a directory with a run.json. "
            "`perdure ls` lists the runs below a directory."
        )
    run = look(path)
    if run.run is None:
        raise (
            UnsupportedFormatError
            if run.state == NEWER
            else DamagedError
            if run.state == DAMAGED
            else StoreError
        )("\n".join(run.problems))
    chosen = _choose(run, number)
    leaves = [] if chosen is None else _leaves(run, chosen)
    listed = (
        None if pattern is None else [leaf for leaf in leaves if matches(leaf.path, _at_and_below(pattern))]
    )
    if as_json:
        print_json(_document(run, chosen, leaves, listed))
    else:
        out = console()
        if listed is None:
            _print_run(out, run)
        if chosen is not None:
            _print_checkpoint(out, run, chosen, leaves) if listed is None else _print_tree(
                out, chosen, listed
            )
        print_problems([run])
    if listed is not None and not listed:
        error_line(f"perdure: no path matches {pattern}")
        return 2
    if run.state == DAMAGED or any(seen.state == DAMAGED for seen in run.checkpoints):
        return 1
    # Asked for the newest, and another one is shown.
    return 2 if run.state == NEWER and number is None else 0


def _choose(run: Look, number: int | None) -> Seen | None:
    if number is None:
        # What cannot be read is told of below.
        return next((seen for seen in reversed(run.checkpoints) if seen.state == OK), None)
    for seen in run.checkpoints:
        if seen.info.number == number:
            if seen.state != OK:
                raise (UnsupportedFormatError if seen.state == NEWER else DamagedError)(
                    f"checkpoint {number} cannot be shown: {seen.problem}"
                )
            return seen
    there = ", ".join(str(seen.info.number) for seen in run.checkpoints) or "none"
    raise StoreError(
        f"there is no checkpoint {number} in {os.path.abspath(run.path)}; those there are: {there}"
    )


def _leaves(run: Look, chosen: Seen) -> list[Leaf]:
    assert run.run is not None
    catalog = Catalog(LocalBackend(run.path), run.run.id)
    try:
        manifest = catalog.load(chosen.info.number)
    except FileNotFoundError:
        raise StoreError(
            f"checkpoint {chosen.info.number} was removed just now by the process that writes to {run.path}"
        ) from None
    return list(leaves_of(tree.decode(manifest.document, catalog.sources(manifest))))


def _at_and_below(pattern: str) -> list[str]:
    return [pattern, f"{pattern}.*", f"{pattern}[*"]


def _parts(leaves: list[Leaf]) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    for leaf in leaves:
        part = parts.setdefault(leaf.part, _Part())
        part.paths += not leaf.left_out
        part.arrays += leaf.shape is not None
        part.nbytes += leaf.nbytes
    return parts


# -- for people -----------------------------------------------------------------------------------------------


def _print_run(out: Console, run: Look) -> None:
    assert run.run is not None
    rows: list[tuple[str, Text | str]] = [
        ("id", run.run.id),
        ("created", moment(run.run.created)),
        ("state", state_of(run)),
        ("on disk", f"{size(run.nbytes)}, {_numbers(run)}"),
    ]
    if run.best is not None:
        at = "" if run.best[1] is None else f" at step {run.best[1]:,}"
        rows.append(("best", f"{score(run.best[0])}{at}"))
    if run.run.metadata:
        rows.append(("metadata", _plain(run.run.metadata)))
    out.print(text(f"run {run.path}", "bold"), overflow="fold")
    out.print(pairs(rows))


def _numbers(run: Look) -> str:
    numbers = [str(seen.info.number) for seen in run.checkpoints]
    if not numbers:
        return "no checkpoint yet"
    shown = numbers if len(numbers) <= 12 else [*numbers[:3], "…", *numbers[-6:]]
    return f"{count(len(numbers), 'checkpoint')}: {', '.join(shown)}"


def _plain(value: Any) -> str:
    return clean(json.dumps(value, ensure_ascii=False, default=str))


def _print_checkpoint(out: Console, run: Look, chosen: Seen, leaves: list[Leaf]) -> None:
    info = chosen.info
    rows: list[tuple[str, Text | str]] = [
        ("step", f"{info.step:,}"),
        ("written", moment(info.created)),
    ]
    if info.metrics:
        rows.append(("metrics", values(info.metrics)))
    if info.counters:
        rows.append(("counters", values(info.counters)))
    if info.tags:
        rows.append(("tags", ", ".join(info.tags)))
    rows.append(("versions", _versions(info.versions or {})))
    out.print()
    out.print(Text(f"checkpoint {info.number}", "bold"))
    out.print(pairs(rows))
    parts = _parts(leaves)
    made = table(
        "  part", "paths", "arrays", "bytes", right=("paths", "arrays", "bytes"), elastic=("  part",)
    )
    for name, part in parts.items():
        made.add_row(text(f"  {name}"), f"{part.paths:,}", f"{part.arrays:,}", size(part.nbytes))
    if len(parts) > 1:
        total = [
            sum(getattr(part, column) for part in parts.values()) for column in ("paths", "arrays", "nbytes")
        ]
        made.add_row("  together", f"{total[0]:,}", f"{total[1]:,}", size(total[2]), style="bold")
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


def _versions(versions: Mapping[str, Any]) -> Text:
    """Those of the checkpoint; another one here means that a resumed run may not be bit-identical."""
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


def _print_tree(out: Console, chosen: Seen, listed: list[Leaf]) -> None:
    made = table("path", "what is there", elastic=("path", "what is there"))
    for leaf in listed:
        made.add_row(text(leaf.path), text(_what(leaf)), style="dim" if leaf.left_out else "")
    if listed:
        out.print(made)


# -- for programs ---------------------------------------------------------------------------------------------


def _document(
    run: Look, chosen: Seen | None, leaves: list[Leaf], listed: list[Leaf] | None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run": run_document(run),
        "checkpoint": None if chosen is None else checkpoint_document(chosen),
        "parts": [
            {"part": name, "paths": part.paths, "arrays": part.arrays, "bytes": part.nbytes}
            for name, part in _parts(leaves).items()
        ],
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
