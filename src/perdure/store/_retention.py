"""Delete the checkpoints that need not be kept, and the packs that no checkpoint needs any more.

The order makes every moment safe. Manifests go first, each durably, then the packs that no manifest refers to. A crash
in between leaves packs that nothing needs, which the next writer deletes; never a checkpoint without its data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from perdure.errors import (
    DamagedCheckpointWarning,
    DamagedError,
    StoreError,
    UnsupportedFormatError,
    user_level,
)
from perdure.store._manifest import CheckpointInfo, manifest_name
from perdure.store._packs import pack_name
from perdure.store._reading import Catalog, pack_sizes
from perdure.store._survey import verdict_of
from perdure.store.backends import Backend

Keep = Collection[int] | Callable[[Sequence[CheckpointInfo]], Iterable[int]]

#: The tag of the first checkpoint that holds a new best policy.
BEST = "best"
#: The tag of checkpoints that are never deleted.
PINNED = "pinned"


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run are kept. One reason is enough to keep a checkpoint.

    :param last: how many of the newest ones to keep.
    :param best: how many to keep of those that followed a new best score; those with the best scores stay.
    :param every: keep the first one at or after each multiple of this number of steps; None for none.
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
        """The numbers of the checkpoints to keep.

        :param good: all checkpoints that are not damaged, from the oldest to the newest.
        """
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
    """Delete the checkpoints that need not be kept, and the packs that only they needed.

    :param damaged: what is wrong with checkpoints that are known to be damaged, although their manifest may be good.
    :return: the numbers of the deleted checkpoints.
    """
    good: list[CheckpointInfo] = []
    problems: dict[int, str] = {}
    for number in catalog.numbers():
        try:
            info = catalog.summary(number).info
        except (UnsupportedFormatError, FileNotFoundError):
            continue
        except DamagedError as error:
            if verdict_of(error) == "damaged":
                problems[number] = str(error)
            continue
        if number in damaged:
            problems[number] = damaged[number]
        else:
            good.append(info)

    kept = set(keep(good) if callable(keep) else keep)
    # The run resumes from the newest one, and the next commit builds on it.
    kept |= {info.number for info in good[-1:]}
    # Which packs a damaged manifest refers to is unknown, so no pack can be deleted while there is one: kept for ever,
    # one flipped bit would fill the disk. But it could be repaired by hand, or show what happened; and with no good
    # checkpoint after it, it may be all there is. So it goes once newer ones have proven that the run goes on.
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
            stacklevel=user_level(),
        )
    return delete


def sweep(backend: Backend, catalog: Catalog) -> None:
    """Delete the packs that no checkpoint needs. Does nothing if there is a manifest that cannot be read."""
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
