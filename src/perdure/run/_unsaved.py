"""Counts what could not be saved, and says how much it is: now and then while it goes on, and at the end.

Knows steps and errors, and no files.
"""

from __future__ import annotations

from perdure.errors import StoreError


class Unsaved:
    """What a training that goes on without its checkpoints (`on_error="warn"`) could not save."""

    def __init__(self) -> None:
        self._tried = 0
        self._failed = 0
        #: How many failed since the last one that is saved.
        self._in_a_row = 0
        #: The step of the last one that failed.
        self._step = 0
        self._error = ""
        #: The score of the best policy that is saved; None if none is.
        self.best: float | None = None
        #: How many better ones failed, the best score among them, and why.
        self._policies = 0
        self._score = 0.0
        self._policy_error = ""
        self._told = ""

    def saved(self) -> None:
        """Count a checkpoint that is saved."""
        self._tried += 1
        self._in_a_row = 0

    def failed(self, step: int, last: int | None, error: StoreError) -> str | None:
        """Count a checkpoint that could not be saved; returns a warning, if it is time for one.

        That is after 1, 2, 4, 8, … in a row: the first is told at once, and a training of any length tells few.

        :param step: how far the training was.
        :param last: the step of the last checkpoint that is saved; None if there is none.
        """
        self._tried += 1
        self._failed += 1
        self._in_a_row += 1
        self._step, self._error = step, str(error)
        if self._in_a_row & (self._in_a_row - 1):
            return None
        again = "" if self._in_a_row == 1 else f", {self._in_a_row} times in a row"
        return (
            f"the checkpoint of step {step} could not be written{again} ({_lost(step, last)}); the training goes on, "
            f"and the next one will be tried: {error}"
        )

    @property
    def policies(self) -> int:
        """How many policies could not be published that are better than the published one."""
        return self._policies

    def published(self, score: float | None) -> None:
        """Note the score of the best policy that is published."""
        self.best = score
        if score is not None and score >= self._score:
            self._policies = 0

    def policy_failed(self, score: float, error: StoreError) -> str | None:
        """Count a best policy that could not be published; returns a warning, if it is time for one."""
        self._score = score if not self._policies else max(score, self._score)
        self._policies += 1
        self._policy_error = str(error)
        if self._policies & (self._policies - 1):
            return None
        again = "" if self._policies == 1 else f", {self._policies} times in a row"
        return (
            f"the best policy, of score {score:g}, could not be saved{again}; the training goes on, and the next "
            f"policy that is better than the saved one will be tried: {error}"
        )

    def summary(self, last: int | None) -> str | None:
        """What is not saved, for the end of the training; None if all is, or nothing is new since it was asked last.

        :param last: the step of the last checkpoint that is saved.
        """
        parts = []
        if self._failed:
            many = f"{self._failed:,} of {self._tried:,} checkpoints could not be written"
            if self._in_a_row:
                parts.append(f"{many}: {_lost(self._step, last)}. The reason: {self._error}")
            else:
                parts.append(f"{many}; the last one, of step {last}, is saved")
        if self._policies:
            there = "no policy is saved" if self.best is None else f"the saved one has score {self.best:g}"
            parts.append(
                f"the best policy could not be saved: its score is {self._score:g}, and {there}. The reason: "
                f"{self._policy_error}"
            )
        text = "; ".join(parts)
        if not text or text == self._told:
            return None
        self._told = text
        return text


def _lost(step: int, last: int | None) -> str:
    if last is None:
        return f"nothing of {step:,} steps is saved"
    return (
        f"the last one that is saved is that of step {last}, and {max(0, step - last):,} steps since are not"
    )
