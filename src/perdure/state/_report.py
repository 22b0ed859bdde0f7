"""What became of every path when a state was restored."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The outcome of restoring, path by path.

    :param restored: leaves that have the checkpoint's value now.
    :param skipped: what was left out on purpose, with the reason.
    :param missing: what the script has and the checkpoint does not have.
    :param unexpected: what the checkpoint has and the script has no place for, with the reason.
    :param mismatched: what both have and does not fit, with what was expected and found.
    :param places: where this process has another place than the checkpoint: the path, the saved place, the one used.
    """

    restored: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[tuple[str, str]] = field(default_factory=list)
    mismatched: list[tuple[str, str]] = field(default_factory=list)
    places: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    def problems(self, most: int = 20) -> str:
        """What does not fit, a line each, `most` lines of it."""
        lines = [f"  {path}: {detail}" for path, detail in self.mismatched]
        lines += [f"  {path}: {detail}" for path, detail in self.unexpected]
        lines += [f"  {path}: the script has it, the checkpoint does not" for path in self.missing]
        return "\n".join(lines[:most] + ([f"  and {len(lines) - most} more"] if len(lines) > most else []))

    def __str__(self) -> str:
        counts = (
            f"{len(self.restored)} restored, {len(self.skipped)} skipped, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} mismatched"
        )
        return counts if self.exact else f"{counts}\n{self.problems()}"
