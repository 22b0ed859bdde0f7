"""Whether a saved node can be written into a live value. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perdure import tree
from perdure.state import _references
from perdure.state._class_names import same_class
from perdure.state._compounds import CODE, of_class
from perdure.state._containers import ITEMS
from perdure.state._describe import short
from perdure.state._iterators import IteratorHandler
from perdure.state._registry import Adapter, Compound, Handler, Reference, Skip, known
from perdure.state.restoring._constructible import (
    NOT_BY_ATTRIBUTES,
)
from perdure.state.restoring._plan import CONTAINERS
from perdure.tree import Custom, Object, SequenceNode, Value


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a saved node can be written into a live value.

    :param fits: it can.
    :param expected: where it cannot and the live value must not be replaced either: what was expected instead.
    """

    fits: bool
    expected: str = ""


FITS, REPLACE = Verdict(True), Verdict(False)


def object_verdict(node: Object | Custom, cls: type, form: Callable[[Handler], str | None]) -> Verdict:
    """Whether a saved object can be written into one of the script.

    :param cls: the class of the script's object.
    :param form: the form of the script's object, where its handler tells forms apart.
    """
    entry = known(cls).entry
    if not same_class(node.type, cls):
        later = entry.becomes(cls) if isinstance(entry, Adapter) else None
        return FITS if later is not None and same_class(node.type, later) else REPLACE
    if isinstance(entry, Compound | Reference):
        return REPLACE
    if not isinstance(entry, Handler):
        by_attributes = entry is None or isinstance(entry, Adapter)
        alike = isinstance(node, Object) and by_attributes and not issubclass(cls, NOT_BY_ATTRIBUTES)
    elif not isinstance(node, Custom):
        alike = False
    elif entry.immutable:
        return REPLACE
    elif isinstance(entry, IteratorHandler):
        saved = entry.left_out_function(node.payload)
        alike = saved is None or saved == form(entry)
        if not alike:
            return Verdict(False, f"a {short(node.type)} that calls {saved:.100}")
    elif (present := form(entry)) is not None and saved_form(node) != present:
        expected = f"a {short(node.type)} of another form ({saved_form(node):.100}; expected {present:.100})"
        return Verdict(False, expected) if entry.create is None else REPLACE
    else:
        alike = True
    return FITS if alike else Verdict(False, f"a {short(node.type)} captured in another way than now")


def is_like(
    node: Object, cls: type, parts: Mapping[str, Any], reference: Callable[[Any], Value | None]
) -> bool:
    """Whether a compound is made by the same definition as a live one; what else it is made of may differ.

    :param cls: the class of the live one.
    :param parts: those of the live one.
    """
    for name, child in node.fields.items():
        if name == CODE:
            return _references.same(child, parts.get(CODE))
        if name in ("__func__", "func") and isinstance(child, Value):
            return _references.same(child, reference(parts.get(name)))
    compound = of_class(cls)
    if compound is not None and compound.make is None:
        return all(_same_items(child, parts.get(name)) for name, child in node.fields.items())
    return True


def _same_items(saved: Any, live: Any) -> bool:
    """Whether a saved tuple of plain values is that of an object of which no other is made."""
    if not isinstance(saved, SequenceNode):
        return False
    return tuple(live.items if isinstance(live, SequenceNode) else live) == tuple(saved.items)


def container_fits(node: SequenceNode | tree.MappingNode, cls: type) -> bool:
    """Whether a saved container (not an array of objects) can be written into one of a class."""
    expected = CONTAINERS.get(node.type)
    if expected is not None:
        return cls is expected
    kinds = (dict,) if isinstance(node, tree.MappingNode) else ITEMS
    by_content = not isinstance(known(cls).entry, Handler | Skip | Adapter)
    return same_class(node.type, cls) and issubclass(cls, kinds) and by_content


def saved_form(node: Custom) -> str:
    """The form that a handler recorded of an object."""
    if isinstance(node.payload, SequenceNode) and node.payload.items:
        return str(node.payload.items[-1])  # of an iterator: the name of its function
    pairs = node.payload.pairs if isinstance(node.payload, tree.MappingNode) else ()
    return next((str(child) for key, child in pairs if key == "form"), "none")
