"""The small files beside the checkpoints: run.json, and what stands beside the best policy."""

from __future__ import annotations

import json
from typing import Any

from checkpoint_gallery import Forged, attack, nested
from perdure.store import load_checksummed
from perdure.store._checksummed_json import _END, _START, digest, dump_checksummed


def _run(forged: Forged) -> dict[str, Any]:
    return load_checksummed("run", (forged.root / "run.json").read_bytes(), "")


RUNS: dict[str, Any] = {
    "metadata in each other": {"metadata": nested(900)},
    "versions in each other": {"versions": nested(900)},
    "another id": {"id": "0" * 32},
    "an id that leads elsewhere": {"id": "../../etc/passwd"},
    "no id": {"id": None},
    "a newer format": {"format": 99},
    "escape sequences": {"metadata": {"\x1b[2J": "\x1b]0;evil\x07"}, "created": "\x1b[2J"},
    "very much metadata": {"metadata": {str(n): n for n in range(50_000)}},
}
for name, change in RUNS.items():

    @attack(f"run.json: {name}", "it is read without trust")
    def _(forged: Forged, change: dict[str, Any] = change) -> None:
        (forged.root / "run.json").write_bytes(dump_checksummed("run", {**_run(forged), **change}))


@attack("run.json: lists without end", "it is read without trust")
def _(forged: Forged) -> None:
    text = b"[" * 500_000
    (forged.root / "run.json").write_bytes(_START.format(digest(text), "run").encode() + text + _END)


SCORES: dict[str, bytes] = {
    "lists without end": b"[" * 100_000,
    "objects in each other": json.dumps(nested(900)).encode(),
    "not a number": b'{"score":NaN}',
    "beyond all": b'{"score":1e999}',
    "thousands of digits": b'{"score":' + b"9" * 4_000 + b"}",
    "text": b'{"score":"\\u001b[2J"}',
    "a step nested": b'{"score":1,"step":[[[[1]]]]}',
    "a step of thousands of digits": b'{"score":1,"step":' + b"9" * 4_000 + b"}",
    "no JSON": b"\x80\x04\x95",
}
for name, content in SCORES.items():

    @attack(f"best.json: {name}", "what is no score is none")
    def _(forged: Forged, content: bytes = content) -> None:
        for path in forged.root.glob("policies/*/best.json"):
            path.write_bytes(content)
