"""The live side of a comparison with a saved state.

Whatever matching has to know of a live object it asks here. So the same rules can be applied to what only stands for
live objects.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from perdure import tree
from perdure.state import _aliasing, _compounds, _object_arrays, _references
from perdure.state._attributes import attributes_of
from perdure.state._containers import ITEMS, factory_name
from perdure.state._describe import describe_at
from perdure.state._registry import Adapter, Handler, Skip, is_part_of_program, known
from perdure.state._shown_classes import ShownClasses
from perdure.state._values import Unsupported
from perdure.tree import Array, SequenceNode, Value

_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)


class LiveObjects:
    """The live objects of a world. It holds as long as nobody changes them.

    :param parts: the live parts by name.
    :param classes: the classes of the live objects by their recorded names.
    :param given: what adapters gave for live objects (by their ids).
    :param skip: paths that were left out, with `*` and `?` as wildcards.
    :param shown: the classes that the script shows; by default those of the live objects, and what lies beside them.
    :param references: the functions, classes and modules that live objects hold.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        classes: Mapping[str, type],
        given: dict[int, Mapping[str, Any]] | None = None,
        skip: Sequence[str] = (),
        shown: ShownClasses | None = None,
        references: Sequence[Any] = (),
    ) -> None:
        self.parts = dict(parts)
        self.shown = ShownClasses(classes) if shown is None else shown
        self.classes = classes
        self.skip = tuple(skip)
        self._given = {} if given is None else given
        self._alive: list[Any] = []
        self._references = references
        #: Whether the script is known to build at a path what it built when the run began. What the checkpoint has
        #: there instead came about in training, so it may replace even what belongs to the program.
        self.unchanged: Callable[[str], bool] = lambda path: False
        #: Whether the training left a function at a path as the script had built it, and the script was edited since.
        self.edited: Callable[[str], bool] = lambda path: False
        #: Whether the script had built something at a path when the run began.
        self.built_before: Callable[[str], bool] = lambda path: False

    def class_of(self, live: Any) -> type:
        """The class of a live value."""
        return type(live)

    def is_left_out(self, live: Any) -> bool:
        """Whether a live value is left out of every checkpoint because of its class."""
        return isinstance(known(type(live)).entry, Skip)

    def is_part_of_program(self, live: Any) -> bool:
        """Whether only the script builds a live value: it is never made, and never replaced by a plain value."""
        return is_part_of_program(live)

    def is_parameter(self, live: Any) -> bool:
        """Whether a live value is a parameter of a module."""
        return isinstance(live, torch.nn.Parameter) and not isinstance(
            live, UninitializedParameter | UninitializedBuffer
        )

    def describe(self, path: str, live: Any) -> str:
        """A live value in a few words, for a message about a path."""
        return describe_at(path, live)

    # -- what it holds ---------------------------------------------------------------------------------------

    def fields(self, live: Any) -> Mapping[str, Any]:
        """The attributes of an object, or what its adapter gives. An adapter is asked only if the walk did not meet
        that object, and only once."""
        adapter = known(type(live)).entry
        if not isinstance(adapter, Adapter):
            return attributes_of(live)
        found = self._given.get(id(live))
        if found is None:
            found = self._given[id(live)] = adapter.fields(live)
            self._alive.append(live)
        return found

    def keeps_tensor(self, live: Any, name: str) -> bool:
        """Whether a module keeps a parameter (even if it is None now) or a buffer under a name."""
        found = live._parameters.get(name, live._buffers.get(name))
        is_fixed = name in live._parameters or found is not None
        return is_fixed and not isinstance(found, _UNINITIALIZED)

    def entries(self, live: Any) -> dict[Any, Any]:
        """The content of a dict, to be asked with the methods of `dict` itself."""
        return live  # type: ignore[no-any-return]

    def factory(self, live: Any) -> Any:
        """What makes the values for new keys of a defaultdict; None if nothing does."""
        return live.default_factory

    def made_by_factory(self, live: Any) -> Any:
        """What a defaultdict of the script makes for a new key; None if anybody can tell without it, or it fails."""
        factory = live.default_factory if isinstance(live, collections.defaultdict) else None
        if factory is None or factory_name(factory):
            return None
        try:
            return factory()
        except Exception:
            return None

    def elements(self, live: Any) -> Sequence[Any]:
        """The elements of a container that has an order; none of one that has not."""
        if isinstance(live, np.ndarray):
            return live.ravel().tolist()
        if isinstance(live, list | tuple | collections.deque):
            base = next(base for base in ITEMS if isinstance(live, base))
            return list(base.__iter__(live))  # type: ignore[attr-defined]
        return []

    def length(self, live: Any) -> int:
        """How many elements a container has."""
        return len(live)

    def gradient(self, live: Any) -> Any:
        """The gradient of a tensor, or None."""
        return live.grad if live.is_leaf else None

    # -- functions, classes and what is made of them ---------------------------------------------------------

    def reference(self, live: Any) -> Value | None:
        """What a function, a class or a module is recorded as; None of anything else."""
        node = _references.reference(live) if _references.kind_of(live) else None
        return node if isinstance(node, Value) else None

    @cached_property
    def held_references(self) -> list[tuple[Value, Any]]:
        """The functions, classes and modules that live objects hold, each with what it is recorded as."""
        found = {
            id(live): (node, live) for live in self._references if (node := self.reference(live)) is not None
        }
        return list(found.values())

    def compound_parts(self, live: Any) -> Mapping[str, Any] | None:
        """The parts of an object that is captured by them; None of any other."""
        compound = _compounds.of_live(live)
        return None if compound is None else compound.parts(live)

    def is_callable(self, live: Any) -> bool:
        """Whether a live value may be called."""
        return callable(live)

    def holds_functions(self, live: Any) -> bool:
        """Whether a live container has something that may be called, as a key or an element."""
        base: Any = next((base for base in (dict, *ITEMS) if isinstance(live, base)), None)
        if base is None:
            return False
        return any(map(callable, [*live, *dict.values(live)] if base is dict else base.__iter__(live)))

    def key(self, saved: Value, entries: dict[Any, Any]) -> Any:
        """The key of a dict that a saved reference means, if the dict has it; else None."""
        return next((key for key in dict.keys(entries) if _references.same(saved, self.reference(key))), None)

    # -- what fits it ----------------------------------------------------------------------------------------

    def fits(self, node: Array, live: Any) -> bool:
        """Whether a saved array can be written into a live value."""
        return not isinstance(live, _UNINITIALIZED) and _aliasing.fits(node, live)

    def peculiarity(self, live: Any) -> str:
        """What keeps a saved array from being written into a live value although they look alike, for a message."""
        return _aliasing.peculiarity(live)

    def is_like_object_array(self, node: SequenceNode, live: Any) -> bool:
        """Whether a live value can be a saved array of objects, or a saved view of one."""
        return _object_arrays.fits(node, live)

    def object_memory(self, base: SequenceNode, views: Sequence[SequenceNode], lives: Sequence[Any]) -> Any:
        """The same as `common_memory` for arrays of objects."""
        return _object_arrays.memory_of(lives, views, base)

    def not_apart(self, lives: Sequence[Any]) -> Iterator[int]:
        """Which live arrays of objects (as positions) share memory with one of the others that may keep it."""
        found = [position for position, live in enumerate(lives) if live.size]
        for group in _aliasing.overlapping([lives[position] for position in found]):
            staying: list[Any] = []
            for position in sorted(found[member] for member in group):
                if any(_aliasing.share(other, lives[position]) for other in staying):
                    yield position
                else:
                    staying.append(lives[position])

    def common_memory(self, base: Array, views: Sequence[Array], lives: Sequence[Any]) -> Any:
        """The memory that live arrays have in common, if they lie in it as saved views lie in theirs; else None.

        :param base: the common memory of the saved views.
        :param lives: for each of `views` the live array.
        """
        start = _aliasing.address(lives[0]) - views[0].offset
        found = _aliasing.whole(lives, start, start + tree.itemsize(base) * math.prod(base.shape))
        if found is None or not _aliasing.fits(base, found):
            return None
        same = all(_aliasing.lies_at(live, found, view) for live, view in zip(lives, views, strict=True))
        return found if same else None

    def overlapping(self, arrays: Sequence[Any]) -> Iterator[list[int]]:
        """Groups of live arrays (as positions) that may overlap."""
        return _aliasing.overlapping(arrays)

    def share(self, a: Any, b: Any) -> bool:
        """Whether two live arrays share a byte."""
        return _aliasing.share(a, b)

    def form(self, live: Any, handler: Handler) -> str | None:
        """The form of an object, where its handler tells forms apart."""
        return None if handler.form is None else handler.form(live)

    def parts_of(self, live: Any, handler: Handler) -> Any:
        """What an object is made of, as its handler tells it (of an iterator a tuple); None if that cannot be told."""
        try:
            return handler.capture(live)
        except Unsupported:
            return None

    def misfits(self, adapter: Adapter, live: Any, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Which saved fields an adapter says cannot be assigned."""
        return [] if adapter.check is None else adapter.check(live, fields)

    def missing(self, adapter: Adapter, live: Any, name: str, node: Any) -> Any:
        """What an object of the script would make for a field that it does not have yet; None if nothing."""
        return None if adapter.missing is None else adapter.missing(live, name, node)
