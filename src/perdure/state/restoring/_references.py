"""Which function, class or module a recorded reference is restored to, and where it may be put.

A checkpoint must not make a script call what the script did not choose. So a reference is put only where the script
has a function or a class already (or where an object is made anew), and only

- what the live world holds itself, anywhere, or what was allowed with `perdure.allow`,
- a definition of the script's own modules: `__main__`, and those of its classes that are not installed packages,
- a definition of the module of the one that the script has there, unless that module may touch files or processes.

Names are looked up in dictionaries of modules and classes; nothing is imported and no attribute hook runs.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Any, TypeGuard

from perdure.state import _references
from perdure.state._class_names import module_of
from perdure.state._compounds import CODE, of_class, of_name
from perdure.state._references import (
    DESCRIPTORS,
    DISPATCHER,
    KINDS,
    MISSING,
    kind_of,
    look_up,
    reference,
    same,
    shown,
)
from perdure.state._user_code import is_installed_file
from perdure.state.restoring._definitions import Definition, find_definition
from perdure.state.restoring._plan import ABSENT, Matches
from perdure.tree import Custom, Node, Object, Value

_MAIN = ("__main__", "__mp_main__")
#: What a module of Python's own may be replaced by within it: these calculate, and touch nothing.
_HARMLESS = frozenset(
    {"math", "cmath", "_operator", "operator", "random", "_random", "statistics", "_statistics"}
)
_BUILTINS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "bytearray",
        "bytes",
        "complex",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "hash",
        "int",
        "len",
        "list",
        "map",
        "max",
        "min",
        "object",
        "pow",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "slice",
        "sorted",
        "str",
        "sum",
        "tuple",
        "zip",
    ]
)
#: Modules of packages that read or write files, or unpickle.
_FORBIDDEN = (
    "torch.serialization",
    "torch.hub",
    "torch.package",
    "numpy.lib._npyio_impl",
    "numpy.lib._format_impl",
)
_FORBIDDEN_NAMES = frozenset({"from_file", "fromfile", "import_ir_module", "import_ir_module_from_buffer"})


def is_reference(node: Any) -> TypeGuard[Value]:
    """Whether a node is a function, a class or a module by name."""
    return isinstance(node, Value) and node.kind in KINDS


def is_callable_node(node: Any) -> bool:
    """Whether the object of a node is called like a function: a closure, a method, a partial."""
    cls = of_name(node.type) if isinstance(node, Object) else None
    compound = None if cls is None else of_class(cls)
    return compound is not None and compound.callable


def is_factory(node: Any) -> bool:
    """Whether a node may be the factory of a defaultdict."""
    return is_reference(node) or isinstance(node, Object | Custom)


class References:
    """The references of one saved state.

    :param matches: what is known of the live side.
    """

    def __init__(self, matches: Matches) -> None:
        self._matches = matches
        self._world = matches.world

    # -- what a reference means --------------------------------------------------------------------------------------

    def settle(self, saved: Value, live: Any, holder: Node) -> tuple[Any, str]:
        """The object that is put at a place, and why none may be; the reason is "" if one may.

        :param live: what the script has at this place, or ABSENT.
        :param holder: the node that holds the place.
        """
        if not _references.is_well_formed(saved):
            return ABSENT, f"the checkpoint has a malformed {saved.kind}"
        own = None if live is ABSENT else self._world.reference(live)
        if own is not None and same(saved, own):
            return live, ""
        if (found := _references.allowed(saved)) is not MISSING:
            return found, ""
        if saved.kind == "class" and (found := self._exception(saved, live)) is not MISSING:
            return found, ""
        if (reason := self.misplaced(shown(saved), saved.kind, live, holder)) and self._held(
            saved
        ) is not MISSING:
            reason = reason if live is not ABSENT and live is not None else ""
        if reason:
            return ABSENT, reason
        return self._resolve(saved, live)

    def _exception(self, saved: Value, live: Any) -> Any:
        """The exception that a class is, if it is Python's or the script's own; else MISSING.

        Runs count errors by their class, or keep the last one. Such a class does nothing where nothing else was.
        """
        own = None if live is ABSENT or live is None else self._world.reference(live)
        if live is not ABSENT and live is not None and (own is None or own.kind != "class"):
            return MISSING
        for name in self._candidates(saved):
            found = look_up(name)
            if (
                isinstance(found, type)
                and issubclass(found, BaseException)
                and same_definition(saved, name, found)
            ):
                return found if self._is_own(name) or name.startswith("builtins:") else MISSING
        return MISSING

    def _resolve(self, saved: Value, live: Any) -> tuple[Any, str]:
        if (held := self._held(saved)) is not MISSING:
            return held, ""
        for name in self._candidates(saved):
            found = look_up(name)
            if found is MISSING or not same_definition(saved, name, found):
                continue
            if self._is_own(name) or (live is not ABSENT and _beside(found, self._world.reference(live))):
                return found, ""
            last = shown(saved).rpartition(".")[2]
            return ABSENT, (
                f"the checkpoint has the {saved.kind} {shown(saved)} here, which is in none of the script's own "
                f"modules. Allow it before resuming: perdure.allow({last})"
            )
        definition = self._definition(saved, live) if saved.kind == "function" else None
        if definition is not None and not definition.code.co_freevars:
            return _made(definition, saved), ""
        return ABSENT, _why_not_found(saved)

    def _candidates(self, saved: Value) -> Iterable[str]:
        yield from _references.candidates(saved)
        module, _, qualname = str(saved.data[0]).partition(":")
        if module in _MAIN and qualname:
            yield from (f"{own}:{qualname}" for own in self._modules)

    def _held(self, saved: Value) -> Any:
        """The same definition, if the live world has it anywhere."""
        return next((live for node, live in self._world.held_references if same(saved, node)), MISSING)

    @cached_property
    def _modules(self) -> frozenset[str]:
        """The script's own modules."""
        classes = self._world.classes.values()
        return frozenset({*_MAIN, *(name for name in map(module_of, classes) if not is_installed(name))})

    def _is_own(self, name: str) -> bool:
        return name.partition(":")[0] in self._modules

    # -- where it may be put -----------------------------------------------------------------------------------------

    def misplaced(self, what: str, kind: str, live: Any, holder: Node) -> str:
        """Why something that is called may not be put at a place, or ""."""
        if live is not ABSENT and live is not None:
            own = self._world.reference(live)
            is_module = own is not None and own.kind == "module"
            if is_module if kind == "module" else self._world.is_callable(live):
                return ""
            place = self._world.describe("", live)
        else:
            over = self._matches.live(holder)
            if over is ABSENT and holder is not self._matches.root:
                return ""
            if kind != "module" and over is not ABSENT and self._world.holds_functions(over):
                return ""
            place = "nothing"
        last = what.rpartition(".")[2]
        return (
            f"the checkpoint has the {kind} {what} here, the script has {place}. A {kind} is only put where the "
            f"script has one. Let the script put one there, or allow it before resuming: perdure.allow({last})"
        )

    def misplaced_node(self, node: Object, live: Any, holder: Node) -> str:
        """Why the object of a node that is called may not be put at a place, or ""."""
        definition = next(
            (node.fields[name] for name in (CODE, "__func__", "func") if name in node.fields), None
        )
        if is_reference(definition) and _references.is_well_formed(definition):
            if _references.allowed(definition) is not MISSING:
                return ""
            if (live is ABSENT or live is None) and self._held(definition) is not MISSING:
                return ""
            return self.misplaced(shown(definition), "function", live, holder)
        return self.misplaced(node.type.rpartition(":")[2], "function", live, holder)

    # -- functions that are made again ---------------------------------------------------------------------------------

    def named(self, node: Object) -> Any:
        """The function of the live side that a closure is by its name, or ABSENT."""
        code = node.fields.get(CODE)
        if not is_reference(code) or not _references.is_well_formed(code):
            return ABSENT
        if (found := _references.allowed(code)) is not MISSING:
            return found
        for name in self._candidates(code):
            found = look_up(name)
            if found is not MISSING and same_definition(code, name, found) and self._is_own(name):
                return found
        return ABSENT

    def why_not_made(self, node: Object) -> str | None:
        """Why no function can be made for a closure, or None if one can."""
        code = node.fields.get(CODE)
        if not is_reference(code) or not _references.is_well_formed(code):
            return "the checkpoint has a malformed function"
        found = self._definition(code, self._matches.found(node))
        if found is None:
            return _why_not_found(code)
        lacking = [name for name in found.code.co_freevars if name not in node.fields]
        if lacking:
            return (
                f"the checkpoint has the function {shown(code)} here, which was made while the training ran and uses "
                f"the variable {lacking[0]!r:.60} of the function around it, which is no part of the world. Keep it in "
                "an attribute of an object of the world, or build the function before resuming"
            )
        return None

    def make(self, node: Object) -> types.FunctionType:
        """A function of the script's own code, whose variables are not set yet."""
        code: Any = node.fields[CODE]
        found = self._definition(code, self._matches.found(node))
        assert found is not None
        variables = tuple(types.CellType() for _ in found.code.co_freevars)
        return _made(found, code, variables)

    def _definition(self, saved: Value, live: Any) -> Definition | None:
        """The code of a function that was made while the training ran, in what the script defines."""
        if len(saved.data) < 2:
            return None
        for name in self._candidates(saved):
            if self._is_own(name) or (live is not ABSENT and self._shares_module(name, live)):
                found = find_definition(name, saved.data[1])
                if found is not None:
                    return found
        return None

    def _shares_module(self, name: str, live: Any) -> bool:
        """Whether a definition inside a function is of the module of what the script has there."""
        module = name.partition(":")[0]
        own = self._world.reference(live)
        there = module_of(self._world.class_of(live)) if own is None else own.data[0].partition(":")[0]
        forbidden = module.startswith(_FORBIDDEN) or module.partition(".")[0] in sys.stdlib_module_names
        return bool(module == there and not forbidden)


