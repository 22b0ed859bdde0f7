"""Which variables of a module its own running code assigns: they are variables of a loop, as those of a function are.

Reads the source; nothing is run.
"""

from __future__ import annotations

import ast
import linecache
import sys
from types import FrameType

from perdure.run.loops import stored_names

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def assigned_later(frame: FrameType) -> set[str]:
    """The variables that the code of a module assigns from where it stands on, or in a loop around that place.

    :param frame: that of a module's own code.
    """
    module = _source(frame)
    if module is None:
        return set(frame.f_code.co_names)
    return _assigned(module.body, frame.f_lineno, sys.maxsize)


def assigned_between(frame: FrameType, first: int, last: int) -> set[str]:
    """The variables that the code of a module assigns below one line and above another."""
    module = _source(frame)
    if module is None:
        return set(frame.f_code.co_names)
    return _assigned(module.body, first + 1, last)


def _source(frame: FrameType) -> ast.Module | None:
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError, RecursionError):
        return None


def _assigned(body: list[ast.stmt], first: int, last: int) -> set[str]:
    """What statements assign from one line on, and above another."""
    found: set[str] = set()
    for statement in body:
        end = statement.end_lineno or statement.lineno
        if end < first or statement.lineno >= last:
            continue
        blocks = _blocks(statement)
        is_around = statement.lineno < first or end >= last
        if not is_around or not blocks or (isinstance(statement, _LOOPS) and end < last):
            found |= stored_names([statement])
            continue
        if statement.lineno >= first:
            parts = ast.iter_child_nodes(statement)
            found |= stored_names([each for each in parts if isinstance(each, ast.expr | ast.withitem)])
        for block in blocks:
            found |= _assigned(block, first, last)
    return found


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The blocks of statements in a statement that runs them at once."""
    if isinstance(statement, _SCOPES):
        return []
    found = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    found += [each.body for each in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ()))]
    return [block for block in found if block]
