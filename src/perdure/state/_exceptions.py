"""How exceptions that a world keeps are captured: what they were made of and their attributes. Tracebacks belong to the
process."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from perdure.state._attributes import attributes_of
from perdure.state._registry import Adapter, Maker, blank, refuse, register_adapter
from perdure.tree import SequenceNode

_ARGS: Any = vars(BaseException)["args"]
#: What Python sets when an exception is raised while another one is handled, and the names of the fields.
_LINKS = {
    "exception_cause": "__cause__",
    "exception_context": "__context__",
    "exception_context_suppressed": "__suppress_context__",
}
_NOTES = "exception_notes"
_HEAP_TYPE = 1 << 9


def _members(cls: type) -> dict[str, Any]:
    """What Python's own exceptions keep beside `args`, as the number of an OSError."""
    own = (base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE and base is not BaseException)
    members = [item for base in own for item in vars(base).items()]
    return {name: each for name, each in members if isinstance(each, types.MemberDescriptorType)}


def _fields(error: BaseException) -> Mapping[str, Any]:
    fields = {"args": _ARGS.__get__(error)}
    for name, member in _members(type(error)).items():
        fields[name] = member.__get__(error)
    fields.update(attributes_of(error))
    if "__notes__" in fields:
        fields[_NOTES] = fields.pop("__notes__")
    fields.update({name: vars(BaseException)[link].__get__(error) for name, link in _LINKS.items()})
    return fields


def _assign(error: BaseException, name: str, value: Any) -> None:
    if name == "args":
        _ARGS.__set__(error, value)
    elif name in _LINKS:
        vars(BaseException)[_LINKS[name]].__set__(error, value)
    elif (member := _members(type(error)).get(name)) is not None:
        # What was never given is shown as None too, and reads otherwise in a message.
        if value is not None or member.__get__(error) is not None:
            member.__set__(error, value)
    else:
        object.__getattribute__(error, "__dict__")["__notes__" if name == _NOTES else name] = value


def _why_not(fields: Mapping[str, Any], find: Callable[[str], type | None]) -> str | None:
    args = fields.get("args")
    if isinstance(args, SequenceNode) and args.type == "tuple":
        return None
    return "what the checkpoint has is no exception"


register_adapter(
    BaseException, Adapter(_fields, _assign, maker=Maker(blank, _why_not)), part_of_program=False
)
refuse(BaseExceptionGroup, "groups of exceptions are not supported. Keep a list of the exceptions instead")