def same_definition(saved: Value, name: str, found: Any) -> bool:
    """Whether what a name means now is the definition that was recorded under it, and is defined there."""
    if kind_of(found) != saved.kind:
        return False
    live = reference(found)
    # A module may have imported it from elsewhere; and under the name of a variable, another lambda may be found.
    return isinstance(live, Value) and (live.data == [name] if len(saved.data) == 1 else same(saved, live))


def _why_not_found(saved: Value) -> str:
    text = f"the checkpoint has the {saved.kind} {shown(saved)} here, "
    if len(saved.data) > 1:
        return (
            f"{text}which a new process does not have: it was defined while the training ran, or its code was changed. "
            "Define it at the top level of the script (with `def` or `class`), or build it before resuming"
        )
    return f"{text}which the script does not define"


def _made(found: Definition, saved: Value, variables: tuple[types.CellType, ...] = ()) -> types.FunctionType:
    if found.function is not None and found.function.__defaults__ is None:
        own: types.FunctionType = found.function
        return own
    qualname = str(saved.data[0]).partition(":")[2]
    made = types.FunctionType(found.code, found.names, found.code.co_name, None, variables or None)
    made.__qualname__ = qualname
    return made


# -- whose definitions they are --------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def is_installed(name: str) -> bool:
    """Whether a module belongs to Python or to an installed package, and not to the script."""
    package = name.partition(".")[0]
    if package in _MAIN:
        return False
    if package in sys.stdlib_module_names or package in sys.builtin_module_names or package == "perdure":
        return True
    names = [sys.modules.get(name), sys.modules.get(package)]
    files = [getattr(module, "__file__", None) for module in names]
    return any(isinstance(file, str) and is_installed_file(file) for file in files)


