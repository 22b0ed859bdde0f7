"""How the command line writes: tables, sizes, times, JSON, and text from files made harmless."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal as size
from rich.table import Table
from rich.text import Text

__all__ = [
    "age",
    "clean",
    "console",
    "count",
    "error_line",
    "moment",
    "pairs",
    "print_json",
    "score",
    "size",
    "table",
    "text",
    "tolerate_any_encoding",
]

_WIDE = 2_000


def clean(value: object) -> str:
    """Text that may come from a file, made harmless: no escape sequences, no hidden direction marks."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text
    )


def text(value: object, style: str = "") -> Text:
    """Harmless text for rich, in which it does not look for markup."""
    return Text(clean(value), style)


def error_line(message: str) -> None:
    """A message on standard error; its own lines are kept."""
    click.echo("\n".join(map(clean, message.splitlines())), err=True)


def tolerate_any_encoding() -> None:
    """Write characters that the terminal does not have as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console(*, stderr: bool = False) -> Console:
    """A console for one of the streams: as wide as the terminal; in a pipe, lines are not folded."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDE
    return made


def print_json(document: Any) -> None:
    """Print a document for a program. It is ASCII, so it is harmless on a terminal too."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def table(*columns: str, right: Sequence[str] = (), elastic: Sequence[str] = ()) -> Table:
    """An empty table without lines. Only the `elastic` columns are folded where the terminal is narrow."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=True)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column not in elastic,
        )
    return made


def pairs(rows: Sequence[tuple[str, Text | str]]) -> Table:
    """Names and what they stand for, two columns, indented."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(f"  {name}", value if isinstance(value, Text) else text(value))
    return made


def count(number: int, one: str, many: str = "") -> str:
    """How many of what."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def score(number: float) -> str:
    """A metric, with as many digits as matter when two are compared."""
    if not math.isfinite(number):
        return str(number)
    return f"{number:,.1f}" if abs(number) >= 1000 else f"{number:.4g}"


def age(moment: str) -> str:
    """How long ago a moment (ISO 8601) was."""
    then = _moment(moment)
    if then is None:
        return clean(moment)[:25] or "?"
    seconds = (datetime.now(UTC) - then).total_seconds()
    if seconds < 5:
        return "just now"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago"
    days = round(seconds / 86_400)
    return f"{days} days ago" if days < 100 else then.strftime("%Y-%m-%d")


def moment(written: str) -> str:
    """A moment as a date and a time in UTC, and how long ago it was."""
    then = _moment(written)
    return f"{then:%Y-%m-%d %H:%M:%S} UTC ({age(written)})" if then is not None else clean(written) or "?"


def _moment(written: str) -> datetime | None:
    try:
        then = datetime.fromisoformat(written)
        return then.replace(tzinfo=UTC) if then.tzinfo is None else then.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
