"""Payloads of MuJoCo and of the Arcade Learning Environment: native memory is filled with what a file says."""

from __future__ import annotations

from typing import Any

from checkpoint_gallery import Forged, attack


def _payloads(forged: Forged) -> list[Any]:
    """The nodes of what handlers returned below the environment."""
    env = forged.nodes[0][2]["env"]
    return [
        each
        for node in forged.below(env)
        if node[0] == "h" and isinstance(node[2], list)
        for each in forged.below(node[2])
    ]


def _set_numbers(value: Any) -> Any:
    def change(forged: Forged) -> None:
        for node in _payloads(forged):
            if node[0] == "d":
                node[2] = {
                    key: value if type(child) in (int, float) else child for key, child in node[2].items()
                }

    return change


def _set_text(forged: Forged) -> None:
    for node in _payloads(forged):
        if node[0] == "d":
            node[2] = {
                key: "/etc/passwd" if isinstance(child, str) else child for key, child in node[2].items()
            }


def _shorten(forged: Forged) -> None:
    for node in _payloads(forged):
        if node[0] == "a" and node[1]["shape"]:
            node[1]["shape"] = [max(node[1]["shape"][0] - 1, 0), *node[1]["shape"][1:]]


def _swap(forged: Forged) -> None:
    """Each array where another one belongs."""
    for node in _payloads(forged):
        if node[0] == "d":
            arrays = [key for key, child in node[2].items() if isinstance(child, list)]
            values = [node[2][key] for key in arrays]
            node[2].update(zip(arrays, values[1:] + values[:1], strict=True))


def _empty(forged: Forged) -> None:
    for node in _payloads(forged):
        if node[0] == "d":
            node[2] = {}


def _plain(value: Any) -> Any:
    def change(forged: Forged) -> None:
        for node in forged.below(forged.nodes[0][2]["env"]):
            if node[0] == "h":
                node[2] = value

    return change


def _values(forged: Forged) -> None:
    """Bytes of an emulator: shorter."""
    for node in _payloads(forged):
        if node[0] == "v" and node[1] == "bytes":
            node[2] = node[2][: len(node[2]) // 4 * 2]


for engine in ("mujoco", "atari"):
    for name, change in {
        "numbers below zero": _set_numbers(-1),
        "numbers beyond all": _set_numbers(1 << 61),
        "numbers that are text": _set_numbers("x"),
        "text that is a place": _set_text,
        "arrays that are too short": _shorten,
        "arrays that are exchanged": _swap,
        "nothing in it": _empty,
        "bytes cut off": _values,
        "text instead of it": _plain("os.system"),
        "nothing instead of it": _plain(None),
    }.items():
        attack(f"{engine}: {name}", "native code is given what it can take, or nothing", world=engine)(change)
