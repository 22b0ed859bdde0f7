"""Pickles as data: what one describes, read from its bytes without doing any of it.

A pickle is a program for a small stack machine. :func:`parse` follows it with symbols in the place of objects, and
returns the objects that it describes and the order in which they are made and filled. Nothing here looks up, imports or
runs what a file names, and nothing recurses.
"""

from __future__ import annotations

import contextlib
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from pickletools import genops
from typing import Any, Literal, NamedTuple, TypeAlias


class Name(NamedTuple):
    """A global as a pickle names it: a module and a dotted name in it."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


class MalformedError(Exception):
    """The pickle is not one that a pickler writes; the message completes "it ..."."""


class Budget:
    """How much memory a file may take, from what it has in bytes. It is asked before anything is made."""

    PER_BYTE = 64
    FLOOR = 1 << 20

    def __init__(self, length: int) -> None:
        self.left = self.FLOOR + self.PER_BYTE * length

    def charge(self, amount: int) -> None:
        """Take so many bytes of memory from what is left.

        :raises MalformedError: if there is less.
        """
        self.left -= amount
        if self.left < 0:
            raise MalformedError("describes far more objects than a file of its size holds")


Kind: TypeAlias = Literal[
    "list", "dict", "set", "tuple", "frozenset", "bytearray", "global", "call", "object", "storage"
]
Constant: TypeAlias = bool | int | float | str | bytes | None


class _Unmade:
    def __repr__(self) -> str:
        return "nothing yet"


UNMADE: Any = _Unmade()


class Node:
    """An object that the pickle describes.

    :param kind: what it is; an "object" is made by a class without its constructor, a "call" is what a function gives.
    :param what: the class, the function, or the global itself; None where the pickle computes what it calls.
    :param parts: what it is made of: a tuple's items, a call's arguments.
    :param fills: what is put into it afterwards, in order.
    """

    __slots__ = ("fills", "kind", "parts", "used", "value", "what")

    def __init__(self, kind: Kind, what: Name | None = None, parts: tuple[Operand, ...] = ()) -> None:
        self.kind: Kind = kind
        self.what = what
        self.parts = parts
        self.fills: list[Fill] | None = None
        self.used = False
        self.value: Any = UNMADE


Operand: TypeAlias = Node | Constant


class Fill:
    """What is put into an object: items, pairs (keys and values in turn), or the state that BUILD gives to it."""

    __slots__ = ("content", "how", "node")

    def __init__(
        self, node: Node, how: Literal["items", "pairs", "state"], content: tuple[Operand, ...]
    ) -> None:
        self.node = node
        self.how = how
        self.content = content


class Program(NamedTuple):
    """A whole pickle: the object it describes, and every step in order."""

    root: Operand
    steps: list[Node | Fill]


NODE_COST = 150
FILL_COST = 120
_MEMO_COST = 100
_POINTER = 16
_LONGEST_NAME = 1_000


# `genops` decodes what old pickles hold with a codec that Python imports when it is first used.
"".encode("raw_unicode_escape")


def parse(data: bytes, budget: Budget) -> Program:
    """What a pickle describes.

    :raises MalformedError: if it is not whole, has opcodes that torch.save does not write, or describes more than
        `budget` allows.
    """
    return _Reader(budget).read(data)


def names_in(data: bytes) -> set[Name]:
    """The globals that one of our own pickles names, up to the first thing in it that we do not read."""
    reader = _Reader(Budget(1 << 50))
    with contextlib.suppress(MalformedError):
        reader.read(data)
    return {*reader.globals, *reader.methods}


class _Reader:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Operand] = {}
        self.steps: list[Node | Fill] = []
        self.globals: dict[Name, Node] = {}
        self.methods: set[Name] = set()

    def read(self, data: bytes) -> Program:
        try:
            end = -1
            for opcode, argument, position in genops(data):
                if opcode.name == "STOP":
                    end = position or 0
                    break
                handler = _HANDLERS.get(opcode.name)
                if handler is None:
                    raise MalformedError(f"has the opcode {opcode.name}, which torch.save does not write")
                handler(self, argument)
            if end + 1 != len(data):
                raise MalformedError("has something after its end")
            if len(self.stack) != 1 or self.marks:
                raise MalformedError(f"leaves {len(self.stack)} objects where one belongs")
            (root,) = self.stack
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
            # A stack that is empty, bytes that run out, an argument of another kind.
            raise MalformedError(f"is no whole pickle ({type(error).__name__}: {error!s:.200})") from error
        return Program(root, self.steps)

    def add(self, kind: Kind, what: Name | None = None, parts: tuple[Operand, ...] = ()) -> None:
        self.budget.charge(NODE_COST + _POINTER * len(parts))
        node = Node(kind, what, parts)
        self.steps.append(node)
        self.stack.append(node)

    def push(self, value: Constant) -> None:
        self.stack.append(value)

    def push_bytearray(self, content: bytes) -> None:
        self.budget.charge(NODE_COST + len(content))
        node = Node("bytearray", None, (bytes(content),))
        self.steps.append(node)
        self.stack.append(node)

    def above_mark(self) -> tuple[Operand, ...]:
        at = self.marks.pop()
        items = tuple(self.stack[at:])
        del self.stack[at:]
        return items

    def pop(self, count: int) -> tuple[Operand, ...]:
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise IndexError("the stack is empty")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def put(self, index: int | None) -> None:
        self.budget.charge(_MEMO_COST)
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def global_(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        # Protocol 2 writes the names of Python 2.
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        self.refer(Name(IMPORT_MAPPING.get(module, module), name))

    def stack_global(self, _: object) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise MalformedError("names a global by something else than two strings")
        self.refer(Name(module, name))

    def refer(self, name: Name) -> None:
        """Push the global of this name: one node for each, so that it is looked up once."""
        node = self.globals.get(name)
        if node is None:
            self.budget.charge(NODE_COST)
            if len(name.dotted) > _LONGEST_NAME or not all(
                part.isidentifier() or part == "<locals>" or part == "<lambda>"
                for part in name.dotted.split(".")
            ):
                raise MalformedError(f"names a global {name.dotted!r:.80}, which is no name of Python's")
            node = self.globals[name] = Node("global", name)
            self.steps.append(node)
        self.stack.append(node)

    def fill(self, how: Literal["items", "pairs", "state"], content: tuple[Operand, ...]) -> None:
        node = self.stack[-1]
        if not isinstance(node, Node) or node.kind in _FIXED:
            raise MalformedError("changes something that it did not make")
        if how == "pairs" and len(content) % 2:
            raise MalformedError("has a key without a value")
        self.budget.charge(FILL_COST + 2 * _POINTER * len(content))
        step = Fill(node, how, content)
        if node.fills is None:
            node.fills = []
        node.fills.append(step)
        self.steps.append(step)

    def build(self, _: object) -> None:
        state = self.pop(1)
        node = self.stack[-1]
        if any(step.how == "state" for step in getattr(node, "fills", None) or ()):
            raise MalformedError("sets the state of an object twice")
        self.fill("state", state)

    def reduce(self, _: object) -> None:
        function, arguments = self.pop(2)
        parts = _items_of(arguments)
        name = function.what if isinstance(function, Node) and function.kind == "global" else None
        if name == _GETATTR and len(parts) == 2:
            owner, attribute = parts
            if isinstance(owner, Node) and owner.kind == "global" and isinstance(attribute, str):
                assert owner.what is not None
                # So protocol 2 writes what has a dotted name: nested classes, members of enumerations.
                self.refer(Name(owner.what.module, f"{owner.what.name}.{attribute}"))
                return
        if name is None and not parts and (made := _partial_of_new(function)) is not None:
            self.add("call", NEW_WITH_NAMES, (made[0], self.tuple_of(made[1]), made[2]))
            return
        self.note_method(name, parts)
        self.add("call", name, parts)

    def tuple_of(self, parts: tuple[Operand, ...]) -> Node:
        self.add("tuple", None, parts)
        made: Node = self.stack.pop()
        return made

    def new_with_names(self, _: object) -> None:
        cls, arguments, named = self.pop(3)
        self.add("call", NEW_WITH_NAMES, (cls, arguments, named))

    def note_method(self, name: Name | None, parts: tuple[Operand, ...]) -> None:
        method = method_name(name, parts)
        if method is not None:
            self.methods.add(method)

    def new_object(self, _: object) -> None:
        cls, arguments = self.pop(2)
        if not isinstance(cls, Node) or cls.kind != "global":
            raise MalformedError("makes an object of a class that it computes")
        self.add("object", cls.what, _items_of(arguments))

    def storage(self, _: object) -> None:
        (which,) = self.pop(1)
        parts = _items_of(which)
        if len(parts) == 4 and parts[0] == "module":
            # So torch wrote classes of modules before version 1.6: with their source, which nobody needs.
            self.stack.append(parts[1])
        else:
            self.add("storage", None, parts)

    def stacked(self, kind: Kind) -> None:
        self.add(kind, None, self.above_mark())


_FIXED = ("global", "tuple", "frozenset", "bytearray", "storage")
#: There is only one empty tuple, here as in Python.
_EMPTY = Node("tuple")
_EMPTY.value = ()
_GETATTR = Name("builtins", "getattr")


def method_name(name: Name | None, parts: tuple[Operand, ...]) -> Name | None:
    """The method that a call of getattr takes of an object, as the class that was made names it."""
    if name != _GETATTR or len(parts) != 2:
        return None
    owner, attribute = parts
    if not isinstance(owner, Node) or not isinstance(attribute, str):
        return None
    cls = owner.what
    if owner.kind != "object":
        cls = _MADE_BY.get(owner.kind if owner.what is None else owner.what.dotted)
    return None if cls is None else Name(cls.module, f"{cls.name}.{attribute}")


#: Classes of objects that have methods in C, by how pickles write them.
_MADE_BY = {
    **{kind: Name("builtins", kind) for kind in ("list", "dict", "set")},
    **{
        f"collections.{name}": Name("collections", name)
        for name in ("OrderedDict", "defaultdict", "deque", "Counter")
    },
    "builtins.set": Name("builtins", "set"),
    "random.Random": Name("random", "Random"),
    "numpy.random._pickle.__randomstate_ctor": Name("numpy.random.mtrand", "RandomState"),
    "numpy.random._pickle.__generator_ctor": Name("numpy.random._generator", "Generator"),
    "torch._utils._rebuild_tensor_v2": Name("torch", "Tensor"),
}
NEW_WITH_NAMES = Name("copyreg", "__newobj_ex__")


def _partial_of_new(function: Operand) -> tuple[Operand, tuple[Operand, ...], Operand] | None:
    """The class, the arguments and the named arguments of `__new__`, as protocol 2 writes a call with names."""
    if not isinstance(function, Node) or function.what is None or function.what.dotted != "functools.partial":
        return None
    states = [step.content[0] for step in function.fills or () if step.how == "state"]
    parts = states[0].parts if len(states) == 1 and isinstance(states[0], Node) else ()
    if len(parts) != 4 or not isinstance(parts[0], Node) or not isinstance(parts[1], Node):
        return None
    new, arguments = parts[0].what, parts[1].parts
    if new is None or not new.name.endswith(".__new__") or not arguments:
        return None
    return arguments[0], arguments[1:], parts[2]


def _items_of(operand: Operand) -> tuple[Operand, ...]:
    if not isinstance(operand, Node) or operand.kind != "tuple":
        raise MalformedError("calls something with arguments that are no tuple")
    return operand.parts


def operands(step: Node | Fill) -> Iterator[Node]:
    """The objects that a step needs."""
    content = step.parts if isinstance(step, Node) else step.content
    return (each for each in content if isinstance(each, Node))


_HANDLERS: dict[str, Callable[[_Reader, Any], object]] = {
    "PROTO": lambda reader, version: None,
    "FRAME": lambda reader, length: None,
    "MARK": _Reader.mark,
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        _Reader.push,
    ),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES"), _Reader.push),
    "BYTEARRAY8": lambda reader, content: reader.push_bytearray(content),
    "EMPTY_LIST": lambda reader, _: reader.add("list"),
    "EMPTY_DICT": lambda reader, _: reader.add("dict"),
    "EMPTY_SET": lambda reader, _: reader.add("set"),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append(_EMPTY),
    "TUPLE1": lambda reader, _: reader.add("tuple", None, reader.pop(1)),
    "TUPLE2": lambda reader, _: reader.add("tuple", None, reader.pop(2)),
    "TUPLE3": lambda reader, _: reader.add("tuple", None, reader.pop(3)),
    "TUPLE": lambda reader, _: reader.stacked("tuple"),
    "POP": lambda reader, _: reader.pop(1),
    "POP_MARK": lambda reader, _: reader.above_mark(),
    "FROZENSET": lambda reader, _: reader.stacked("frozenset"),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), _Reader.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Reader.get),
    "GLOBAL": _Reader.global_,
    "STACK_GLOBAL": _Reader.stack_global,
    "APPEND": lambda reader, _: reader.fill("items", reader.pop(1)),
    "APPENDS": lambda reader, _: reader.fill("items", reader.above_mark()),
    "ADDITEMS": lambda reader, _: reader.fill("items", reader.above_mark()),
    "SETITEM": lambda reader, _: reader.fill("pairs", reader.pop(2)),
    "SETITEMS": lambda reader, _: reader.fill("pairs", reader.above_mark()),
    "BUILD": _Reader.build,
    "REDUCE": _Reader.reduce,
    "NEWOBJ": _Reader.new_object,
    "NEWOBJ_EX": _Reader.new_with_names,
    "BINPERSID": _Reader.storage,
}
