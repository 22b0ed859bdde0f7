"""Live objects and their state: capture, restore, compare. Knows no files."""

from perdure.environments import knowledge as _knowledge
from perdure.environments import workers as _workers
from perdure.state import adapters as _adapters
from perdure.state import common as _common
from perdure.state.capture import capture
from perdure.state.class_names import renamed
from perdure.state.diff import CLOCKS, Difference, diff
from perdure.state.registry import rebuildable, register, skip
from perdure.state.report import Report
from perdure.state.restore import check, restore
from perdure.state.rows import register_rows
from perdure.tree import State

__all__ = [
    "CLOCKS",
    "Difference",
    "Report",
    "State",
    "capture",
    "check",
    "diff",
    "rebuildable",
    "register",
    "register_rows",
    "renamed",
    "restore",
    "skip",
]
del _adapters, _common, _knowledge, _workers
