"""The variables that a resumed process needs to go on with a loop: found in its source, set in its frame."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any

from perdure.errors import PerdureError
from perdure.run.loops._carried import needed
from perdure.run.loops._frame import read_variables, why_not_writable, write_variables
from perdure.run.loops._watch import Place, at_head


def find_loop(frame: FrameType | None) -> Place | None:
    """The `for` loop of the user's at whose head a frame stands; None if its source cannot be read."""
    return at_head(frame)


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
        names, assigned = needed(place.module, place.scope, place.loop, place.variables().__getitem__)
        self._names, self._assigned = names, assigned

    def read(self) -> dict[str, Any]:
        """Those that have a value now, in the order of the source."""
        now = read_variables(self._frame)
        return {
            name: now[name]
            for name in self._names
            if name in now and (name in self._assigned or not _is_definition(now[name]))
        }

    def write(self, values: Mapping[str, Any]) -> None:
        """Bind some of them.

        :raises PerdureError: if one of them is none that the loop needs, or does not take its value.
        """
        if unknown := values.keys() - set(self._names):
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
