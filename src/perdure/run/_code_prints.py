"""Short prints of the code that a world uses: functions that it holds, methods of the script's classes, what these
call, and the constants that they read. They are the same in every process, and differ where the script was edited.

Only the script's own code counts, no installed package. Comments, docstrings and line numbers do not. Nothing is run.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from perdure.run.loops import Place
from perdure.state import LiveWorld, attributes_of, is_users_file, print_of_code
from perdure.tree import PLAIN_TYPES

#: Begin what is recorded: the code of a function, or a constant of a module or a class.
CODE, CONSTANT = "code of ", "constant "
_MOST = 20_000
_LONGEST = 80
_WRAPPERS = (staticmethod, classmethod, functools.cached_property, property, functools.partial)


@dataclass(frozen=True)
class Definition:
    """What was found of a function or a constant.

    :param text: its print, or its value.
    :param place: where it is defined, for people.
    """

    text: str
    place: str


def code_prints(live: LiveWorld, loop: Place | None = None) -> dict[str, Definition]:
    """The code and the constants that a world uses, by what they are and their names.

    :param loop: that of the training, where it is known; it counts too, and what it calls.
    """
    found: dict[str, Definition] = {}
    used: dict[str, set[str]] = {}
    classes: list[type] = []
    first = [*(held for _, held in live.held_references), *live.classes.values()]
    if loop is not None:
        module = str(loop.frame.f_globals.get("__name__"))
        names = {node.id for part in loop.loop.body for node in ast.walk(part) if isinstance(node, ast.Name)}
        first += [value for name, value in loop.variables().items() if name in names]
        used[module] = names
        found[f"{CODE}{module}:the loop"] = _loop_print(loop)
    for each in _reached(first):
        if isinstance(each, type):
            classes.append(each)
            used.setdefault(each.__module__, set())
            continue
        name = f"{CODE}{each.__module__}:{each.__qualname__}"
        text = _print(each)
        if name in found and text not in found[name].text:
            text = " ".join(sorted({text, found[name].text}))  # several lambdas have one name
        found[name] = Definition(text, _place(each.__code__))
        used.setdefault(each.__module__, set()).update(_names(each.__code__))
    own = _own_attributes(live, classes)
    for module, names in used.items():
        within = {cls: own[cls] for cls in classes if cls.__module__ == module}
        found.update(_constants(module, names, within))
    return found


def _own_attributes(live: LiveWorld, classes: list[type]) -> dict[type, set[str]]:
    """For each class the names that an object of it has itself: there the class's constant is not in force."""
    found = {cls: set(getattr(cls, "__dataclass_fields__", ())) for cls in classes}
    left = set(classes)
    for value, _ in live.met():
        if not left:
            break
        if type(value) in left:
            left.discard(type(value))
            names = set(attributes_of(value))
            for base in type(value).__mro__:
                if base in found:
                    found[base] |= names
    return found


def became(before: str, after: str) -> str:
    """What is different in two prints, for people: the numbers and texts in the code, if only these are."""
    (_, _, old), (_, _, new) = (_split(text) for text in (before, after))
    changed = [pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]]
    if len(old) != len(new) or not 0 < len(changed) <= 3:
        return ""
    return ", ".join(f"{one} became {other}" for one, other in changed)


def same(before: str, after: str) -> bool:
    """Whether two prints are those of the same code. Each Python has code of its own, so two of them cannot tell."""
    return before == after or _split(before)[0] != _split(after)[0]


def _split(text: str) -> tuple[str, str, list[str]]:
    version, _, rest = text.partition(" ")
    digest, _, constants = rest.partition(" ")
    return version, digest, constants.split("\x1f") if constants else []


# -- what is reached ---------------------------------------------------------------------------------------------------


def _reached(first: Iterable[Any]) -> Iterator[Any]:
    """The functions and classes of the script's own that are reached, each once."""
    todo = list(first)
    seen: set[int] = set()
    while todo and len(seen) < _MOST:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _WRAPPERS):
            todo += _wrapped(each)
        elif isinstance(each, types.MethodType):
            todo.append(each.__func__)
        elif isinstance(each, types.FunctionType):
            todo += filter(None, [each.__dict__.get("__wrapped__")])
            todo += _contents(each)
            if _is_own(each.__code__.co_filename):
                yield each
                todo += _called(each)
        elif isinstance(each, type):
            if _is_own(_file(each.__module__)):
                yield each
                todo += [*vars(each).values(), *each.__mro__[1:]]
        elif hasattr(type(each), "__wrapped__") or type(each) is functools._lru_cache_wrapper:
            todo += filter(None, [getattr(each, "__wrapped__", None)])


def _wrapped(each: Any) -> list[Any]:
    if isinstance(each, property):
        return [part for part in (each.fget, each.fset) if part is not None]
    return [each.func if isinstance(each, functools.cached_property | functools.partial) else each.__func__]


