"""Which classes the script shows: the only ones of which a checkpoint may make objects.

A class is shown by an object of it; by an object, a class or a function that refers to it; by a module of the script's
own; and it is found beside classes that are shown so, in their modules and packages. Nothing is imported, and no
attribute hook runs: only dictionaries and closures of what the program has made are looked at. Knows no nodes and no
files.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from perdure.state._class_names import module_of, renamed_class, same_class
from perdure.state._protocol import OwnHandler
from perdure.state._registry import Handler, is_environment, known, made_by_name, makeable
from perdure.state._user_code import is_users_file

#: Their classes are made only if an object, a class, a function or a variable of the script shows them.
_GENERAL = frozenset({*sys.stdlib_module_names, "numpy", "perdure", "torch"})
_FUNCTIONS = types.FunctionType | types.MethodType | functools.partial  # type: ignore[type-arg]
_MOST_LOOKED_AT = 20_000


class Ambiguous(LookupError):
    """Two classes that the script shows have one recorded name."""


class ShownClasses:
    """The classes that a script shows.

    :param classes: those of the live objects, and those that the objects hold, by their recorded names.
    :param ambiguous: the names that two of these have.
    :param code: functions and classes that refer to others: what the live objects hold, and the variables of the
        script's functions that are running.
    """

    def __init__(
        self,
        classes: Mapping[str, type],
        ambiguous: Iterable[str] = (),
        code: Sequence[Any] = (),
    ) -> None:
        self._classes = classes
        self._ambiguous = frozenset(ambiguous)
        self._code = code
        self._found: dict[str, type | Ambiguous | None] = {}

    def find(self, name: str) -> type | None:
        """The shown class of a recorded name, or None.

        That a class is found does not mean that an object of it may be made.

        :raises Ambiguous: if there are several of that name.
        """
        if (own := made_by_name.get(name)) is not None:
            return own
        if name not in self._found:
            try:
                self._found[name] = self._find(name)
            except Ambiguous as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, Ambiguous):
            raise found
        return found

    def look(self) -> None:
        """Look now at what the script's modules and functions show, and not when a class is asked for."""
        _ = self._near, self._referred

    def is_ambiguous(self, name: str) -> bool:
        """Whether several classes that the script shows have a recorded name."""
        try:
            self.find(name)
        except Ambiguous:
            return True
        return False

    def _find(self, name: str) -> type | None:
        if name in self._ambiguous:
            raise Ambiguous(name)
        found = self._classes.get(name)
        if found is None:
            found = next((cls for cls in self._classes.values() if same_class(name, cls)), None)
        if found is not None:
            held = (cls for cls in self._code if isinstance(cls, type) and cls is not found)
            alike = [cls for cls in held if cls.__qualname__ == found.__qualname__ and same_class(name, cls)]
            if _without_earlier([found, *alike]) != [found]:
                raise Ambiguous(name)
            return found
        if (found := renamed_class(name)) is not None:
            return found
        candidates = {id(cls): cls for cls in self._candidates(name)}
        left = _without_earlier(list(candidates.values()))
        if len(left) > 1:
            raise Ambiguous(name)
        return left[0] if left else None

    def _candidates(self, name: str) -> Iterator[type]:
        yield from (
            cls for cls in makeable() if cls.__qualname__ == name.rpartition(":")[2] and same_class(name, cls)
        )
        yield from (cls for cls in self._referred.get(name.rpartition(":")[2], ()) if same_class(name, cls))
        module, _, qualname = name.partition(":")
        found: Any = sys.modules.get(module)
        for part in qualname.split("."):
            found = vars(found).get(part) if isinstance(found, type | types.ModuleType) else None
        if isinstance(found, type) and (self._is_near(module) or _is_registered(found)):
            yield found

    # -- near classes that are shown -------------------------------------------------------------------------

    @functools.cached_property
    def _own(self) -> list[type]:
        # Perdure's own modules are not near: no class of them is made only because it lies beside another.
        return [cls for cls in self._classes.values() if module_of(cls).partition(".")[0] != "perdure"]

    @functools.cached_property
    def _near(self) -> tuple[set[str], set[str]]:
        """The modules in which all classes are shown, and the packages in whose modules they are.

        The class of a transition, say, lies beside that of its buffer, which is empty when the script has built it.
        """
        modules = {"__main__", *map(module_of, self._own)}
        bases = {module_of(base) for cls in self._own for base in cls.__mro__}
        packages = {module.rpartition(".")[0] for module in bases if module.partition(".")[0] != "perdure"}
        environments = {module_of(cls).rpartition(".")[0] for cls in self._own if is_environment(cls)}
        # What the script imports as a module, it uses.
        imported = {value.__name__ for value in self._variables if isinstance(value, types.ModuleType)}
        imported = {name for name in imported if name.partition(".")[0] not in _GENERAL}
        if any(module.partition(".")[0] == "torch" for module in bases):
            packages |= {"torch.nn", "torch.optim"}
        packages = {
            package for package in packages if package.partition(".")[0] not in sys.stdlib_module_names
        }
        return modules | imported, (packages | environments | imported) - {"", "torch", "numpy"}

    def _is_near(self, module: str) -> bool:
        modules, packages = self._near
        return module in modules or any(module.startswith(f"{package}.") for package in packages)

    # -- what refers to classes ------------------------------------------------------------------------------

    @functools.cached_property
    def _variables(self) -> list[Any]:
        """The values of the variables in the script's own modules."""
        names = {"__main__", *map(module_of, self._own)}
        modules = [
            module for name in names if (module := sys.modules.get(name)) is not None and _is_own(module)
        ]
        return [value for module in modules for value in list(vars(module).values())]

    @functools.cached_property
    def _referred(self) -> dict[str, list[type]]:
        """The classes that something of the script refers to, by their qualified names."""
        found: dict[int, type] = {}
        seen: set[int] = set()
        stack: list[Any] = [*self._code, *self._own, *self._variables]
        while stack and len(seen) < _MOST_LOOKED_AT:
            value = stack.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, type):
                found[id(value)] = value
                if _is_own(sys.modules.get(module_of(value))):
                    stack.extend(_below_class(value))
            elif isinstance(value, _FUNCTIONS):
                stack.extend(_below_function(value))
        by_name: dict[str, list[type]] = {}
        for cls in found.values():
            by_name.setdefault(cls.__qualname__, []).append(cls)
        return by_name


