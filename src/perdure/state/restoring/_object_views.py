"""Which live arrays of objects keep the memory that they share, and which must not. Nothing is changed."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

from perdure.state.restoring._plan import ABSENT, Matches
from perdure.tree import SequenceNode


def pair_memory(matches: Matches, views: Sequence[SequenceNode]) -> Iterator[tuple[SequenceNode, Any]]:
    """Pair the common memory of saved views, where no saved array contained all of it, with that of the live arrays.

    :returns: the nodes of such memory, and the live memory.
    """
    by_base: dict[int, list[SequenceNode]] = collections.defaultdict(list)
    for node in views:
        if matches.live(node) is not ABSENT and matches.live(node.items[0]) is ABSENT:
            by_base[id(node.items[0])].append(node)
    for nodes in by_base.values():
        base = nodes[0].items[0]
        found = matches.world.object_memory(base, nodes, [matches.live(node) for node in nodes])
        if found is not None:
            matches.pair(base, found)
            matches.new_objects.append(found)
            yield base, found


def separate(matches: Matches, nodes: Sequence[SequenceNode]) -> None:
    """Where live arrays overlap and the saved ones did not, let only one of them keep its memory.

    :param nodes: of arrays of objects that are no views.
    """
    found = [node for node in nodes if matches.live(node) is not ABSENT]
    for position in list(matches.world.not_apart([matches.live(node) for node in found])):
        matches.pair(found[position], ABSENT)
