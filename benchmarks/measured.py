"""What `storage` measures and `figures` shows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Measured:
    """What was found about one peer with one workload. Values are by the number of the round.

    :param stalls: seconds until `save` returned.
    :param computed: of these, seconds that the training thread computed: other programs do not count there.
    :param durable: seconds until it would have survived a power cut.
    :param written: bytes of the files that came into being.
    :param loads: seconds to load everything.
    :param peak: bytes of memory that a save took at most, beyond what the training holds.
    :param failed: why there are no numbers.
    """

    name: str
    whole: bool = True
    background: bool = False
    compresses: bool = False
    stalls: dict[int, float] = field(default_factory=dict)
    computed: dict[int, float] = field(default_factory=dict)
    durable: dict[int, float] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    loads: dict[int, float] = field(default_factory=dict)
    peak: int | None = None
    failed: str = ""


@dataclass
class Measurement:
    """All about one workload, by name."""

    name: str
    title: str
    note: str
    changed: int
    whole: int
    first: float
    incremental: int
    peers: dict[str, Measured]
