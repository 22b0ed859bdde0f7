"""Manifests that are JSON and no manifests, or say too much."""

from __future__ import annotations

import json
from typing import Any

from checkpoint_gallery import Forged, attack, nested

for key in (
    "metrics",
    "counters",
    "versions",
    "tags",
    "created",
    "step",
    "run",
    "packs",
    "arrays",
    "state",
    "format",
):

    @attack(f"{key} 900 deep", "reading must not recurse as deeply as a file says", refused="in each other")
    def _(forged: Forged, key: str = key) -> None:
        forged.body[key] = nested(900)

    @attack(f"{key} is missing", "every key may be missing")
    def _(forged: Forged, key: str = key) -> None:
        del forged.body[key]


VALUES: dict[str, tuple[str, Any]] = {
    "a step below zero": ("step", -5),
    "a step of 900 digits": ("step", 10**900),
    "a step that is text": ("step", "1"),
    "a step that is a bool": ("step", True),
    "a version of the format that is none": ("format", 0),
    "a number of another checkpoint": ("checkpoint", 7),
    "a number below zero": ("checkpoint", -1),
    "escape sequences as a tag": ("tags", ["\x1b]0;evil\x07\x1b[2J"]),
    "escape sequences as a metric": ("metrics", {"\x1b[2J": "\x1b]52;c;ZXZpbA==\x07"}),
    "markup as a metric": ("metrics", {"[link=file:///etc/passwd]x[/link]": "[/]"}),
    "escape sequences as a time": ("created", "\x1b[2J"),
    "a time after all times": ("created", "9999-99-99T99:99:99"),
    "versions that are no text": ("versions", {"torch": [{}], "numpy": None}),
    "packs below zero": ("packs", [-1]),
    "packs beyond all": ("packs", [1 << 61]),
    "packs that are text": ("packs", ["../../etc/passwd"]),
    "twenty thousand packs": ("packs", list(range(20_000))),
    "twenty thousand tags": ("tags", ["x"] * 20_000),
    "twenty thousand metrics": ("metrics", {str(n): n for n in range(20_000)}),
    "arrays that are no lists": ("arrays", [5, None, "x"]),
    "no arrays": ("arrays", []),
    "another run": ("run", {"format": 1, "id": "0" * 32, "created": "", "versions": {}, "metadata": {}}),
    "a run without an id": (
        "run",
        {"format": 1, "id": "../..", "created": "", "versions": {}, "metadata": {}},
    ),
}
for name, (key, value) in VALUES.items():

    @attack(name, "a value of the wrong kind, or one that a terminal would obey")
    def _(forged: Forged, key: str = key, value: Any = value) -> None:
        forged.body[key] = value


@attack("a newer format", "is left alone, and said")
def _(forged: Forged) -> None:
    forged.body["format"] = 1_000_000


TEXTS = {
    "lists without end": b"[" * 1_000_000,
    "objects without end": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "very many empty lists": b'{"x":[' + b"[]," * 200_000 + b"[]]}",
    "a key twice": b'{"format":1,"format":1}',
    "not a number": b'{"format":NaN}',
    "a number beyond all": b'{"format":1e999}',
    "ten thousand digits": b'{"format":' + b"9" * 10_000 + b"}",
    "no JSON": b"\x80\x04\x95",
    "a list": b"[]",
    "nothing": b"",
    "half a surrogate": b'{"\\ud800":1}',
}
for name, text in TEXTS.items():

    @attack(f"text: {name}", "JSON is read without trust", refused="00000002.json")
    def _(forged: Forged, text: bytes = text) -> None:
        forged.write(text)


@attack(
    "a manifest in the place of another",
    "a number belongs to its name",
    refused="it was renamed, or copied over another one",
)
def _(forged: Forged) -> None:
    forged.manifest.write_bytes(min(forged.root.glob("checkpoints/*.json")).read_bytes())


@attack("a seal that is not of the content", "a checksum is compared", refused="checksum")
def _(forged: Forged) -> None:
    content = json.dumps({"checksum": "xxh3_128:" + "0" * 32, "manifest": forged.body}, separators=(",", ":"))
    forged.manifest.write_bytes(content.encode() + b"\n")