def _contents(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue  # it is not assigned yet


def _called(function: types.FunctionType) -> Iterator[Any]:
    names = _names(function.__code__)
    for name in names:
        found = function.__globals__.get(name)
        if isinstance(found, types.ModuleType):
            if _is_own(getattr(found, "__file__", None) or ""):
                yield from (vars(found)[other] for other in names if other in vars(found))
        elif found is not None:
            yield found


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _is_own(filename: str) -> bool:
    # What `dataclass` and `namedtuple` write has no file.
    return bool(filename) and not filename.startswith(("<string>", "<frozen")) and is_users_file(filename)


def _file(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _place(code: types.CodeType) -> str:
    return f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}"


# -- prints ------------------------------------------------------------------------------------------------------------


def _print(function: types.FunctionType) -> str:
    code = function.__code__
    if function.__doc__ is not None and code.co_consts[:1] == (function.__doc__,):
        code = code.replace(co_consts=(None, *code.co_consts[1:]))
    text = print_of_code(code)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    plain = [repr(each) for each in defaults if type(each) in PLAIN_TYPES]
    if plain:
        version, _, digest = text.partition(" ")
        text = f"{version} {xxhash.xxh3_64(f'{digest} {plain}'.encode()).hexdigest()}"
    return "\x1f".join([f"{text} {shown[0]}", *shown[1:]]) if (shown := [*_shown(code), *plain]) else text


def _loop_print(loop: Place) -> Definition:
    """The body of a loop. How long it goes on, in its head, is no edit."""
    digest = xxhash.xxh3_64("".join(map(ast.dump, loop.loop.body)).encode()).hexdigest()
    constants = [
        repr(node.value)
        for part in loop.loop.body
        for node in ast.walk(part)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float, complex, str)
    ]
    short = [each for each in constants if len(each) <= _LONGEST]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = " ".join([version, digest, *short[:1]])
    place = f"{os.path.basename(loop.filename)}:{loop.loop.lineno}"
    return Definition("\x1f".join([text, *short[1:]]), place)


def _shown(code: types.CodeType) -> Iterator[str]:
    """The numbers and short texts in a function."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _shown(constant)
        elif type(constant) in (int, float, complex, str) and len(text := repr(constant)) <= _LONGEST:
            yield text


# -- constants ---------------------------------------------------------------------------------------------------------


def _constants(
    module: str, names: set[str], classes: Mapping[type, set[str]]
) -> Iterator[tuple[str, Definition]]:
    """The constants of a module that some names mean, and those of classes: what is assigned once, as it stands in the
    source, and is that now.

    :param classes: those of the module, each with the names of which its objects have values of their own.
    """
    file = _file(module)
    tree = _parsed(file)
    if tree is None:
        return
    holder = sys.modules[module]
    wanted = names - _set_by_functions(tree)
    yield from _literals(module, "", tree.body, vars(holder), lambda name: name in wanted)
    for cls, own in classes.items():
        body = _class_body(tree, cls.__qualname__)
        if body is not None:
            unshadowed = set(vars(cls)) - own
            yield from _literals(module, f"{cls.__qualname__}.", body, vars(cls), unshadowed.__contains__)


def _literals(
    module: str, prefix: str, body: list[ast.stmt], values: Mapping[str, Any], counts: Callable[[str], bool]
) -> Iterator[tuple[str, Definition]]:
    for name, value, line in _assigned_once(body):
        present = values.get(name)
        if counts(name) and type(present) is type(value) and present == value:
            place = f"{os.path.basename(_file(module))}:{line}"
            yield f"{CONSTANT}{module}:{prefix}{name}", Definition(repr(value), place)


def _parsed(file: str) -> ast.Module | None:
    linecache.checkcache(file)
    lines = linecache.getlines(file) if file else []
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError, RecursionError):
        return None


def _assigned_once(body: list[ast.stmt]) -> Iterator[tuple[str, Any, int]]:
    times: dict[str, int] = {}
    literals: dict[str, tuple[Any, int]] = {}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                times[node.id] = times.get(node.id, 0) + 1
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ) if value is not None:
                try:
                    literal = ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                    continue
                if len(repr(literal)) <= _LONGEST:
                    literals[name] = literal, statement.lineno
    return ((name, *each) for name, each in literals.items() if times[name] == 1)


def _set_by_functions(tree: ast.Module) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _class_body(tree: ast.Module, qualname: str) -> list[ast.stmt] | None:
    body: list[ast.stmt] = tree.body
    for part in qualname.split("."):
        if part == "<locals>":
            continue
        found = next(
            (each for each in body if getattr(each, "name", None) == part and hasattr(each, "body")), None
        )
        if found is None:
            return None
        body = found.body
    return body
