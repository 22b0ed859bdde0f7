"""Pickles as data: what one would do, read from its bytes without doing it.

torch's restricted unpickler calls whatever function was allowed, with whatever arguments a file gives. That
is more than a policy needs: most functions in it are only *named* (an activation, a distribution) and most
classes are only *made*, without their `__init__`. So a file is read symbolically first: :func:`uses` says
which names it names, makes and calls. Nothing here imports, looks up or runs anything that a file names.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Set
from enum import Enum
from typing import Any, NamedTuple

import numpy as np


class Name(NamedTuple):
    """A global as a pickle names it: a module and a dotted name in it."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


class How(Enum):
    """What a pickle does with a name, from the least to the most."""

    NAMED = "named"
    ATTRIBUTE = "taken as an attribute"  # a nested class, an enum member, a bound method
    MADE = "made"  # cls.__new__ without __init__, then its state is set
    CALLED = "called"


class Use(NamedTuple):
    """One thing that a pickle does."""

    what: Name
    how: How


class UnreadableError(Exception):
    """The pickle does something that torch's unpickler does not do; `found` is what it did before."""

    def __init__(self, message: str, found: Set[Use] = frozenset()) -> None:
        super().__init__(message)
        self.found = found


class ForgedError(UnreadableError):
    """The pickle does something that no pickler writes."""


class _Thing(NamedTuple):
    """Stands for an object that unpickling would make; `origin` is its class or the function that made it."""

    origin: Name


