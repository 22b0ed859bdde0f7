"""A gallery of attacks on checkpoints, one entry each, with its reason. Add one by writing a function:

    @attack("metrics in each other", "reading must not recurse as deeply as a file says")
    def _(forged: Forged) -> None:
        forged.body["metrics"] = nested(900)

in the module of its family, or in a new one that is named in `FAMILIES`. A function changes `forged.body` (the newest
manifest, which is sealed again with the right checksum) or files below `forged.root`; `script.py` is the script whose
run it is. `test_gallery.py` lists, shows, verifies and resumes each: a clear refusal or no harm, in bounded time and
memory, nothing imported, run or written outside the run. `refused="..."` says words that resuming has to say.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.store import load_checksummed
from perdure.store._checksummed_json import dump_checksummed

FAMILIES = (
    "manifests",
    "trees",
    "classes",
    "chunks",
    "generators",
    "optimizers",
    "engines",
    "places",
    "small_files",
)

Change = Callable[["Forged"], None]


@dataclass(frozen=True)
class Attack:
    """One entry.

    :param reason: what it tries.
    :param change: makes it of a whole run.
    :param refused: words that resuming must say; none where it does no harm.
    :param world: the script's world that is attacked.
    """

    name: str
    reason: str
    change: Change
    refused: str = ""
    world: str = "plain"


ATTACKS: dict[str, Attack] = {}


def attack(name: str, reason: str, *, refused: str = "", world: str = "plain") -> Callable[[Change], Change]:
    """Put an attack into the gallery."""

    def put(change: Change) -> Change:
        assert name not in ATTACKS, name
        ATTACKS[name] = Attack(name, reason, change, refused, world)
        return change

    return put


class Forged:
    """A run to be changed. What is a node, and how they refer to each other: docs/format.md."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = max(root.glob("checkpoints/*.json"))
        self.body: dict[str, Any] = load_checksummed("manifest", self.manifest.read_bytes(), "")
        self._before = json.dumps(self.body)

    @property
    def nodes(self) -> list[Any]:
        return self.body["state"]["nodes"]

    def add(self, *nodes: Any) -> list[int]:
        """More nodes; a reference to the first."""
        self.nodes.extend(nodes)
        return [len(self.nodes) - len(nodes)]

    def part(self, name: str) -> Any:
        """The node of a part of the world."""
        return self.nodes[self.nodes[0][2][name][0]]

    @property
    def thing(self) -> dict[str, Any]:
        """The attributes of an object of the script's."""
        return self.part("thing")[2]

    def at(self, reference: list[int]) -> Any:
        return self.nodes[reference[0]]

    def below(self, reference: list[int]) -> list[Any]:
        """All nodes from one on."""
        found, pending = {}, [reference[0]]
        while pending:
            number = pending.pop()
            if number not in found:
                found[number] = self.nodes[number]
                pending += _references(self.nodes[number])
        return list(found.values())

    def write(self, text: bytes) -> None:
        """Other content for the manifest, under the right checksum."""
        from perdure.store._checksummed_json import _END, _START, digest

        self.manifest.write_bytes(_START.format(digest(text), "manifest").encode() + text + _END)

    def save(self) -> None:
        """Seal what was changed in the manifest."""
        if json.dumps(self.body) != self._before:
            self.manifest.write_bytes(dump_checksummed("manifest", self.body))


def _references(node: Any) -> list[int]:
    """The numbers of the nodes that one refers to."""
    match node:
        case ["o" | "d", _, dict() as content, *more]:
            children = [*content.values(), *more]
        case ["m", _, list() as content, *more]:
            children = [*(child for pair in content for child in pair), *more]
        case ["i", _, list() as content, *more]:
            children = [*content, *more]
        case ["h" | "p", _, child] | ["r", child, _]:
            children = [child]
        case ["a", dict() as about]:
            children = [about.get("base"), about.get("grad")]
        case _:
            children = []
    children += [child for each in children if isinstance(each, dict) for child in each.values()]
    return [child[0] for child in children if isinstance(child, list) and len(child) == 1]


def nested(depth: int, value: Any = 1) -> Any:
    """Dicts in each other."""
    for _ in range(depth):
        value = {"a": value}
    return value


def load() -> dict[str, Attack]:
    """All attacks."""
    for family in FAMILIES:
        importlib.import_module(f"checkpoint_gallery.{family}")
    return ATTACKS
