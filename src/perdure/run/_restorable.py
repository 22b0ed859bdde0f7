"""Whether a fresh process of the script could restore a run's checkpoints: found out when they are taken, and said.

The world as the script built it is remembered as a tree without bytes. Each checkpoint is compared with it by the rules
by which restoring compares. Knows states, and no files but by the numbers of checkpoints.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Literal, get_args

from perdure.errors import NotRestorableError, NotRestorableWarning, user_level
from perdure.state import BuiltWorld, LiveWorld, Report, grouped
from perdure.store import CheckpointInfo

#: What to do if a fresh process could not restore a checkpoint: raise an error at the first one of this process and
#: warn at later ones; always raise, before it is written; always warn; or do not look.
OnUnrestorable = Literal["auto", "raise", "warn", "ignore"]
#: What a look at everything takes is at most this part of the time to the next one.
_RARELY = 2_000


class RestorableCheck:
    """Compares the checkpoints of one run with what the script built.

    :param mode: see :data:`OnUnrestorable`.
    :param strict: whether resuming takes a checkpoint only if it fits in every path. If not, "auto" only warns.
    :param say: tells the user one line.
    :raises ValueError: if `mode` is none of the choices.
    """

    def __init__(self, mode: OnUnrestorable, *, strict: bool, say: Callable[[str], None]) -> None:
        if mode not in (choices := get_args(OnUnrestorable)):
            raise ValueError(f"on_unrestorable: expected one of {', '.join(choices)}, found {mode!r:.80}")
        self._mode = "warn" if mode == "auto" and not strict else mode
        self._say = say
        #: The world as the script built it; None if it is not known.
        self.baseline: BuiltWorld | None = None
        #: Whether a checkpoint of this process was looked at.
        self._begun = False
        #: When to compare next even if nothing came that is known to decide.
        self._thorough_from = 0.0
        self._warned: set[str] = set()
        #: Why the newest checkpoint cannot be restored; None if it can.
        self._problem: Report | None = None
        #: The step of the first checkpoint in a row that cannot be restored.
        self._since: int | None = None
        #: The last checkpoint that can be restored, if newer ones cannot.
        self.kept: CheckpointInfo | None = None

    @property
    def wanted(self) -> bool:
        """Whether checkpoints are compared at all."""
        return self._mode != "ignore"

    def built(self, world: LiveWorld) -> None:
        """Remember the world as the script has built it, before anything is restored into it.

        :param world: the walk over it; `release` takes its tree.
        """
        if self.wanted:
            self.baseline = BuiltWorld(world)

    def release(self, *, script_is_known: bool = True) -> None:
        """Keep no more of the walk that was given to `built` than is needed. Nobody may use it after this.

        :param script_is_known: whether resuming can tell that the script is the one that began the run.
        """
        if self.baseline is not None:
            self.baseline.release(script_is_known=script_is_known)

    def expect(self, part: str, expected: Mapping[str, Any]) -> None:
        """Note what a fresh process has in a part that is a dict, beside what was given to `built`."""
        if self.baseline is not None:
            self.baseline.expect(part, expected)

    def problems_below(self, part: str, world: LiveWorld) -> list[tuple[str, str]]:
        """What a fresh process could not restore of one part, as paths and reasons.

        :param world: the walk that captured a checkpoint.
        """
        if self.baseline is None:
            return []
        problems = _problems(self.baseline.compare(world))
        return [
            (path, detail)
            for path, detail in problems
            if path.startswith(part) and path[len(part) :][:1] in ("", ".", "[")
        ]

    def check(self, world: LiveWorld, step: int, last: Callable[[], CheckpointInfo | None]) -> None:
        """Compare a checkpoint that is about to be written.

        :param world: the walk that captured it.
        :param step: of the checkpoint.
        :param last: gives the newest checkpoint that is written.
        :raises NotRestorableError: if a fresh process could not restore it, and that is to be raised.
        """
        first, self._begun = not self._begun, True
        if self.baseline is None:
            if first and self.wanted:
                self._say(
                    "the world was not given to resume() before its first checkpoint, so it is not known whether a "
                    "fresh process of this script could restore it"
                )
            return
        began = perf_counter()
        report = self.baseline.compare(world, thoroughly=began >= self._thorough_from)
        ended = perf_counter()
        self._thorough_from = max(self._thorough_from, ended + _RARELY * (ended - began))
        before, self._problem = self._problem, None if report.exact else report
        if report.exact:
            self._since = self.kept = None
            return
        if self._mode == "raise" or (self._mode == "auto" and first):
            self._begun = not first
            raise NotRestorableError(
                f"a fresh process of this script could not restore this checkpoint (step {step}), so nothing was "
                f"written:\n{grouped(_problems(report))}\n"
                "A fresh process has what this script had built when it gave the world to resume() or steps(): build "
                'what is listed before that. perdure.Run(..., on_unrestorable="warn") only warns, and goes on.'
            )
        if before is None:
            self._since, self.kept = step, last()
        self._warn(report, step)

    def _warn(self, report: Report, step: int) -> None:
        new = [(path, detail) for path, detail in _problems(report) if detail not in self._warned]
        self._warned.update(detail for _, detail in new)
        if not new:
            return
        kept = "" if self.kept is None else f" The checkpoint of step {self.kept.step} can be, and is kept."
        warnings.warn(
            f"a fresh process of this script could not restore the checkpoints from step {step} on:\n{grouped(new)}\n"
            f"The training goes on.{kept}",
            NotRestorableWarning,
            stacklevel=user_level(),
        )

    def end(self) -> None:
        """Say once at the end of a run if its newest checkpoints cannot be restored."""
        since, self._since = self._since, None
        if since is not None:
            kept = (
                "none can" if self.kept is None else f"the last one that can is that of step {self.kept.step}"
            )
            self._say(
                f"the checkpoints from step {since} on cannot be restored by a fresh process of this script ({kept}, "
                "and it is kept). The warnings say why"
            )


def _problems(report: Report) -> list[tuple[str, str]]:
    removed = "the script builds it, and it was removed while running. Set it to None instead"
    return report.mismatched + report.unexpected + [(path, removed) for path in report.missing]
