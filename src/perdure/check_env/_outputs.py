"""Takes what an environment returned apart into leaves that can be compared bit for bit.

It knows values, and nothing of environments.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from perdure.state import matches

#: Leaves by their paths: each a digest of its bits, and a text for a person.
Leaves = dict[str, list[str]]

#: Where the statistics of Gymnasium and Stable-Baselines3 put the wall clock.
CLOCKS = ("*['episode']['t']", "*['episode']['_t']")
_SHOWN_ELEMENTS = 24
_SHOWN = 160
_DEEPEST = 12


def leaves(fields: Mapping[str, Any], ignore: Sequence[str] = ()) -> Leaves:
    """The leaves of what an environment returned, without the wall clock and the paths in `ignore` (with `*` and `?`).

    :param fields: what it returned, by name.
    """
    patterns = (*CLOCKS, *ignore)
    found: Leaves = {}
    for name, value in fields.items():
        for path, leaf in _walk(value, name, 0):
            if not ("[" in path or ignore) or not matches(path, patterns):
                found[path] = _digest_and_text(leaf)
    return found


def first_difference(ours: Leaves, theirs: Leaves) -> tuple[str, str, str] | None:
    """The first path at which two records differ, and the text of each there; None if they are equal."""
    for path in {**ours, **theirs}:
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None or one[0] != other[0]:
            return path, "nothing" if one is None else one[1], "nothing" if other is None else other[1]
    return None


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEEPEST:
        yield path, f"{type(value).__name__}, too deep"
    elif isinstance(value, Mapping):
        yield f"{path}.keys", [f"{key!r}" for key in value]
        for key in value:
            yield from _walk(value[key], f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        yield f"{path}.shape", list(value.shape)
        for index, child in enumerate(value.ravel().tolist()):
            yield from _walk(child, f"{path}[{index}]", depth + 1)
    elif isinstance(value, list | tuple):
        yield f"{path}.length", len(value)
        for index, child in enumerate(value):
            yield from _walk(child, f"{path}[{index}]", depth + 1)
    elif isinstance(value, set | frozenset):
        # A set has no order, so the order is not compared.
        yield path, sorted(map(repr, value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            yield from _walk(getattr(value, each.name), f"{path}.{each.name}", depth + 1)
    else:
        yield path, value


def _digest_and_text(leaf: Any) -> list[str]:
    if hasattr(leaf, "detach") and hasattr(leaf, "numpy"):
        leaf = leaf.detach().cpu().numpy()
    if isinstance(leaf, np.ndarray | np.generic):
        array = np.asarray(leaf)
        digest = xxhash.xxh3_64_hexdigest(np.ascontiguousarray(array).tobytes())
        kind = f"{array.dtype}{array.shape if array.shape else ''}"
        few = array.size <= _SHOWN_ELEMENTS
        return [f"{kind} {digest}", f"{array.tolist()} ({kind})"[:_SHOWN] if few else f"an array, {kind}"]
    if isinstance(leaf, enum.Enum):
        leaf = str(leaf)
    if type(leaf) is float:
        return [leaf.hex(), repr(leaf)]
    if leaf is None or isinstance(leaf, str | bytes | bool | int | float | complex | list):
        text = f"{type(leaf).__name__} {leaf!r}"
        return [xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass")), f"{leaf!r:.{_SHOWN}}"]
    # Its repr would name a memory address, which differs in each process.
    return [type(leaf).__qualname__, f"a {type(leaf).__qualname__}"]
