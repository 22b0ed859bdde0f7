"""Generators that a loop goes through: whether another process can bring them to where they were.

A generator keeps variables where nobody can put them. A new process advances it anew, which gives the same only if it
computes with nothing that the training changes.
"""

from __future__ import annotations

from inspect import isfunction, isgeneratorfunction
from types import GeneratorType
from typing import Any

from perdure.errors import PerdureError, is_users_file

#: What a generator may call: it gives the same in every process.
_PURE = frozenset(
    (
        "abs", "divmod", "enumerate", "float", "int", "len", "list", "max", "min", "range", "reversed", "round",
        "sorted", "str", "sum", "tuple", "zip",
    )
)  # fmt: skip
_FIXED = (int, float, complex, str, bytes, range, type(None))
#: What hands on elements of what it was given, and tells what that is.
_HANDS_ON = (enumerate, zip, map, filter)


def check_generators(rounds: object) -> None:
    """See that what is looped over gives the same elements in every process.

    :raises PerdureError: if it is a generator or an iterator of the script's that computes with more than fixed values.
    """
    todo: list[object] = [rounds]
    while todo:
        each = todo.pop()
        if isinstance(each, GeneratorType):
            code = each.gi_code
            if code.co_name != "<genexpr>" and is_users_file(code.co_filename) and not _is_pure(each):
                raise _refusal(f"{code.co_qualname}(), a generator")
        elif type(each) in _HANDS_ON:
            todo += each.__reduce__()[1]
        elif type(each).__module__.startswith("tqdm."):
            todo.append(getattr(each, "iterable", None))
        else:
            for name, is_refused in (("__next__", isfunction), ("__iter__", isgeneratorfunction)):
                method: Any = getattr(type(each), name, None)
                if is_refused(method) and is_users_file(method.__code__.co_filename):
                    raise _refusal(f"{type(each).__name__}.{name}()")


def _refusal(what: str) -> PerdureError:
    return PerdureError(
        f"the loop goes through {what}, and no other process could bring that to where it was: advanced anew, it would "
        "compute with what the training has changed since. Write its body into the loop, or make it a class whose "
        "__next__ keeps all that it needs in attributes, and ask for each element in the loop: "
        "`rounds = Rounds()`, `for _ in range(n): item = next(rounds)`"
    )


def _is_pure(generator: GeneratorType[Any, Any, Any]) -> bool:
    """Whether a generator computes with fixed values and plain functions only."""
    code, frame = generator.gi_code, generator.gi_frame
    return (
        frame is not None
        and not code.co_freevars
        and _PURE.issuperset(code.co_names)
        and not any(hasattr(each, "co_code") for each in code.co_consts)
        and all(type(value) in _FIXED for value in frame.f_locals.values())
    )
