"""Finds what holds something outside of objects: the script's own modules, their classes and functions, and caches.

From the variables of modules, and of functions that are running, it goes through classes, functions, containers and
objects to further functions: a closure is found by the path that leads to it, which is the same in every process of the
script. Nothing is run, and the search is bounded.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

from perdure.run.carriers._holders import CLOSURE, Attributes, Cache, Function, Holder, Variables, is_hidden
from perdure.run.carriers._own_modules import variables_of
from perdure.state import attributes_of, is_by_attributes, is_users_file, look_up

_CACHED = functools._lru_cache_wrapper
_WRAPPED = (staticmethod, classmethod)
_FUNCTIONS = (types.FunctionType, property, _CACHED, *_WRAPPED)
#: How many things are looked at, how deep below a variable, and how many elements of a container.
_MOST = 20_000
_DEPTH = 5
_ELEMENTS = 256
#: Nothing is to be found below these.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, ModuleType)


def survey(
    modules: Mapping[str, ModuleType], frames: Sequence[FrameType], known: Collection[int] = ()
) -> dict[str, Holder]:
    """What holds something in these modules, by the beginning of the names of its carriers.

    :param modules: the script's own, by name.
    :param frames: of the script's functions that are running.
    :param known: the ids of objects to pass over.
    """
    found = _Survey(modules, known)
    for name, module in modules.items():
        found.module(name, variables_of(module))
    for frame in frames:
        if frame.f_locals is not frame.f_globals:
            found.running(frame)
    found.go()
    return found.holders


class _Survey:
    def __init__(self, modules: Mapping[str, ModuleType], known: Collection[int]) -> None:
        self.holders: dict[str, Holder] = {}
        self._modules = modules
        self._names = {id(variables_of(module)) for module in modules.values()}
        self._seen = set(known)
        self._todo: collections.deque[tuple[str, Any, int]] = collections.deque()

    def module(self, name: str, variables: dict[str, Any]) -> None:
        self._add(Variables(name, variables))
        for key, value in list(variables.items()):
            # What another of these modules defines is found there.
            if not is_hidden(key) and self._home(value) in (None, name):
                self._push(f"{name}:{key}", value, 0)

    def running(self, frame: FrameType) -> None:
        code = frame.f_code
        around = f"{frame.f_globals.get('__name__')}:{code.co_qualname}.<locals>."
        for key, value in frame.f_locals.items():
            self._push(around + key, value, 0)

    def go(self) -> None:
        while self._todo and len(self._seen) < _MOST:
            path, value, depth = self._todo.popleft()
            # Anything may lie there, also what raises errors when it is asked what it is.
            with contextlib.suppress(Exception):
                self._visit(path, value, depth)

    def _home(self, value: Any) -> str | None:
        """The module of these that defines a class or a function under its own name; None if there is none."""
        if not isinstance(value, type | types.FunctionType | _CACHED):
            return None
        module = value.__module__
        if module not in self._modules or look_up(f"{module}:{value.__qualname__}") is not value:
            return None
        return str(module)

    def _add(self, holder: Holder) -> None:
        self.holders.setdefault(holder.prefix, holder)

    def _push(self, path: str, value: Any, depth: int) -> None:
        if depth <= _DEPTH and not isinstance(value, _PLAIN) and id(value) not in self._seen:
            self._todo.append((path, value, depth))

    def _visit(self, path: str, value: Any, depth: int) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        below = depth + 1
        cls = type(value)
        if cls is types.FunctionType:
            self._function(path, value, below)
        elif issubclass(cls, type):
            self._class(path, value, below)
        elif cls is _CACHED:
            function = getattr(value, "__wrapped__", None)
            if type(function) is types.FunctionType and self._is_own(function):
                self._add(Cache(path, value))
            self._push(path, function, depth)
        elif cls in _WRAPPED:
            self._push(path, value.__func__, depth)
        elif cls is property:
            for name in ("fget", "fset", "fdel"):
                self._push(f"{path}.{name}", getattr(value, name), depth)
        elif cls is types.MethodType:
            self._push(path, value.__func__, depth)
            self._push(f"{path}.__self__", value.__self__, below)
        elif cls is functools.partial:
            self._push(f"{path}.func", value.func, depth)
            self._elements(path, value.args, below)
            self._elements(path, value.keywords, below)
        elif isinstance(value, dict | list | tuple | set | frozenset | collections.deque):
            self._elements(path, value, below)
        elif is_by_attributes(cls) and self._is_own_class(cls):
            for name, child in attributes_of(value).items():
                self._push(f"{path}.{name}", child, below)

    def _function(self, path: str, function: types.FunctionType, depth: int) -> None:
        if self._is_own(function):
            self._add(Function(path, function))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._push(f"{path}.{CLOSURE}{name}", cell.cell_contents, depth)
            except ValueError:
                continue  # it is not assigned yet
        self._push(f"{path}.__wrapped__", function.__dict__.get("__wrapped__"), depth)

    def _class(self, path: str, cls: type, depth: int) -> None:
        if not self._is_own_class(cls):
            return
        self._add(Attributes(path, cls))
        for name, child in list(vars(type)["__dict__"].__get__(cls).items()):
            if isinstance(child, _FUNCTIONS) or not is_hidden(name):
                self._push(f"{path}.{name}", child, depth)

    def _elements(self, path: str, value: Any, depth: int) -> None:
        if len(value) > _ELEMENTS or depth > _DEPTH:
            return
        pairs: Iterator[tuple[Any, Any]] = (
            iter(list(dict.items(value))) if isinstance(value, dict) else enumerate(list(value))
        )
        for key, child in pairs:
            self._push(f"{path}[{key!r:.80}]" if type(key) in (str, int) else path, child, depth)

    def _is_own(self, function: types.FunctionType) -> bool:
        return id(function.__globals__) in self._names or is_users_file(function.__code__.co_filename)

    def _is_own_class(self, cls: type) -> bool:
        return cls.__module__ in self._modules
