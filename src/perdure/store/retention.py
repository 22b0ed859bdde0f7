"""What may be deleted: checkpoints that are not to be kept, and packs that no checkpoint refers to.

The order makes every moment safe. Manifests go first, each durably, then the packs that no manifest refers to
any longer. A crash in between leaves packs that nobody needs, which the next writer removes; never a
checkpoint without its data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence

from perdure.errors import DamagedCheckpointWarning, DamagedError, StoreError
from perdure.store.backend import Backend
from perdure.store.manifest import CheckpointInfo, NewerFormatError, manifest_name
from perdure.store.packs import PACKS
from perdure.store.reading import Catalog, pack_sizes

Keep = Collection[int] | Callable[[Sequence[CheckpointInfo]], Iterable[int]]

#: How many good checkpoints must be newer than a damaged one before it is given up.
NEWER_GOOD = 2


def retain(backend: Backend, catalog: Catalog, keep: Keep, damaged: dict[int, str]) -> list[int]:
    """Delete the checkpoints that are not to be kept, and what only they referred to.

    :param damaged: checkpoints that are known to be damaged, although their manifest may be good; with what
        is wrong.
    :return: the numbers of the deleted checkpoints.
    """
    good: list[CheckpointInfo] = []
    problems: dict[int, str] = {}
    for number in catalog.numbers():
        try:
            info = catalog.summary(number).info
        except (NewerFormatError, FileNotFoundError):
            continue
        except DamagedError as error:
            # That the disk could not read it just now does not prove that it is lost.
            if not isinstance(error.__cause__, OSError):
                problems[number] = str(error)
            continue
        if number in damaged:
            problems[number] = damaged[number]
        else:
            good.append(info)

    kept = set(keep(good) if callable(keep) else keep)
    # The newest one is what the run resumes from, and what the next commit builds on.
    kept |= {info.number for info in good[-1:]}
    # Which packs a damaged manifest refers to cannot be known, so as long as there is one, no pack can be
    # deleted: kept for ever, one flipped bit would fill the disk. But it could be mended by hand, or tell
    # what happened; and with no good checkpoint after it, it may be all there is. So it goes once newer ones
    # have proven that the run goes on.
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
    """Delete the packs that no checkpoint refers to. Does nothing if there is a manifest it cannot read."""
    unused = set(pack_sizes(backend))
    for number in reversed(catalog.numbers()):
        if not unused:
            return
        try:
            unused -= {pack.file for pack in catalog.summary(number).packs}
        except FileNotFoundError:
            continue
        except StoreError:
            # It may refer to any of them.
            return
    for file in sorted(unused):
        backend.delete(f"{PACKS}/{file}")
