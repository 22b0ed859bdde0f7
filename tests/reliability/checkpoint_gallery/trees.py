"""Trees whose size says nothing of the work or the memory that they would take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from checkpoint_gallery import Forged, attack, nested

MANY = 2_000


def _put(forged: Forged, make: Callable[[int], list[Any]]) -> None:
    """Nodes below an attribute that the script has not got; `make` is told the number of the first."""
    forged.thing["more"] = forged.add(*make(len(forged.nodes)))


def _alike(count: int, first: int) -> list[Any]:
    """Whole numbers with one hash: filling a dict with them takes the square of their number."""
    return [["v", "int", hex(number * sys.hash_info.modulus)] for number in range(1, count + 1)]


def _chain(count: int, make: Callable[[int], Any], end: Any) -> Callable[[int], list[Any]]:
    return lambda first: [*(make(first + n + 1) for n in range(count)), end]


LIST, DICT, TUPLE = ["i", "list", []], ["d", "dict", {}], ["i", "tuple", []]
TREES: dict[str, tuple[str, str, Callable[[int], list[Any]]]] = {
    "lists in each other": ("nothing recurses", "", _chain(MANY, lambda k: ["i", "list", [[k]]], LIST)),
    "dicts in each other, with leaves": (
        "the paths of all leaves together take the square of the depth",
        "",
        _chain(MANY, lambda k: ["d", "dict", {"a": [k], "b": 1}], DICT),
    ),
    "tuples in each other": (
        "what is made from the inside out is not made by recursion",
        "contains itself, or is nested",
        _chain(MANY, lambda k: ["i", "tuple", [[k]]], TUPLE),
    ),
    "lists shared without end": (
        "2^5000 paths lead to the last one; each node is looked at once",
        "",
        _chain(MANY, lambda k: ["i", "list", [[k], [k]]], LIST),
    ),
    "dicts shared without end": (
        "the same with keys",
        "",
        _chain(MANY, lambda k: ["d", "dict", {"a": [k], "b": [k]}], DICT),
    ),
    "tuples shared without end": (
        "the same with what is made from the inside out",
        "",
        _chain(900, lambda k: ["i", "tuple", [[k], [k]]], TUPLE),
    ),
    "tuples wide and shared": (
        "a tuple that many others hold many times is ordered once",
        "",
        lambda k: [["i", "tuple", [[k + 1]] * MANY], ["i", "tuple", [[k + 2]] * MANY], TUPLE],
    ),
    "sets of sets shared without end": (
        "to hash them looks at every path",
        "parts",
        _chain(80, lambda k: ["i", "frozenset", [[k], [k]]], ["i", "frozenset", [1]]),
    ),
    "a key that doubles": (
        "Python hashes a tuple through every path",
        "parts",
        lambda k: [
            ["m", "dict", [[[k + 1], 1]]],
            *_chain(80, lambda n: ["i", "tuple", [[n], [n]]], ["i", "tuple", [1]])(k + 1),
        ],
    ),
    "a set that doubles": (
        "the same in a set",
        "parts",
        lambda k: [
            ["i", "set", [[k + 1]]],
            *_chain(80, lambda n: ["i", "tuple", [[n], [n]]], ["i", "tuple", [1]])(k + 1),
        ],
    ),
    "one long key of many dicts": (
        "a key is looked at once, however many dicts have it",
        "",
        lambda k: [
            ["i", "list", [[k + 1 + n] for n in range(MANY)]],
            *(["m", "dict", [[[k + 1 + MANY], 0]]] for _ in range(MANY)),
            ["i", "tuple", [0] * 9_990],
        ],
    ),
    "one key again and again": (
        "a dict is not filled with one key thousands of times",
        "",
        lambda k: [["m", "dict", [[[k + 1], 0]] * MANY], ["i", "tuple", [0] * 9_990]],
    ),
    "keys that are alike": (
        "filling a dict with them takes the square of their number",
        "hash",
        lambda k: [["m", "dict", [[[k + 1 + n], 0] for n in range(MANY)]], *_alike(MANY, k + 1)],
    ),
    "elements that are alike": (
        "the same in a set",
        "hash",
        lambda k: [["i", "set", [[k + 1 + n] for n in range(MANY)]], *_alike(MANY, k + 1)],
    ),
    "a long text again and again": (
        "references of four bytes that stand for a copy of it each",
        "refer to",
        lambda k: [["i", "list", [[k + 1]] * MANY], ["v", "str", "41" * MANY]],
    ),
    "a long number again and again": (
        "the same with whole numbers",
        "refer to",
        lambda k: [["i", "list", [[k + 1]] * MANY], ["v", "int", "0x" + "1" * MANY]],
    ),
    "long bytes again and again": (
        "the same with bytes",
        "refer to",
        lambda k: [["i", "list", [[k + 1]] * MANY], ["v", "bytes", "41" * MANY]],
    ),
    "long bytes as a key again and again": (
        "each path would tell them",
        "refer to",
        lambda k: [["m", "dict", [[[k + 1], 0]] * MANY], ["v", "bytes", "41" * MANY]],
    ),
    "a shape of thousands again and again": (
        "a value that is a list",
        "refer to",
        lambda k: [["m", "dict", [[[k + 1], 0]] * MANY], ["v", "torch.Size", [1] * MANY]],
    ),
    "a fraction of very long numbers": (
        "to reduce one takes the square of its length",
        "fraction",
        lambda k: [["v", "fraction", ["0x" + "7" * 300_000, "0x1" + "3" * 300_000]]],
    ),
    "a decimal of many zeros": (
        "its hash is a power",
        "",
        lambda k: [["i", "set", [[k + 1]]], ["v", "decimal", "1e999999"]],
    ),
    "a number of a hundred thousand digits": (
        "Python refuses to write one as a decimal",
        "",
        lambda k: [["i", "list", [[k + 1]]], ["v", "int", "0x" + "f" * 100_000]],
    ),
    "lists of nothing that fill the memory": (
        "a few bytes that stand for very many elements",
        "memory",
        lambda k: [["i", "list", [[k + 1]] * 1_000], ["r", None, 1 << 28]],
    ),
    "lists of dicts that fill the memory": (
        "the same with dicts",
        "memory",
        lambda k: [["i", "list", [[k + 1]] * 1_000], ["r", [k + 2], 1 << 28], DICT],
    ),
    "a deque that fills the memory": (
        "the same in a deque",
        "memory",
        lambda k: [["i", "deque", [[k + 1]] * 1_000], ["r", None, 1 << 28]],
    ),
    "more repetitions than there may be": (
        "a count beyond all",
        "repetitions",
        lambda k: [["i", "list", [[k + 1]]], ["r", None, 1 << 60]],
    ),
    "a range beyond all": (
        "a range is never gone through",
        "",
        lambda k: [["v", "range", ["0x0", "0x" + "f" * 100, "0x1"]]],
    ),
    "a dtype in itself": (
        "a notation that recurses",
        "",
        lambda k: [["v", "numpy.dtype", [["a", [["a", [["a", "<f4"]]]]]]]],
    ),
    "a value that is nested": (
        "a value is not written out without end",
        "",
        lambda k: [["v", "torch.Size", [[[[1]]]]]],
    ),
    "a tuple in itself": ("it could never be made", "contains itself", lambda k: [["i", "tuple", [[k]]]]),
    "a list in itself": ("worlds may hold themselves", "", lambda k: [["i", "list", [[k]]]]),
    "an object array of another shape": (
        "a shape that says more than there is",
        "shape of",
        lambda k: [["i", "ndarray", [1], [k + 1]], ["v", "shape", [1 << 40]]],
    ),
    "a deque with more than it may hold": ("its maxlen", "deque", lambda k: [["i", "deque", [1, 2, 3], 1]]),
    "references beyond the table": ("an index", "reference below", lambda k: [["i", "list", [[1 << 40]]]]),
    "a reference below zero": ("an index", "reference below", lambda k: [["i", "list", [[-1]]]]),
    "a name of a million letters": (
        "a message tells a part of it",
        "created while running",
        lambda k: [["o", "x:" + "y" * 1_000_000, {}]],
    ),
}
for name, (reason, refused, make) in TREES.items():

    @attack(name, reason, refused=refused)
    def _(forged: Forged, make: Callable[[int], list[Any]] = make) -> None:
        _put(forged, make)


@attack(
    "what lacks a piece, in the wrong order", "each place is looked at once", refused="created while running"
)
def _(forged: Forged) -> None:
    first = len(forged.nodes)
    chain = [["i", "list", [[first + n]]] for n in range(1, MANY)]
    forged.thing["more"] = forged.add(
        ["i", "list", [[first + 1 + n] for n in range(MANY)]], ["o", "no:Such", {}], *chain
    )


@attack("classes that nobody has", "a class is looked for once", refused="created while running")
def _(forged: Forged) -> None:
    _put(
        forged,
        lambda k: [["i", "list", [[k + 1 + n] for n in range(MANY)]], *([["o", "no:Such", {}]] * MANY)],
    )


@attack("a state nested deeply", "its document is flat", refused="in each other")
def _(forged: Forged) -> None:
    _put(forged, lambda k: [["v", "torch.Size", nested(900)]])


@attack("a root that is no object", "the root", refused="an object at the root")
def _(forged: Forged) -> None:
    forged.body["state"]["root"] = forged.add(["i", "list", []])


@attack("nodes of no kind", "a kind that is none", refused="unknown kind")
def _(forged: Forged) -> None:
    forged.add(["z", 1])