def _is_own(module: Any) -> bool:
    """Whether a module is the script's own: it has a file, and nobody installed it."""
    names = vars(module) if isinstance(module, types.ModuleType) else {}
    path = names.get("__file__")
    if path is None:
        return names.get("__name__") == "__main__"
    is_ours = str(names.get("__name__")).partition(".")[0] == "perdure"
    return not is_ours and is_users_file(str(path))


def _is_registered(cls: type) -> bool:
    """Whether somebody said that objects of a class, or of one it derives from, may be made."""
    about = known(cls)
    by_handler = isinstance(about.entry, Handler) and not isinstance(about.entry, OwnHandler)
    is_exception = issubclass(cls, BaseException) and module_of(cls) == "builtins"
    return bool(about.rebuild) or by_handler or is_exception


def _below_class(cls: type) -> Iterator[Any]:
    for base in cls.__mro__:
        for name, value in list(vars(base).items()):
            if name == "__annotations__" and isinstance(value, dict):
                for annotation in value.values():
                    yield from _annotated(annotation)
            elif isinstance(value, types.FunctionType):
                # `dataclass(slots=True)` makes a class anew; methods of it still refer to the first one.
                yield from (each for each in _below_function(value) if not _is_earlier(each, cls))
            elif isinstance(value, type | functools.partial):
                yield value
            elif isinstance(value, staticmethod | classmethod):
                yield value.__func__
            elif isinstance(value, property):
                yield value.fget


def _without_earlier(classes: list[type]) -> list[type]:
    """Some classes of one name without those that `dataclass(slots=True)` has made anew, with the same fields."""
    fields = [vars(cls).get("__dataclass_fields__") for cls in classes]
    anew = [
        own for cls, own in zip(classes, fields, strict=True) if own is not None and "__slots__" in vars(cls)
    ]
    return [
        cls
        for cls, own in zip(classes, fields, strict=True)
        if "__slots__" in vars(cls) or not any(own is each for each in anew)
    ]


def _is_earlier(value: Any, cls: type) -> bool:
    names = (module_of(cls), cls.__qualname__)
    return isinstance(value, type) and value is not cls and (module_of(value), value.__qualname__) == names


def _below_function(value: Any) -> Iterator[Any]:
    if isinstance(value, functools.partial):
        yield value.func
        yield from (each for each in (*value.args, *value.keywords.values()) if isinstance(each, type))
    elif isinstance(value, types.MethodType):
        yield value.__func__
    elif isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # it is not assigned yet
            if isinstance(content, type | types.FunctionType | functools.partial):
                yield content
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        yield from (each for each in defaults if isinstance(each, type))


def _annotated(annotation: Any) -> Iterator[type]:
    """The classes in an annotation; one that is text is not evaluated."""
    stack, left = [annotation], 100
    while stack and left:
        left -= 1
        value = stack.pop()
        if isinstance(value, types.GenericAlias | types.UnionType):
            stack.extend(value.__args__)
        elif isinstance(value, type):
            yield value
        else:
            # What `typing` makes: Optional[Step], Sequence[Step].
            stack.extend(getattr(value, "__args__", ()) if module_of(type(value)) == "typing" else ())


def running_code(frame: FrameType | None) -> list[Any]:
    """The classes and functions in the variables of a script's functions that are running, from a frame on outwards."""
    found: list[Any] = []
    while frame is not None:
        if is_users_file(frame.f_code.co_filename):
            found.extend(value for value in frame.f_locals.values() if isinstance(value, type | _FUNCTIONS))
        frame = frame.f_back
    return found
