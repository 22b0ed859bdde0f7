"""Limits for the keys of dicts and the elements of sets in untrusted checkpoints: colliding hashes are refused before
anything is made.

A few bytes of a hostile file can describe a container that takes hours to fill. Each key is looked at once, however
many containers have it. Knows no live objects and no files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from perdure.state import _values
from perdure.tree import Node, SequenceNode, Value

MOST_ALIKE = 1_000
"""How many keys of one dict or set may have the same hash: filling it takes the square of their number."""
MOST_PARTS = 10_000
"""How many parts a key may have. A part is counted as often as it occurs, because Python hashes it as often."""

#: Integers below it have different hashes.
_MODULUS = sys.hash_info.modulus


class Keys:
    """What was found out about keys (by the ids of their nodes)."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}
        self._hashes: dict[int, int | None] = {}
        #: Nodes that Python can hash, with everything in them.
        self.hashable: set[int] = set()

    def unwieldy(self, keys: Iterable[Any], find: Callable[[str], type | None]) -> str | None:
        """Why a dict or a set with these keys would take too long to fill, or None."""
        alike: dict[int, int] = {}
        for key in keys:
            if not (isinstance(key, Value | SequenceNode) or (type(key) is int and abs(key) >= _MODULUS)):
                continue
            if isinstance(key, SequenceNode) and _parts(key, self._parts) > MOST_PARTS:
                return f"the checkpoint has a key that consists of more than {MOST_PARTS:,} parts"
            number = self._hash(key, find)
            if number is None:
                continue  # why it is no key is reported elsewhere
            alike[number] = alike.get(number, 0) + 1
            if alike[number] > MOST_ALIKE:
                return (
                    f"the checkpoint has more than {MOST_ALIKE:,} keys in one place that have the same hash, which no "
                    "program has by chance"
                )
        return None

    def _hash(self, key: Any, find: Callable[[str], type | None]) -> int | None:
        if id(key) not in self._hashes or not isinstance(key, Node):
            try:
                number = hash(_read(key, find))
            except (TypeError, ValueError, _values.NotThere):
                number = None
            if not isinstance(key, Node):
                return number  # it may be gone when its id is seen again
            self._hashes[id(key)] = number
        return self._hashes[id(key)]


def _parts(node: SequenceNode, known: dict[int, int]) -> int:
    """How many parts Python hashes for a tuple or a frozenset; `known` keeps what was counted before."""
    stack = [] if id(node) in known else [node]
    while stack:
        at = stack[-1]
        inner = [child for child in at.items if isinstance(child, SequenceNode)]
        waiting = [child for child in inner if id(child) not in known]
        if waiting and len(stack) <= MOST_PARTS:
            # One that contains itself cannot be a key; it counts as endless.
            known[id(at)] = MOST_PARTS + 1
            stack.extend(waiting)
            continue
        stack.pop()
        known[id(at)] = len(at.items) + sum(known.get(id(child), MOST_PARTS + 1) for child in inner)
    return known[id(node)]


def _read(key: Any, find: Callable[[str], type | None]) -> Any:
    match key:
        case SequenceNode(type="tuple"):
            return tuple(_read(item, find) for item in key.items)
        case SequenceNode(type="frozenset"):
            return frozenset(_read(item, find) for item in key.items)
        case Value():
            return _values.read(key, find)
        case Node():
            raise TypeError
    return key
