"""Joins what the script keeps outside of objects with the checkpoints of one run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from perdure.errors import NotCapturedWarning, RestoreError, user_level
from perdure.run import _notices
from perdure.run._restorable import RestorableCheck
from perdure.run.carriers import PART, Carriers
from perdure.run.loops import Place, Watch, module_variables
from perdure.state import LiveWorld, Walker, matches, running_code, walk_live
from perdure.tree import State, write_path

_GRAPH = (
    "a tensor that gradients go back through, and no checkpoint holds how it was computed. Use .detach(), or keep "
    "what it is computed from, and compute it where it is needed"
)


class ScriptState:
    """What the script of one run keeps outside of objects.

    :param modules: names of further modules and packages that count as the script's own.
    :param restorable: of the run.
    :param skip: paths to leave out.
    :param strict: whether a checkpoint is taken only if the script has a place for all of it.
    :param say: tells the user one line.
    """

    def __init__(
        self,
        modules: Sequence[str],
        restorable: RestorableCheck,
        *,
        skip: Sequence[str],
        strict: bool,
        say: Callable[[str], None],
    ) -> None:
        self._carriers = Carriers(modules)
        self._restorable = restorable
        self._skip = skip
        self._strict = strict
        self._say = say

    def built(
        self, parts: Any, world: Any, frame: FrameType, saved: State | None, *, fresh: Sequence[str] = ()
    ) -> LiveWorld:
        """Walk over the world as the script has built it. What changes outside of it from now on is state.

        :param parts: what to walk over: the world, and more.
        :param world: the world itself.
        :param frame: of the code that is running.
        :param saved: the state that will be restored, if there is one.
        :param fresh: further paths to leave out.
        """
        code = running_code(frame)

        def begin(walker: Walker) -> dict[str, Any]:
            self._carriers.begin(frame, world, walker.memo, walker.classes.values())
            code.extend(self._carriers.classes())
            if saved is None or PART not in saved.root.fields:
                return {}
            return {PART: self._carriers.find(saved)[0]}

        return walk_live(parts, skip=(*self._skip, *fresh), code=code, last=begin)

    def follow(self, watch: Watch) -> None:
        """Take over what a loop carries in variables of a module, so that nobody is warned of it."""
        if (found := watch.module_variables()) is not None:
            self._carriers.follow(found)
            watch.cover(self._carriers.covers)

    def meet(self, frame: FrameType, parts: Mapping[str, Any]) -> None:
        """Remember what the script has made between resuming and its loop, which asks for checkpoints itself.

        :param frame: of the code that is running.
        :param parts: what a checkpoint holds.
        """
        walker = Walker(self._skip)
        walker.parts(dict(parts))
        self._carriers.meet(frame, walker.memo)

    def leave_to_loop(self, place: Place) -> None:
        """Leave the variables of a module that a loop names to that loop, which captures them itself."""
        if (found := module_variables(place)) is not None:
            self._carriers.follow(found)

    def captured(self, parts: Mapping[str, Any]) -> LiveWorld:
        """Walk over what a checkpoint holds.

        What the script keeps outside of objects never keeps it from being taken: what cannot be captured, or not be
        restored by a fresh process, is told and left out.
        """
        while True:
            live = walk_live(dict(parts), skip=self._skip, last=self._look)
            if PART not in live.parts or not self._carriers.give_up(self._problems(live)):
                break
        if lines := self._carriers.untold():
            warnings.warn(
                "what the script keeps outside of objects has changed, and no checkpoint holds this:\n"
                + "\n".join(lines)
                + "\nIf that matters, a resumed run is not exact. Keep it in the world",
                NotCapturedWarning,
                stacklevel=user_level(),
            )
        return live

    def _look(self, walker: Walker) -> dict[str, Any]:
        found = self._carriers.look(walker.memo)
        return {PART: found} if found else {}

    def _problems(self, live: LiveWorld) -> list[tuple[str, str]]:
        if (expected := self._carriers.take_expected()) is not None:
            self._restorable.expect(PART, expected)
        graphs = [path for path in live.tensors_with_graphs() if path not in self._carriers.numbers]
        refused = [*live.refused, *((path, _GRAPH) for path in graphs)]
        return refused or self._restorable.problems_below(PART, live)

    def check(self, saved: State, live: LiveWorld) -> None:
        """See whether the script has a place for all that a state has of its modules.

        :param live: what `built` returned.
        :raises RestoreError: if it has not, and strictness asks for it. Nothing was changed.
        """
        if PART not in saved.root.fields:
            # An older state than the one that the world was walked for.
            live.parts.pop(PART, None)
            return
        absent = [name for name in self._carriers.find(saved)[1] if not self._is_skipped(name)]
        if absent and self._strict:
            raise RestoreError(
                "the checkpoint has state of the script's modules for which the script has no place any more; nothing "
                f"was changed:\n  {_notices.some(absent)}\nRun the script that wrote it, with the same modules. "
                "perdure.Run(..., strict=False) goes on without: it is another run."
            )
        if absent:
            self._say(f"dropped from the checkpoint (strict=False): {_notices.some(absent)}")
        if unnamed := self._carriers.unmentioned(saved):
            self._say(
                f"the checkpoint has {_notices.some(unnamed)}, and the script names that nowhere any more. If it has "
                "another name now, it begins anew under it: give it the old name to go on with what it was"
            )

    def _is_skipped(self, name: str) -> bool:
        return matches(write_path(((None, ".", PART), "[", name)), self._skip)

    def write_back(self, live: LiveWorld) -> None:
        """Put what was restored where the script keeps it.

        :param live: what `built` returned, after a state was restored into it.
        """
        self._carriers.write_back(live.parts.get(PART, {}))
