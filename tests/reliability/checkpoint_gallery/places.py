"""Places of strangers, and secrets: where the script writes, and with which keys, is the script's own business."""

from __future__ import annotations

from typing import Any

from checkpoint_gallery import Forged, attack

PLACES = [
    "{top}/evil", "/{top}/./evil", "{top}/out/../evil", "../evil", "out/../../evil", "~/evil-of-perdure", "file://{top}/evil",
    "", "evil", "evil/log.csv", "{out}/../evil", "{run}/run.json", "{run}/.lock", "link/evil",
]  # fmt: skip
for number, place in enumerate(PLACES):

    @attack(f"a place of the script: {place or 'none'}", "the script's own place stays")
    def _(forged: Forged, place: str = place) -> None:
        forged.thing["out"] = _filled(forged, place)
        forged.thing["log"] = f"{_filled(forged, place)}/log.csv"

    if place not in ("", "evil", "evil/log.csv", "link/evil"):

        @attack(
            f"a place that was created: {place}",
            "it lies below no directory that the script names",
            refused="place",
        )
        def _(forged: Forged, place: str = place, number: int = number) -> None:
            text = _filled(forged, place)
            if number % 3 == 0:
                forged.thing["best"] = text
            elif number % 3 == 1:
                forged.thing["written"] = forged.add(["i", "list", [text]])
            else:
                forged.thing["table"] = forged.add(["d", "dict", {text: 1}])


def _filled(forged: Forged, place: str) -> str:
    top = forged.root.parent
    return place.format(top=top, out=top / "out", run=forged.root)


OTHERS: dict[str, Any] = {
    "bytes": lambda text: ["v", "bytes", text.encode().hex()],
    "a path": lambda text: ["v", "path", ["PosixPath", text]],
    "a NumPy text": lambda text: ["v", "numpy.str", text.encode().hex()],
    "a text in hexadecimal": lambda text: ["v", "str", text.encode().hex()],
}
for name, make in OTHERS.items():

    @attack(f"a place as {name}", "a file can be opened by it")
    def _(forged: Forged, make: Any = make) -> None:
        forged.thing["log"] = forged.add(make(f"{forged.root.parent}/evil"))


@attack("a place as a number", "a file can be opened by it")
def _(forged: Forged) -> None:
    forged.thing["log"] = 1


@attack(
    "a pair that moves everything",
    "where places moved to is said by the script, not by the file",
    refused="place",
)
def _(forged: Forged) -> None:
    forged.thing["out"] = "/"
    forged.thing["log"] = "/log.csv"
    forged.thing["best"] = f"{forged.root.parent}/evil"


@attack("a key of the script", "a secret stays the script's own")
def _(forged: Forged) -> None:
    forged.thing["api_key"] = "a stranger's"


@attack("an environment", "a stranger's environment has no place in the script's")
def _(forged: Forged) -> None:
    forged.thing["table"] = forged.add(["d", "dict", {"LD_PRELOAD": "evil.so", "PATH": "evil"}])


INSIDE = [
    "--out={top}/evil",
    "-o{top}/evil",
    "{out}/a:{top}/evil",
    "x,{top}/evil",
    "Source={top}/evil;Mode=rw",
    "--out=../evil",
    "@{top}/evil",
    "--db=sqlite:///{top}/evil",
    "--out=file://{top}/evil",
    "--out=~/evil-of-perdure",
    "--out=$HOME/evil-of-perdure",
    "--out={out}/../../evil",
]
for number, text in enumerate(INSIDE):

    @attack(f"a text with a place inside: {text}", "the script's own stays")
    def _(forged: Forged, text: str = text) -> None:
        forged.thing["out"] = _filled(forged, text)
        forged.thing["log"] = _filled(forged, text)

    @attack(
        f"a text with a place inside that was created: {text}", "an option leads to a file", refused="place"
    )
    def _(forged: Forged, text: str = text, number: int = number) -> None:
        filled = _filled(forged, text)
        if number % 2:
            forged.thing["written"] = forged.add(["i", "list", ["--n", "1", filled]])
        else:
            forged.thing["best"] = filled