_DICT, _LIST, _SET, _STORAGE = (_Thing(Name("builtins", n)) for n in ("dict", "list", "set", "storage"))
_DICTS = (_DICT.origin, Name("collections", "OrderedDict"), Name("collections", "Counter"))
#: What opcodes without an argument push.
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "EMPTY_LIST": _LIST,
    "EMPTY_DICT": _DICT,
    "EMPTY_SET": _SET,
}
#: Opcodes that push their argument.
_PUSHED = frozenset(["BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "LONG1"])
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def uses(data: bytes, *, fills_anything: bool = False) -> set[Use]:
    """What unpickling `data` would do. Reads the same opcodes as torch's restricted unpickler, and no others.

    :param fills_anything: accept what fills subclasses of lists and dictionaries, which torch does not do.
    :raises UnreadableError: if torch's unpickler could not read it.
    :raises ForgedError: if it is no whole pickle, or does what would be a way round these checks.
    """
    reader = _Reader(data, fills_anything)
    try:
        return reader.run()
    except UnreadableError as error:
        raise type(error)(str(error), reader.found) from error
    except Exception as error:  # a stack that runs empty, bytes that run out, arguments that make no sense
        reason = f"it is not a whole pickle ({type(error).__name__}: {error})"
        raise ForgedError(reason, reader.found) from error


class _Reader:
    def __init__(self, data: bytes, fills_anything: bool) -> None:
        self.fills_anything = fills_anything
        self.data = data
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.found: set[Use] = set()

    def run(self) -> set[Use]:
        for opcode, argument, position in pickletools.genops(self.data):
            self.step(opcode.name, argument, position or 0)
        return self.found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def step(self, name: str, argument: Any, position: int) -> None:
        match name:
            case _ if name in _CONSTANTS:
                self.push(_CONSTANTS[name])
            case _ if name in _PUSHED:
                self.push(argument)
            case "SHORT_BINSTRING":
                self.push(argument.encode("latin-1"))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.push(self.memo[argument])
            case _ if name in _TUPLES:
                count = _TUPLES[name]
                self.stack[-count:] = [tuple(self.stack[-count:])]
            case "TUPLE":
                items = tuple(self.pop_mark())
                self.push(items)
            case "MARK":
                self.marks.append(self.stack)
                self.stack = []
            case "GLOBAL":
                self.name_global(position + 1)
            case "PROTO" | "STOP":
                pass
            case "BINPERSID":
                self.stack[-1] = _STORAGE
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                self.fill(name)
            case "BUILD":
                state = self.stack.pop()
                self.check_state(self.stack[-1], state)
            case "REDUCE" | "NEWOBJ":
                args, func = self.stack.pop(), self.stack.pop()
                if (
                    not isinstance(func, Name)
                    or not isinstance(args, tuple)
                    or isinstance(args, Name | _Thing)
                ):
                    raise ForgedError("it calls something that it computes")
                self.push(self.call(func, args) if name == "REDUCE" else self.make(func))
            case _:
                opcode = self.data[position : position + 1]
                raise UnreadableError(f"it uses the pickle opcode {opcode!r}, which torch does not read")

    def name_global(self, start: int) -> None:
        # Read from the bytes, as torch reads it: `genops` understands escapes in names.
        middle = self.data.index(b"\n", start)
        end = self.data.index(b"\n", middle + 1)
        module, name = self.data[start:middle].decode(), self.data[middle + 1 : end].decode()
        # Protocol 2 writes the names of Python 2.
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        self.push(self.note(Name(module, name), How.NAMED))

    def note(self, what: Name, how: How) -> Name:
        self.found.add(Use(what, how))
        return what

    def fill(self, name: str) -> None:
        is_list = name in ("APPEND", "APPENDS")
        if name in ("APPENDS", "SETITEMS"):
            self.pop_mark()
        else:
            del self.stack[-1 if is_list else -2 :]
        target = self.stack[-1]
        if self.fills_anything:
            return
        fillable = (_LIST.origin,) if is_list else _DICTS
        if not isinstance(target, _Thing) or target.origin not in fillable:
            kind = target.origin.dotted if isinstance(target, _Thing) else type(target).__name__
            what = "list" if is_list else "dictionary"
            raise UnreadableError(f"it fills an object of {kind} like a {what}, which torch does not do")

    def make(self, cls: Name) -> _Thing:
        if cls.dotted == "numpy.dtype":
            raise ForgedError("it makes a NumPy dtype in a way that no pickler writes")
        return _Thing(self.note(cls, How.MADE))

    def call(self, func: Name, args: tuple[Any, ...]) -> Name | _Thing:
        if func.dotted == "builtins.getattr":  # so protocol 2 writes nested classes and bound methods
            return self.attribute(args)
        self.note(func, How.CALLED)
        if func.dotted == "builtins.type" and args not in ((None,), (...,), (NotImplemented,)):
            raise ForgedError("it makes a class")
        if func.dotted == "torch._tensor._rebuild_from_type_v2":  # calls its first argument
            if not isinstance(args[0], Name) or not args[0].dotted.startswith("torch._utils._rebuild"):
                raise ForgedError("it rebuilds a tensor with something else than a function for that")
            self.note(args[1], How.CALLED)
        if func.dotted.startswith("numpy.random._pickle."):  # may call its arguments
            for arg in args:
                if isinstance(arg, Name):
                    self.note(arg, How.CALLED)
        if func.dotted == "numpy.dtype":
            if type(args[0]) is not str or args[1:] != (False, True):
                raise ForgedError("it refers to a NumPy dtype that is not a copy of its own")
            return _Thing(Name("numpy.dtype", args[0]))
        return _Thing(func)

    def attribute(self, args: tuple[Any, ...]) -> Name | _Thing:
        owner, name = args
        if type(name) is not str or not isinstance(owner, Name | _Thing):
            raise ForgedError("it takes an attribute in a way that no pickler writes")
        origin = owner if isinstance(owner, Name) else owner.origin
        return self.note(Name(origin.module, f"{origin.name}.{name}"), How.ATTRIBUTE)

    def check_state(self, target: Any, state: Any) -> None:
        if not isinstance(target, _Thing):
            raise ForgedError("it sets the state of something that it did not make")
        if target.origin.module == "numpy.dtype":
            # A dtype whose flags lie about holding objects makes NumPy read raw bytes as pointers.
            dtype = np.dtype(target.origin.name)
            expected = dtype.__reduce__()[2]
            if state[2:] != tuple(expected)[2:] or state[1] not in ("<", ">", "=", "|"):
                raise ForgedError(f"it has a NumPy dtype {target.origin.name!r} that is not a plain one")
