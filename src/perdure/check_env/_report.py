"""What a check found out about an environment, for a person and for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

EXACT = "exact"
DIFFERENT = "different"
REFUSED = "refused"
PERTURBED = "perturbed"
NOT_REPRODUCIBLE = "not reproducible"
CRASHED = "crashed"
UNCHECKED = "unchecked"

_HEADLINES = {
    EXACT: "EXACT",
    DIFFERENT: "NOT EXACT: restored, it goes another way",
    REFUSED: "NOT EXACT: it is refused, nothing is lost silently",
    PERTURBED: "NOT EXACT: capturing changes it",
    NOT_REPRODUCIBLE: "NOT EXACT: two runs of it differ without any checkpoint",
    CRASHED: "NOT EXACT: the process crashed",
    UNCHECKED: "could not be checked",
}


@dataclass(frozen=True)
class Finding:
    """Where a run went another way for the first time.

    :param where: which run, in words.
    :param step: how many steps were made before.
    :param path: what differs ("observation", "info['lives']").
    :param expected: what the uninterrupted run has there.
    :param found: what this one has.
    """

    where: str
    step: int
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}, step {self.step:,}: {self.path} is {self.found}, expected {self.expected}"


@dataclass
class CheckReport:
    """The outcome of :func:`perdure.check_env.check`.

    :param name: the environment.
    :param verdict: "exact", or "different", "refused", "perturbed", "not reproducible", "crashed" or "unchecked".
    :param reasons: why it is not exact, as far as can be told, and what to do.
    :param finding: what differed first, if anything did.
    :param notes: what is worth knowing and is no failure.
    :param way: how its state is kept: "walk", "handler", "replay" or "barrier".
    :param handled: the classes that handlers took.
    :param points: where it was captured and restored, in words.
    :param steps: how many steps were compared, in each process.
    :param resets: how many episodes ended in them.
    :param first_bytes: what the first checkpoint of it wrote.
    :param bytes: what a further checkpoint of it wrote.
    :param capture_ms: the time a capture takes.
    :param restore_ms: the time restoring it took, the first time in its process.
    """

    name: str
    verdict: str = UNCHECKED
    reasons: list[str] = field(default_factory=list)
    finding: Finding | None = None
    notes: list[str] = field(default_factory=list)
    way: str = ""
    handled: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    steps: int = 0
    resets: int = 0
    first_bytes: int | None = None
    bytes: int | None = None
    capture_ms: float | None = None
    commit_ms: float | None = None
    restore_ms: float | None = None
    step_ms: float | None = None
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether it goes on bit for bit as if it had never been interrupted."""
        return self.verdict == EXACT

    def text(self) -> str:
        """For a person, a few lines."""
        lines = [f"{self.name}: {_HEADLINES[self.verdict]}"]
        if self.finding is not None:
            lines.append(f"  first difference  {self.finding}")
        lines += _listed("why", self.reasons)
        lines += _listed("restored", self.points)
        if self.steps:
            lines.append(f"  compared          {self.steps:,} steps in each process, {self.resets:,} resets")
        if self.way:
            by = f" ({', '.join(name.rpartition(':')[2] for name in self.handled)})" if self.handled else ""
            lines.append(f"  way               {self.way}{by}")
        if self.bytes is not None and self.first_bytes is not None:
            lines.append(f"  checkpoint        {self.bytes:,} bytes (the first one {self.first_bytes:,})")
        if self.capture_ms is not None:
            restore = "" if self.restore_ms is None else f", restore {self.restore_ms:.2f} ms"
            lines.append(f"  time              capture {self.capture_ms:.2f} ms{restore}")
        lines += _listed("note", self.notes)
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """For a program, as JSON."""
        return {"exact": self.exact, **asdict(self)}

    @classmethod
    def load(cls, document: dict[str, Any]) -> CheckReport:
        """From what `document` returned."""
        known = {name: value for name, value in document.items() if name in cls.__dataclass_fields__}
        if known.get("finding") is not None:
            known["finding"] = Finding(**known["finding"])
        return cls(**known)


def _listed(name: str, entries: list[str]) -> list[str]:
    lines = []
    for entry in entries:
        first, *rest = entry.splitlines() or [""]
        lines += [f"  {name:<18}{first}", *(f"  {'':<18}{each}" for each in rest)]
        name = ""
    return lines
