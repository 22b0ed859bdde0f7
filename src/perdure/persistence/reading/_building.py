"""What all builders share: the context they work in, and checks of their arguments. Knows no files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from perdure.persistence.reading._hashing import Clock
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.state import Handler, known

#: What an element of a container and a generator take of memory, in bytes.
ITEM_COST = 40
GENERATOR_COST = 6_000


@dataclass
class Context:
    """What builders need beside their arguments.

    :param charge: asked before memory is taken.
    :param clock: counts the time that keys take.
    :param runs_methods: whether methods of what is made are going to run while it is restored.
    :param depths: how deep iterators lie in each other, by their ids, each with the iterator.
    """

    charge: Callable[[int], None]
    clock: Clock
    runs_methods: bool
    depths: dict[int, tuple[int, Any]] = field(default_factory=dict)


Make: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Builder:
    """What is done in the place of one function.

    :param make: makes the object, from the context and the arguments; where there is a state, it comes between.
    :param state: what BUILD gives to the object afterwards: nothing; attributes; the `needed` state without which it
        cannot be made; or an `optional` one, with which it is made again.
    :param needs_trust: whether the function must be trusted for that: what it makes acts when it is used.
    """

    make: Make
    state: Literal["none", "attributes", "needed", "optional"] = "none"
    needs_trust: bool = False


def expect(value: Any, kind: Any) -> Any:
    """The value, if it is exactly of a class, or of one of several."""
    if not (type(value) in kind if isinstance(kind, tuple) else type(value) is kind):
        raise MalformedError(f"has a {type(value).__name__} where something else belongs")
    return value


def whole(value: Any, most: int = 1 << 62) -> int:
    """The value, if it is a whole number that is not negative and not too large."""
    number: int = expect(value, int)
    if not 0 <= number <= most:
        raise MalformedError(f"has the number {number} where one from 0 to {most:,} belongs")
    return number


def items(context: Context, content: Any, kinds: tuple[type, ...] = (list, tuple)) -> Any:
    """A sequence that is going to be copied."""
    context.charge(ITEM_COST * len(expect(content, kinds)))
    return content


def handler(cls: type) -> Callable[[Any], Any]:
    """The function that makes objects of a class in `perdure.state` too."""
    entry = known(cls).entry
    assert isinstance(entry, Handler)
    assert entry.create is not None
    return entry.create
