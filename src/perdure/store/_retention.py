"""Deletes checkpoints that are not kept, and packs that no checkpoint refers to. Knows manifests and packs, and reads
no array.

The order makes a crash safe at every moment. Manifests are deleted first, each durably, and then the packs that no
manifest refers to any more. A crash in between leaves packs that nobody needs, which the next writer removes. It never
leaves a checkpoint without its data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from perdure.errors import DamagedCheckpointWarning, DamagedError, StoreError
from perdure.store._manifest import CheckpointInfo, NewerFormatError, manifest_name
from perdure.store._packs import pack_name
from perdure.store._reading import Catalog, pack_sizes
from perdure.store.backends import Backend

Keep = Collection[int] | Callable[[Sequence[CheckpointInfo]], Iterable[int]]

#: The tag of the first checkpoint that holds a new best policy.
BEST = "best"
#: The tag of checkpoints that are never deleted.
PINNED = "pinned"


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run are kept. One reason is enough to keep a checkpoint.

    :param last: keep so many of the newest ones.
    :param best: keep so many of those that followed a new best score, from the best one on.
    :param every: keep the first one at or after each multiple of so many steps; None keeps none for this reason.
    :raises ValueError: if a number is too small.
    """

    last: int = 3
    best: int = 1
    every: int | None = None

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(
                f"keep: expected at least 1 of the newest checkpoints to keep, found {self.last}"
            )
        if self.best < 0:
            raise ValueError(f"keep: expected 0 or more of the best checkpoints to keep, found {self.best}")
        if self.every is not None and self.every < 1:
            raise ValueError(f"keep: expected a number of steps, found every={self.every}")

    def __call__(self, good: Sequence[CheckpointInfo]) -> set[int]:
        """The numbers of the checkpoints to keep, among good ones from the oldest to the newest."""
        kept = {info.number for info in good[-self.last :]}
        kept |= {info.number for info in good if PINNED in info.tags}
        # Each new best score is better than those before it.
        best = [info.number for info in good if BEST in info.tags]
        kept |= set(best[len(best) - self.best :]) if self.best else set()
        if self.every is not None:
            first: dict[int, int] = {}
            for info in good:
                first.setdefault(info.step // self.every, info.number)
            first.pop(0, None)
            kept |= set(first.values())
        return kept


#: A damaged checkpoint is deleted when so many good ones are newer.
NEWER_GOOD = 2


def retain(backend: Backend, catalog: Catalog, keep: Keep, damaged: dict[int, str]) -> list[int]:
    """Delete the checkpoints that are not kept, and the packs that only they referred to.

    :param damaged: what is wrong with checkpoints that are known to be damaged; their manifests may be good.
    :returns: the numbers of the deleted checkpoints.
    """
    good: list[CheckpointInfo] = []
    problems: dict[int, str] = {}
    for number in catalog.numbers():
        try:
            info = catalog.summary(number).info
        except (NewerFormatError, FileNotFoundError):
            continue
        except DamagedError as error:
            # That the disk could not read it this time does not prove that it is lost.
            if not isinstance(error.__cause__, OSError):
                problems[number] = str(error)
            continue
        if number in damaged:
            problems[number] = damaged[number]
        else:
            good.append(info)

    kept = set(keep(good) if callable(keep) else keep)
    # The run resumes from the newest one, and the next commit builds on it.
    kept |= {info.number for info in good[-1:]}
    # Nobody can know which packs a damaged manifest refers to, so no pack is deleted while there is one. If it were
    # kept for ever, one flipped bit would fill the disk. But a person may repair it, or learn from it what happened,
    # and if no good checkpoint is newer it may be all there is. So it is deleted once newer ones have shown that the
    # run goes on.
    given_up = [number for number in problems if sum(info.number > number for info in good) >= NEWER_GOOD]
    given_up = [number for number in given_up if number not in kept]
    delete = sorted([info.number for info in good if info.number not in kept] + given_up)
    for number in delete:
        backend.delete(manifest_name(number))
    sweep(backend, catalog)
    for number in given_up:
        warnings.warn(
            f"the damaged checkpoint {number} was deleted, because newer ones are good. What was wrong with "
            f"it: {problems[number]}",
            DamagedCheckpointWarning,
            stacklevel=3,
        )
    return delete


def sweep(backend: Backend, catalog: Catalog) -> None:
    """Delete the packs that no checkpoint refers to. If a manifest cannot be read, nothing is deleted."""
    unused = set(pack_sizes(backend))
    for number in reversed(catalog.numbers()):
        if not unused:
            return
        try:
            unused.difference_update(catalog.summary(number).packs)
        except FileNotFoundError:
            continue
        except StoreError:
            # Its checkpoint may need any of them.
            return
    for pack in sorted(unused):
        backend.delete(pack_name(pack))
