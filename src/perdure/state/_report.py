"""What became of every path when a state was restored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_MOST_PATHS = 3


def grouped(problems: Iterable[tuple[str, str]], most: int = 20) -> str:
    """Problems at paths for people: a line for each, and one line for the same problem at many paths.

    :param most: how many lines.
    """
    paths: dict[str, list[str]] = {}
    for path, detail in problems:
        paths.setdefault(detail, []).append(path)
    lines = [f"  {some(where)}: {detail}" for detail, where in paths.items()]
    return "\n".join(lines[:most] + ([f"  and {len(lines) - most} more"] if len(lines) > most else []))


def some(paths: list[str]) -> str:
    """The first of some paths, and how many more there are."""
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    return ", ".join(paths[:_MOST_PATHS]) + more


@dataclass
class Report:
    """The outcome of restoring, path by path.

    :param restored: leaves that have the checkpoint's value now.
    :param skipped: what was left out on purpose, with the reason.
    :param missing: what the script has and the checkpoint does not have.
    :param unexpected: what the checkpoint has and the script has no place for, with the reason.
    :param mismatched: what both have and does not fit, with what was expected and found.
    :param incomplete: what is not made, because a part of it (listed above) cannot be had.
    :param places: where this process has another place than the checkpoint: the path, the saved place, the one used
        ("" for what the script has, which is none).
    :param alike: for what is missing, where the checkpoint has something of the same kind that the script has not.
    """

    restored: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[tuple[str, str]] = field(default_factory=list)
    mismatched: list[tuple[str, str]] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    places: list[tuple[str, str, str]] = field(default_factory=list)
    alike: dict[str, str] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether nothing is missing, unexpected or mismatched."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def misfits(self) -> list[tuple[str, str]]:
        """Each path that does not fit, and why."""
        missing = []
        for path in self.missing:
            other = self.alike.get(path)
            renamed = (
                ""
                if other is None
                else f". The checkpoint has {other} instead: if it was renamed, give it that name again for this run"
            )
            missing.append((path, f"the script has it, the checkpoint does not{renamed}"))
        return self.mismatched + self.unexpected + missing

    def problems(self, most: int = 20) -> str:
        """What does not fit: a line for each reason, `most` lines of it."""
        return grouped(self.misfits, most)

    def __str__(self) -> str:
        counts = (
            f"{len(self.restored)} restored, {len(self.skipped)} skipped, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} mismatched"
        )
        return counts if self.exact else f"{counts}\n{self.problems()}"
