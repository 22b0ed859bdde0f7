"""What of something that came while the training ran has changed already, as its source says.

Of what was there when the loop began, the beginning is known. What came later is first seen when it has run, so its
source has to tell: a variable that is no longer what it is set to there has changed, and so has, for all that can be
known, one that functions bind anew or change.

Reads the source; nothing is run.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any

from perdure.run.carriers._draws import may_differ_when_called_again
from perdure.run.carriers._holders import CLOSURE, DEFAULTS, Attributes, Cache, Function, Holder, Variables
from perdure.run.loops import CHANGING, changed_names

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NOTHING: Any = object()


def has_changed_already(holder: Holder, key: str, value: Any, frames: Sequence[FrameType]) -> bool:
    """Whether what a holder has under a key is no longer what it was made with.

    :param frames: of the script's functions that are running: the variables that they share are those of their loops.
    """
    match holder:
        case Variables():
            tree = _parsed(holder.names.get("__file__"), holder.names)
            return tree is not None and _in_module(tree, key, value, holder)
        case Attributes():
            return _in_class(holder.cls, key, value)
        case Cache():
            return bool(value) and may_differ_when_called_again(holder.cached.__wrapped__)
        case Function() if key in holder.cells:
            name = key.removeprefix(CLOSURE)
            code = holder.function.__code__
            return (_binds(code, name) or _changes(code, name)) and not _is_running(name, value, frames)
        case Function() if key in DEFAULTS:
            return _in_defaults(holder.function, key, value)
        case Function():
            return _names(holder.function.__code__, key)
    return False


def _in_module(tree: ast.Module, key: str, value: Any, holder: Variables) -> bool:
    lookup = holder.names.__getitem__
    literal = _assigned(tree.body, key)
    if literal is not _NOTHING and key not in changed_names(tree.body, lookup):
        return _differ(literal, value)
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    return any(
        isinstance(node, ast.Global) and key in node.names
        for function in functions
        for node in ast.walk(function)
    ) or any(key in changed_names(function.body, lookup) for function in functions)


def _in_class(cls: type, key: str, value: Any) -> bool:
    module = sys.modules.get(cls.__module__)
    tree = _parsed(getattr(module, "__file__", None), vars(module) if module is not None else {})
    if tree is None:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            literal = _assigned(node.body, key)
            if literal is not _NOTHING:
                return _differ(literal, value)
    return False


def _in_defaults(function: FunctionType, key: str, value: Any) -> bool:
    code = function.__code__
    tree = _parsed(code.co_filename, function.__globals__)
    if tree is None or not value:
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _FUNCTIONS) or node.name != code.co_name:
            continue
        if code.co_firstlineno in (node.lineno, *(each.lineno for each in node.decorator_list)):
            if key == "__defaults__":
                pairs = list(zip(node.args.defaults, value, strict=False))
            else:
                names = [each.arg for each in node.args.kwonlyargs]
                pairs = [
                    (default, value[name])
                    for name, default in zip(names, node.args.kw_defaults, strict=True)
                    if default is not None and name in value
                ]
            return any(_differ(_literal(default), now) for default, now in pairs)
    return False


def _binds(code: CodeType, name: str) -> bool:
    """Whether a function binds a variable that it closes over."""
    return any(
        each.opname == "STORE_DEREF" and each.argval == name for each in dis.get_instructions(code)
    ) or any(
        name in inner.co_freevars and _binds(inner, name)
        for inner in code.co_consts
        if isinstance(inner, CodeType)
    )


def _changes(code: CodeType, name: str) -> bool:
    """Whether a function changes a container that it closes over."""
    previous = None
    for each in dis.get_instructions(code):
        is_of_it = previous is not None and previous.opname == "LOAD_DEREF" and previous.argval == name
        if is_of_it and each.opname in ("LOAD_METHOD", "LOAD_ATTR") and each.argval in CHANGING:
            return True
        if each.opname == "STORE_SUBSCR" and name in code.co_freevars:
            return True
        previous = each
    return False


def _names(code: CodeType, name: str) -> bool:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return name in code.co_names or any(_names(each, name) for each in inner)


def _is_running(name: str, value: Any, frames: Sequence[FrameType]) -> bool:
    return any(name in each.f_code.co_cellvars and each.f_locals.get(name) is value for each in frames)


def _assigned(body: Sequence[ast.stmt], name: str) -> Any:
    """The value that a block gives to a name, where that stands in the source as it is, and once."""
    found: Any = _NOTHING
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=each)], value=value) if each == name:
                if found is not _NOTHING:
                    return _NOTHING
                found = _literal(value)
            case ast.AnnAssign(target=ast.Name(id=each), value=ast.expr() as value) if each == name:
                found = _literal(value)
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _NOTHING


def _differ(literal: Any, value: Any) -> bool:
    """Whether a value is no longer the literal that it was."""
    if literal is _NOTHING:
        return False
    return type(literal) is not type(value) or bool(literal != value)


def _parsed(file: Any, names: Any) -> ast.Module | None:
    lines = linecache.getlines(file, names) if type(file) is str else []
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError, RecursionError):
        return None