def _group(value: Any) -> tuple[str, ...]:
    """Which definitions may take the place of this one; an empty tuple: none but the script's own."""
    cls = type(value)
    if isinstance(value, type):
        module = module_of(value)
    elif cls is types.FunctionType:
        module = str(value.__globals__.get("__name__"))
    elif cls is DISPATCHER:
        inner = value._implementation
        return _group(inner) if type(inner) is types.FunctionType else ("numpy", "C")
    elif isinstance(value, DESCRIPTORS):
        return (module_of(value.__objclass__), value.__objclass__.__qualname__)
    elif kind_of(value) == "function":
        module = reference(value).data[0].partition(":")[0]  # type: ignore[union-attr]
    else:
        return ()
    name = getattr(value, "__name__", "")
    if module.startswith(_FORBIDDEN) or name in _FORBIDDEN_NAMES or name.startswith("_"):
        return ()
    if module == "builtins":
        is_error = isinstance(value, type) and issubclass(value, BaseException)
        return ("builtins", kind_of(value)) if name in _BUILTINS or is_error else ()
    if module.partition(".")[0] in sys.stdlib_module_names and module not in _HARMLESS:
        return ()
    plain = isinstance(value, type | types.FunctionType | types.MethodType | types.BuiltinFunctionType)
    return (module, kind_of(value), "" if plain else cls.__name__)


def _beside(found: Any, live: Value | None) -> bool:
    """Whether a definition is of the module of the one that the script has there, as it is recorded."""
    own = MISSING if live is None else look_up(live.data[0])
    return own is not MISSING and bool(_group(found)) and _group(found) == _group(own)
