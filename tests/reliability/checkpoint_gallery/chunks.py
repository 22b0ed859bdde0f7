"""Arrays that lie where nothing lies, or stand for more than there is. Pages of extents: ../test_hostile_pages.py."""

from __future__ import annotations

from typing import Any

from checkpoint_gallery import Forged, attack
from perdure.store._checksummed_json import digest


def _array(forged: Forged, shape: int | None = None) -> tuple[list[Any], int]:
    """The extents of the large array of the script's world, and their number; of another size if `shape` says so."""
    array = forged.part("buffer")[1]
    if shape is not None:
        array.update(dtype="|u1", shape=[shape])
    return forged.body["arrays"], array["blob"]


def _created(forged: Forged, nbytes: int, layout: Any) -> None:
    """An array that the script has not built."""
    blob = len(forged.body["arrays"])
    forged.body["arrays"].append(layout)
    array = {"lib": "numpy", "dtype": "|u1", "shape": [nbytes], "blob": blob}
    forged.thing["more"] = forged.add(["a", array])


CHANGES: dict[str, tuple[int, Any]] = {
    "a pack that is not there": (0, 99 << 16),
    "a pack below zero": (0, -1),
    "an offset below zero": (1, -8),
    "an offset beyond the pack": (1, 1 << 40),
    "an offset into the header": (1, 0),
    "stored bytes beyond the pack": (2, 1 << 40),
    "no stored bytes": (2, 0),
    "a length beyond all": (3, 1 << 40),
    "a length below zero": (3, -1),
    "a codec that is none": (4, "pickle"),
    "a codec that is a list": (4, ["zstd"]),
    "a codec that is not the chunk's": (4, "zero"),
    "a checksum of something else": (5, "0" * 32),
    "a checksum that is none": (5, "x"),
}
for name, (position, value) in CHANGES.items():

    @attack(f"a chunk with {name}", "every field of an extent is checked", refused="is used instead")
    def _(forged: Forged, position: int = position, value: Any = value) -> None:
        arrays, blob = _array(forged)
        arrays[blob][0][position] = value


LAYOUTS: dict[str, Any] = {
    "no extents": [],
    "text": "x",
    "an extent of two numbers": [[1, 2]],
    "a page of nothing": {"nbytes": 200_000, "span": 200_000, "pages": [None]},
    "pages of no span": {"nbytes": 200_000, "span": 0, "pages": [None]},
    "very many pages": {"nbytes": 200_000, "span": 1, "pages": [None] * 20_000},
    "an exabyte": {"nbytes": 1 << 60, "span": 1 << 60, "pages": [None]},
}
for name, layout in LAYOUTS.items():

    @attack(f"where an array lies: {name}", "a layout that is none", refused="00000002")
    def _(forged: Forged, layout: Any = layout) -> None:
        arrays, blob = _array(forged)
        arrays[blob] = layout


@attack("very many gigabytes of zeros", "a chunk of zeros takes no space", refused="memory")
def _(forged: Forged) -> None:
    length = 1 << 26
    _created(forged, length << 12, [[0, 0, 0, length, "zero", digest(bytes(length))]] * (1 << 12))


@attack("one chunk again and again", "a chunk may be referred to often")
def _(forged: Forged) -> None:
    arrays, blob = _array(forged)
    extent = arrays[blob][0][:6]
    _created(forged, extent[3] * 64, [extent] * 64)


@attack("an array larger than its bytes", "shape and bytes belong together", refused="bytes for array")
def _(forged: Forged) -> None:
    forged.part("buffer")[1]["shape"] = [1 << 40]


@attack("an array whose bytes are another's", "each array's bytes are used once", refused="used once")
def _(forged: Forged) -> None:
    forged.part("small")[1]["blob"] = forged.part("buffer")[1]["blob"]


@attack("a window beyond its array", "a window stays inside", refused="a view within")
def _(forged: Forged) -> None:
    base = forged.nodes[0][2]["buffer"]
    window = {"lib": "numpy", "dtype": "<f4", "shape": [4], "base": base, "offset": 199_992, "strides": [4]}
    forged.thing["more"] = forged.add(["a", window])


@attack("very many windows onto one array", "they are not compared with each other")
def _(forged: Forged) -> None:
    base = forged.nodes[0][2]["buffer"]
    first = len(forged.nodes)
    window = {"lib": "numpy", "dtype": "|u1", "shape": [1], "base": base, "offset": 0, "strides": [1]}
    forged.thing["more"] = forged.add(
        ["i", "list", [[first + 1 + n] for n in range(5_000)]], *([["a", window]] * 5_000)
    )


for dtype in (
    "O",
    "<f3",
    "V",
    "(1000000,)f8",
    "f8,(((1)))f8",
    [["a", "O"]],
    [["a", "(2,)f4"]],
    "float16",
    None,
):

    @attack(f"an array of {dtype}", "a dtype is one that plain memory has", refused="00000002")
    def _(forged: Forged, dtype: Any = dtype) -> None:
        forged.part("small")[1]["dtype"] = dtype


@attack(
    "a device that is none",
    "a tensor is put where the file says only if that is a device",
    refused="00000002",
)
def _(forged: Forged) -> None:
    node = next(node for node in forged.nodes if node[0] == "a" and node[1]["lib"] == "torch")
    node[1]["extra"] = {"device": "meta"}
