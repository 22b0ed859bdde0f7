"""The events that handlers react to, and how they are the same as those of Tianshou's `highlevel.persistence`.

A handler may be written against either library and be called by either. Members of the two libraries' enums are equal.
For handlers that compare with ``is``, each gets the members of the library whose `Persistence` it inherits from.
Tianshou is never imported here: if its module is not loaded, none of its members can be met.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

_TIANSHOU = "tianshou.highlevel.persistence"

_E = TypeVar("_E", bound=Enum)


class SharedEnum(Enum):
    """An enum that Tianshou has under the same name: its members are equal to Tianshou's.

    Calling it with a member of Tianshou's gives the one of its own.
    """

    def __eq__(self, other: object) -> bool:
        return self is other or (
            _is_counterpart(type(self), other) and self.value == getattr(other, "value", None)
        )

    # Members have the same names in both libraries, so they hash alike.
    __hash__ = Enum.__hash__

    @classmethod
    def _missing_(cls, value: object) -> SharedEnum | None:
        if not _is_counterpart(cls, value):
            return None
        return next((each for each in cls if each == value), None)


class PersistEvent(SharedEnum):
    """The events that handlers can react to when something is saved."""

    PERSIST_POLICY = "persist_policy"
    """The policy network is persisted, because a new best was found."""


class RestoreEvent(SharedEnum):
    """The events that handlers can react to when something is restored."""

    RESTORE_POLICY = "restore_policy"
    """The policy network's parameters are restored."""


def accepts_either(method: Callable[..., None]) -> Callable[..., None]:
    """A handler's `persist` or `restore` that gets this library's events, whichever library calls it."""

    @functools.wraps(method)
    def called(self: Any, event: Any, *others: Any, **named: Any) -> None:
        method(self, own_member(event), *others, **named)

    return called


def own_member(event: Any) -> Any:
    """This library's event for one of Tianshou's; any other one as it is."""
    for kind in (PersistEvent, RestoreEvent):
        if _is_counterpart(kind, event) and event.value in kind._value2member_map_:
            return kind(event)
    return event


def event_for(handler: object, event: _E) -> _E | Any:
    """The event as a handler knows it: as Tianshou's member if the handler is one of Tianshou's."""
    theirs = sys.modules.get(_TIANSHOU)
    base = getattr(theirs, "Persistence", None)
    if not isinstance(base, type) or not isinstance(handler, base):
        return event
    kind = getattr(theirs, type(event).__name__, None)
    found = getattr(kind, "_value2member_map_", {}) if isinstance(event, SharedEnum) else {}
    return found.get(event.value, event)


def _is_counterpart(kind: type, value: object) -> bool:
    theirs = type(value)
    return (
        isinstance(value, Enum)
        and theirs.__module__ == _TIANSHOU
        and theirs.__qualname__ == kind.__qualname__
    )
