"""The builders of type hints, such as `Optional[int]` and `dict[str, list[int]]`, see `_builders`. Knows no files."""

from __future__ import annotations

import abc
import collections.abc
import functools
import operator
import types
import typing
from collections.abc import Iterator
from typing import Any

from perdure.persistence.reading._building import Builder, Context, expect, items
from perdure.persistence.reading._classes import NotMadeError
from perdure.persistence.reading._hashing import inherits_hash

#: What a hint may consist of, with everything in it counted as often as it is in it: Python hashes it that way.
_MOST_PARTS = 200
_PLAIN = (str, int, bytes, bool, type(None))
_ALIASES = tuple(
    getattr(typing, name)
    for name in (
        "_GenericAlias",
        "_UnionGenericAlias",
        "_CallableGenericAlias",
        "_LiteralGenericAlias",
        "_AnnotatedAlias",
    )
    if isinstance(getattr(typing, name, None), type)
)
_CALLABLE: Any = type(collections.abc.Callable[[int], int])


def hint(context: Context, owner: Any, index: Any) -> Any:
    """`owner[index]`, if that makes a hint without running any class's own code."""
    arguments = index if type(index) is tuple else (index,)
    values = owner is typing.Literal or owner is typing.Annotated
    if not _makes_hints(owner) or not _fit(arguments, values):
        raise NotMadeError(
            "operator.getitem",
            "it takes an item out of something, which loading does not do, except for type hints. Keep type hints of "
            "classes only, or none, in the policy",
        )
    with context.clock.running():
        return owner[index]


def _makes_hints(owner: Any) -> bool:
    if type(owner).__module__ == "typing":
        return True
    if type(owner) not in (type, abc.ABCMeta):
        return False
    maker = next((base for base in owner.__mro__ if "__class_getitem__" in vars(base)), None)
    return maker is not None and maker.__module__ in ("typing", "builtins")


def _fit(arguments: tuple[Any, ...], values: bool = False) -> bool:
    """Whether the arguments of a hint are classes and other hints, and not too many."""
    stack, count = list(arguments), 0
    while stack and count < _MOST_PARTS:
        part = stack.pop()
        count += 1
        if values and type(part) in _PLAIN:
            continue
        if type(part) in (list, tuple):
            stack.extend(part[:_MOST_PARTS])
        elif not _is_class(part) and part is not None and part is not ...:
            if type(part).__module__ != "typing" and type(part) not in (
                types.GenericAlias,
                types.UnionType,
                _CALLABLE,
            ):
                return False
            stack.extend(_parts(part))
            values = values or type(part) in _ALIASES
    return not stack


def _parts(made: Any) -> Iterator[Any]:
    """What a hint consists of."""
    if type(made) in _ALIASES:
        yield vars(made).get("__origin__")
        yield from vars(made).get("__args__", ())[:_MOST_PARTS]
        yield from vars(made).get("__metadata__", ())[:_MOST_PARTS]
    elif type(made) in (types.GenericAlias, types.UnionType, _CALLABLE):
        yield from made.__args__[:_MOST_PARTS]


def _is_class(part: Any) -> bool:
    """Whether something is a class that is hashed, compared and joined (`int | None`) as all classes are."""
    kind: Any = type(part)
    if not issubclass(kind, type):
        return False
    joins = [
        next(vars(base)[name] for base in kind.__mro__ if name in vars(base))
        for name in ("__or__", "__ror__")
    ]
    return inherits_hash(kind, type) and joins == [vars(type)["__or__"], vars(type)["__ror__"]]


def _generic(context: Context, owner: Any, arguments: Any) -> Any:
    """`list[int]` and its like."""
    if not _is_class(owner) or not _fit(items(context, arguments, (tuple,))):
        raise NotMadeError("types.GenericAlias", "it is no type hint of classes. Keep none in the policy")
    return types.GenericAlias(owner, arguments)


def _callable(context: Context, owner: Any, arguments: Any) -> Any:
    if owner is not collections.abc.Callable or not _fit(items(context, arguments, (tuple,))):
        raise NotMadeError(
            "collections.abc.Callable", "it is no type hint of classes. Keep none in the policy"
        )
    with context.clock.running():
        return _CALLABLE(owner, arguments)


def _either(context: Context, function: Any, classes: Any) -> Any:
    """`int | None`, which is written as a reduction."""
    if function is not operator.or_ or not _fit(items(context, classes, (tuple,))) or len(classes) < 2:
        raise NotMadeError(
            "functools.reduce", "it is called with something else than the classes of a type hint"
        )
    with context.clock.running():
        return functools.reduce(operator.or_, expect(classes, tuple))


HINT_BUILDERS: dict[str, Builder] = {
    "types.GenericAlias": Builder(_generic),
    "collections.abc._CallableGenericAlias": Builder(_callable),
    **dict.fromkeys(("functools.reduce", "_functools.reduce"), Builder(_either)),
}
