"""What is wrong with each checkpoint of a run, decided in one place.

`Store.survey` and `Store.verify`, and `perdure ls`, `show`, `verify` and `repair` all build on it. It changes nothing
and knows nothing of what is in a state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from perdure.errors import DamagedError, StoreError, UnsupportedFormatError
from perdure.store._manifest import CheckpointInfo, Manifest, manifest_name
from perdure.store._reading import Catalog

#: "damaged": proven to be. "unreadable": it could not be read now, and may be whole. "newer format": a newer Perdure
#: wrote it.
Verdict = Literal["ok", "damaged", "unreadable", "newer format"]

#: How much of a checkpoint is looked at: the head of its manifest, and whether its packs are there and long enough
#: ("head"); that, and all of the manifest but the state ("glance"); its manifest, and all of the state in it ("state");
#: that, and every byte of its arrays ("data").
Depth = Literal["head", "glance", "state", "data"]


@dataclass(frozen=True)
class CheckpointStatus:
    """A checkpoint, and whether it can be used.

    :param info: what its manifest says; only the number and the file if the manifest cannot be read.
    :param error: what reading it raised, or None.
    :param manifest: all of the manifest, if it can be read and is wanted.
    """

    info: CheckpointInfo
    error: StoreError | None = None
    manifest: Manifest | None = field(default=None, repr=False)

    @property
    def number(self) -> int:
        """The number of the checkpoint."""
        return self.info.number

    @property
    def verdict(self) -> Verdict:
        """Whether it can be used, and why not."""
        return "ok" if self.error is None else verdict_of(self.error)

    @property
    def problem(self) -> str:
        """What is wrong with it, in words; empty if nothing is known to be."""
        return "" if self.error is None else str(self.error)


def verdict_of(error: StoreError) -> Verdict:
    """What an error while reading says about the file that was read."""
    if isinstance(error, UnsupportedFormatError):
        return "newer format"
    # An error of the system does not prove that the data is lost.
    proven = isinstance(error, DamagedError) and not isinstance(error.__cause__, OSError)
    return "damaged" if proven else "unreadable"


def check(catalog: Catalog, manifest: Manifest, depth: Depth) -> None:
    """Look at a checkpoint whose manifest was read.

    :raises StoreError: if something is wrong with it.
    """
    if depth == "glance":
        catalog.check_sizes(manifest)
        return
    if depth == "data":
        catalog.verify(manifest)
    catalog.decode(manifest)


def survey(catalog: Catalog, depth: Depth) -> Iterator[CheckpointStatus]:
    """The status of every checkpoint, from the oldest to the newest.

    :param depth: how much of each is looked at.
    """
    for number in catalog.numbers():
        try:
            status = _status(catalog, number, depth)
        except FileNotFoundError:
            continue
        # A writer's retention may have deleted it while it was looked at.
        if status.error is None or number in catalog.numbers():
            yield status


def _status(catalog: Catalog, number: int, depth: Depth) -> CheckpointStatus:
    info, manifest = CheckpointInfo(number, manifest_name(number)), None
    try:
        if depth == "head":
            head = catalog.head(number)
            info = head.info
            catalog.check_packs(head)
            return CheckpointStatus(info)
        manifest = catalog.load(number)
        info = manifest.info
        check(catalog, manifest, depth)
    except StoreError as error:
        return CheckpointStatus(info, error, manifest)
    return CheckpointStatus(info, None, manifest)
