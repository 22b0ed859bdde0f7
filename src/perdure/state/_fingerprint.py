"""A number that stands for an object's state, to notice that it has changed. Keeps nothing and restores nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xxhash

from perdure import tree
from perdure.state._walker import Walker
from perdure.tree import Omitted, State


def fingerprint(value: Any, *, without: Iterable[int]) -> int | None:
    """A hash of everything that can be captured from an object; None if something in it cannot.

    It can only be compared within one process.

    :param without: the `id` of objects that do not count, wherever they are met.
    """
    walker = Walker()
    walker.memo.update(dict.fromkeys(without, Omitted("not part of the fingerprint")))
    try:
        root = walker.parts({"value": value})
        walker.finish()
        document, blobs = tree.encode(State(root))
        return hash((repr(document), *(xxhash.xxh3_64_intdigest(blob.buffer()) for blob in blobs)))
    except Exception:
        # Any object may be looked at, also one whose attributes raise errors of their own.
        return None
