"""States that no optimizer of this network can have."""

from __future__ import annotations

from typing import Any

from checkpoint_gallery import Forged, attack


def _options(forged: Forged) -> dict[str, Any]:
    """The options of the first group of parameters."""
    return next(
        node[2]
        for node in forged.below(forged.nodes[0][2]["optimizer"])
        if node[0] == "d" and "lr" in node[2]
    )


def _moments(forged: Forged) -> list[dict[str, Any]]:
    return [
        node[2]
        for node in forged.below(forged.nodes[0][2]["optimizer"])
        if node[0] == "d" and "exp_avg" in node[2]
    ]


OPTIONS: dict[str, Any] = {
    "a rate that is text": ("lr", "fast"),
    "a rate below zero": ("lr", -1.0),
    "no rate": ("lr", None),
    "betas that are text": ("betas", "x"),
    "an option that nobody knows": ("evil", "os.system"),
    "parameters that are none": ("params", None),
    "amsgrad all of a sudden": ("amsgrad", True),
    "a rate of ten thousand digits": ("lr", 10**900),
}
for name, (option, value) in OPTIONS.items():

    @attack(f"an optimizer with {name}", "options come from a file too")
    def _(forged: Forged, option: str = option, value: Any = value) -> None:
        _options(forged)[option] = value


MOMENTS: dict[str, Any] = {
    "a moment that is text": "x",
    "a moment that is nothing": None,
    "a moment that is a number": 5,
    "a moment that is a list": [0],
}
for name, value in MOMENTS.items():

    @attack(f"an optimizer with {name}", "a moment is a tensor like its parameter")
    def _(forged: Forged, value: Any = value) -> None:
        for moments in _moments(forged):
            moments["exp_avg"] = value


@attack("moments of another shape", "a moment is a tensor like its parameter")
def _(forged: Forged) -> None:
    first, second = _moments(forged)
    first["exp_avg"], second["exp_avg"] = second["exp_avg"], first["exp_avg"]


@attack("moments for parameters that are not there", "a state belongs to a parameter")
def _(forged: Forged) -> None:
    for node in forged.below(forged.nodes[0][2]["optimizer"]):
        if node[0] in "dm" and isinstance(node[2], dict) and "0" in node[2]:
            node[2] = {str(int(key) + 1_000): child for key, child in node[2].items()}
        elif node[0] == "m":
            node[2] = [[key + 1_000 if type(key) is int else key, child] for key, child in node[2]]


@attack("a schedule of another optimizer", "what the program is made of stays")
def _(forged: Forged) -> None:
    forged.part("schedule")[2]["optimizer"] = forged.nodes[0][2]["thing"]


@attack("a schedule whose numbers are text", "a schedule's state is plain")
def _(forged: Forged) -> None:
    fields = forged.part("schedule")[2]
    for name, value in fields.items():
        if type(value) in (int, float):
            fields[name] = "x"
