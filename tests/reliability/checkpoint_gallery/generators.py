"""States that no random generator can have: a position outside its memory would be read by native code."""

from __future__ import annotations

from typing import Any

from checkpoint_gallery import Forged, attack

GENERATORS = ("python", "numpy", "legacy", "mt", "philox", "sfc", "torch")
VALUES: dict[str, Any] = {"below zero": -1, "beyond all": 1 << 61, "text": "os.system", "nothing": None}


def _change(value: Any, to: Any) -> Any:
    """Every number below a node's notation changed."""
    if type(value) is int:
        return to
    if isinstance(value, dict):
        return {name: _change(child, to) for name, child in value.items()}
    if isinstance(value, list) and not (len(value) == 1 and type(value[0]) is int):
        return [_change(child, to) for child in value]
    return value


for generator in GENERATORS:
    for name, value in VALUES.items():

        @attack(
            f"{generator}: numbers {name}", "a state that the generator cannot have is an error, or a state"
        )
        def _(forged: Forged, generator: str = generator, value: Any = value) -> None:
            for node in forged.below(forged.nodes[0][2][generator]):
                if node[0] in "odmihv":
                    node[2:] = _change(node[2:], value)


@attack("the process's generators of another kind", "they are tried out before anything is changed")
def _(forged: Forged) -> None:
    names = {"thing", "net", "optimizer", "schedule", "run", "buffer", "small", *GENERATORS}
    for part in forged.nodes[0][2].keys() - names:
        for node in forged.below(forged.nodes[0][2][part]):
            if node[0] in "odmihv":
                node[2:] = _change(node[2:], 1 << 61)


@attack("an array too short for a generator", "native code reads as much as it always does")
def _(forged: Forged) -> None:
    for node in forged.below(forged.nodes[0][2]["torch"]):
        if node[0] == "a":
            node[1]["shape"] = [max(node[1]["shape"][0] - 8, 0)]
