"""The result of a check, for a person and for a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["exact", "different", "refused", "perturbed", "not reproducible", "crashed", "unchecked"]
Way = Literal["", "walk", "handler", "replay", "bounded replay"]

_HEADLINES: dict[Verdict, str] = {
    "exact": "EXACT",
    "different": "NOT EXACT: once restored, it behaves differently",
    "refused": "NOT EXACT: Perdure refuses it, so nothing is lost silently",
    "perturbed": "NOT EXACT: capturing changes it",
    "not reproducible": "NOT EXACT: two runs of it differ without any checkpoint",
    "crashed": "NOT EXACT: the process crashed",
    "unchecked": "could not be checked",
}


@dataclass(frozen=True)
class Finding:
    """The first difference between two runs.

    :param where: which run, in words.
    :param step: the number of steps before.
    :param path: what differs ("observation", "info['lives']").
    :param expected: what the uninterrupted run has there.
    :param found: what this run has there.
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
    """The result of :func:`perdure.check_env.check`.

    :param name: the environment.
    :param verdict: whether it is exact, and if not, what is wrong.
    :param reasons: why it is not exact, as far as that is known, and what to do.
    :param finding: the first difference, if there is one.
    :param notes: remarks that do not make it inexact.
    :param way: how its state is captured.
    :param handled: the classes that handlers captured.
    :param points: where it was captured and restored, in words.
    :param steps: how many steps were compared, in each process.
    :param resets: how many episodes ended in them.
    :param first_bytes: what the first checkpoint wrote.
    :param bytes: what a later checkpoint wrote.
    :param capture_ms: how long a capture takes.
    :param commit_ms: how long the commit of a later checkpoint took.
    :param restore_ms: how long the first restore in a process took.
    :param with_replay: the result for the same environment in :class:`perdure.environments.EpisodeReplay` (or its
        counterpart), where this one is not exact and that may be.
    """

    name: str
    verdict: Verdict = "unchecked"
    reasons: list[str] = field(default_factory=list)
    finding: Finding | None = None
    notes: list[str] = field(default_factory=list)
    way: Way = ""
    handled: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    steps: int = 0
    resets: int = 0
    first_bytes: int | None = None
    bytes: int | None = None
    capture_ms: float | None = None
    commit_ms: float | None = None
    restore_ms: float | None = None
    seconds: float = 0.0
    with_replay: CheckReport | None = None

    @property
    def exact(self) -> bool:
        """Whether it continues bit for bit as if it had never been interrupted, made as it was given."""
        return self.verdict == "exact"

    def text(self) -> str:
        """For a person, a few lines."""
        remedy = self.with_replay
        also = f"; EXACT in {remedy.replayed_by}" if remedy is not None and remedy.exact else ""
        lines = [f"{self.name}: {_HEADLINES[self.verdict]}{also}"]
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
        if remedy is not None:
            lines += _listed("replayed", [remedy.text()])
        return "\n".join(lines)

    @property
    def replayed_by(self) -> str:
        """The class that replays its episodes."""
        names = (name.rpartition(":")[2] for name in self.handled)
        return next((name for name in names if name.endswith("Replay")), "EpisodeReplay")

    def document(self) -> dict[str, Any]:
        """For a program, as JSON."""
        return {"exact": self.exact, **asdict(self)}

    @classmethod
    def load(cls, document: dict[str, Any]) -> CheckReport:
        """From what `document` returned."""
        known = {name: value for name, value in document.items() if name in cls.__dataclass_fields__}
        if known.get("finding") is not None:
            known["finding"] = Finding(**known["finding"])
        if known.get("with_replay") is not None:
            known["with_replay"] = cls.load(known["with_replay"])
        return cls(**known)


def _listed(name: str, entries: list[str]) -> list[str]:
    lines = []
    for entry in entries:
        first, *rest = entry.splitlines() or [""]
        lines += [f"  {name:<18}{first}", *(f"  {'':<18}{each}" for each in rest)]
        name = ""
    return lines
