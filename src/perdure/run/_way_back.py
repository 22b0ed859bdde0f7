"""Which older checkpoint can be restored where the newest cannot, and how to go on from that one. Changes no file."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from perdure.errors import DamagedError, RestoreError
from perdure.store import Checkpoint, Store

#: So many are tried: each is compared with the whole world.
_MOST_TRIED = 20


def way_back(store: Store, newest: int, fits: Callable[[Checkpoint], bool], directory: str) -> str | None:
    """What to do to go on from an older checkpoint that fits; None if none is found.

    The commands work in a copy, so that the newer checkpoints are not lost.

    :param newest: the number of the checkpoint that does not fit.
    :param fits: whether a checkpoint does.
    :param directory: of the run.
    """
    number = newest
    for _ in range(_MOST_TRIED):
        try:
            older = store.latest(deep=False, before=number)
            if older is None:
                return None
            found = fits(older)
        except (DamagedError, RestoreError):
            return None
        if found:
            break
        number = older.info.number
    else:
        return None
    copy = f"{directory}-from-{older.info.step}"
    later = [info.file for info in store.checkpoints() if info.number > older.info.number]
    return (
        f"Checkpoint {older.info.number} (step {older.info.step}) can be restored. To go on from it, train in a copy "
        f"without the later ones:\n  cp -r {shlex.quote(directory)} {shlex.quote(copy)}\n"
        f"  rm {' '.join(shlex.quote(f'{copy}/{file}') for file in later)}\n"
        f"and let the script open {copy!r}."
    )
