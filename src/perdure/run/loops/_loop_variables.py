"""The variables that a resumed process needs to go on with a loop: found in its source, set in its frame."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any

import torch

from perdure.errors import PerdureError
from perdure.run.loops._carried import Needed, needed
from perdure.run.loops._frame import read_variables, why_not_writable, write_variables
from perdure.run.loops._source import Loop, Scope
from perdure.run.loops._watch import Place, at_head


def find_loop(frame: FrameType | None) -> Place | None:
    """The `for` loop of the user's at whose head a frame stands; None if its source cannot be read."""
    return at_head(frame)


def needed_names(module: ast.Module, scope: Scope, loop: Loop) -> Needed:
    """What `LoopVariables` would save, as far as the source shows it."""
    nothing: dict[str, Any] = {}
    return needed(module, scope, loop, nothing.__getitem__)


class LoopVariables:
    """The variables of a loop that some later round, or what follows the loop, may read before they are assigned.

    :param place: where the loop stands.
    :raises PerdureError: if the variables of its function cannot be written.
    """

    def __init__(self, place: Place) -> None:
        if (reason := why_not_writable(place.frame)) is not None:
            raise PerdureError(
                f"{_shorter(place.filename)}:{place.loop.lineno}: perdure.loop cannot set the variables of this loop, "
                f"because {reason}. Move the loop into a plain function, or keep the variables in a perdure.World and "
                "loop over Run.steps"
            )
        self._frame = place.frame
        #: The file and the line of the loop, for messages.
        self.place = f"{_shorter(place.filename)}:{place.loop.lineno}"
        self._needed = needed(place.module, place.scope, place.loop, place.variables().__getitem__)

    def read(self) -> dict[str, Any]:
        """Those that have a value now, in the order of the source.

        A tensor comes without its graph if no further round computes gradients through it: if each computes it anew
        before, or only asks for its numbers, as `loss.item()` does.
        """
        now = read_variables(self._frame)
        return {
            name: now[name].detach() if self._has_old_graph(name, now[name]) else now[name]
            for name in self._needed.names
            if name in now and (name in self._needed.assigned or not _is_definition(now[name]))
        }

    def _has_old_graph(self, name: str, value: Any) -> bool:
        return (
            isinstance(value, torch.Tensor) and value.grad_fn is not None and name not in self._needed.graphs
        )

    def write(self, values: Mapping[str, Any]) -> None:
        """Bind some of them.

        :raises PerdureError: if one of them is none that the loop needs, or does not take its value.
        """
        if unknown := values.keys() - set(self._needed.names):
            raise PerdureError(
                f"the checkpoint has variables that the loop in {self.place} does not need: "
                f"{', '.join(sorted(unknown))}. The loop was edited since"
            )
        write_variables(self._frame, values)


def _is_definition(value: Any) -> bool:
    """What a script imports or defines, and every process has."""
    return isinstance(value, ModuleType | FunctionType | type)


def _shorter(filename: str) -> str:
    return min(filename, os.path.relpath(filename), key=len)
