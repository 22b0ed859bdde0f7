"""Pickles as data: what one would do, read from its bytes without doing it.

torch's restricted unpickler calls whatever function was allowed, with whatever arguments a file gives. That
is more than a policy needs: most functions in it are only *named* (an activation, a distribution) and most
classes are only *made*, without their `__init__`. So a file is read symbolically first: :func:`uses` says
which names it names, makes and calls. Nothing here imports, looks up or runs anything that a file names.
"""

from __future__ import annotations

import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Set
from enum import Enum
from pickle import decode_long
from struct import unpack
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
_NUMBERS: dict[int, tuple[int, Callable[[bytes], float]]] = {  # opcode: (bytes that follow, what they are)
    pickle.BININT[0]: (4, lambda b: unpack("<i", b)[0]),
    pickle.BININT1[0]: (1, lambda b: b[0]),
    pickle.BININT2[0]: (2, lambda b: unpack("<H", b)[0]),
    pickle.BINFLOAT[0]: (8, lambda b: unpack(">d", b)[0]),
}
_CONSTANTS = {
    pickle.NONE[0]: None,
    pickle.NEWTRUE[0]: True,
    pickle.NEWFALSE[0]: False,
    pickle.EMPTY_TUPLE[0]: (),
    pickle.EMPTY_LIST[0]: _LIST,
    pickle.EMPTY_DICT[0]: _DICT,
    pickle.EMPTY_SET[0]: _SET,
}
_TUPLES = {pickle.TUPLE1[0]: 1, pickle.TUPLE2[0]: 2, pickle.TUPLE3[0]: 3}


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
        self.file = io.BytesIO(data)
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.found: set[Use] = set()

    def run(self) -> set[Use]:
        while (op := self.take(1)[0]) != pickle.STOP[0]:
            self.step(op)
        return self.found

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("it ends too early")
        return data

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def step(self, op: int) -> None:
        if op in _CONSTANTS:
            self.push(_CONSTANTS[op])
        elif op in _NUMBERS:
            count, number = _NUMBERS[op]
            self.push(number(self.take(count)))
        elif op in (pickle.BINPUT[0], pickle.LONG_BINPUT[0]):
            self.memo[self.index(op == pickle.BINPUT[0])] = self.stack[-1]
        elif op in (pickle.BINGET[0], pickle.LONG_BINGET[0]):
            self.push(self.memo[self.index(op == pickle.BINGET[0])])
        elif op == pickle.BINUNICODE[0]:
            self.push(str(self.take(unpack("<I", self.take(4))[0]), "utf-8", "surrogatepass"))
        elif op == pickle.SHORT_BINSTRING[0]:
            self.push(self.take(self.take(1)[0]))
        elif op == pickle.LONG1[0]:
            self.push(decode_long(self.take(self.take(1)[0])))
        elif op in _TUPLES:
            count = _TUPLES[op]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif op == pickle.TUPLE[0]:
            items = tuple(self.pop_mark())
            self.push(items)
        elif op == pickle.MARK[0]:
            self.marks.append(self.stack)
            self.stack = []
        elif op == pickle.GLOBAL[0]:
            self.name_global()
        elif op == pickle.PROTO[0]:
            self.take(1)
        elif op == pickle.BINPERSID[0]:
            self.stack[-1] = _STORAGE
        else:
            self.fill_or_make(op)

    def index(self, short: bool) -> int:
        return self.take(1)[0] if short else int(unpack("<I", self.take(4))[0])

    def name_global(self) -> None:
        module, name = (self.file.readline()[:-1].decode() for _ in range(2))
        # Protocol 2 writes the names of Python 2.
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        else:
            module = IMPORT_MAPPING.get(module, module)
        self.push(self.note(Name(module, name), How.NAMED))

    def note(self, what: Name, how: How) -> Name:
        self.found.add(Use(what, how))
        return what

    def fill_or_make(self, op: int) -> None:
        if op in (pickle.APPEND[0], pickle.APPENDS[0], pickle.SETITEM[0], pickle.SETITEMS[0]):
            is_list = op in (pickle.APPEND[0], pickle.APPENDS[0])
            if op in (pickle.APPENDS[0], pickle.SETITEMS[0]):
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
        elif op == pickle.BUILD[0]:
            state = self.stack.pop()
            self.check_state(self.stack[-1], state)
        elif op in (pickle.REDUCE[0], pickle.NEWOBJ[0]):
            args, func = self.stack.pop(), self.stack.pop()
            if not isinstance(func, Name) or not isinstance(args, tuple) or isinstance(args, Name | _Thing):
                raise ForgedError("it calls something that it computes")
            self.push(self.call(func, args) if op == pickle.REDUCE[0] else self.make(func))
        else:
            raise UnreadableError(f"it uses the pickle opcode {bytes([op])!r}, which torch does not read")

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
