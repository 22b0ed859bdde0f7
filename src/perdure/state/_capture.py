"""Capturing a world: one walk over its live objects, and the `State` that the walk made.

`walk_live` makes the walk, and `capture` a state of it. Restoring compares a saved state with such a walk too, so
resuming a run walks over its world once. Knows no files.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from perdure.errors import CaptureError
from perdure.state import rng
from perdure.state._live_objects import LiveObjects
from perdure.state._shown_classes import ShownClasses
from perdure.state._walker import Walker
from perdure.tree import Node, Object, State


def capture(world: Any, *, skip: Sequence[str] = ()) -> State:
    """The state of everything that can be reached from a world's parts, and of the process's random
    generators.

    Arrays and tensors are taken by reference: the state is that of this moment only until training goes on.
    Nothing is changed, and no random stream is shifted, even where a handler draws random numbers.

    :param world: a :class:`perdure.World`, a dict of names to objects, or a single object (whose part is
        `world`).
    :param skip: paths to leave out, with `*` and `?` as wildcards ("envs.*.viewer").
    :raises CaptureError: if something can neither be captured nor be left out; it lists every such path.
    """
    return walk_live(world, skip=skip).state()


def walk_live(
    world: Any,
    *,
    skip: Sequence[str] = (),
    code: Sequence[Any] = (),
    last: Callable[[Walker], Mapping[str, Any]] | None = None,
) -> LiveWorld:
    """Walk over a world once, as `capture` does, and return all that the walk found.

    What cannot be captured is no error here; it becomes one in :meth:`LiveWorld.state`.

    :param world: as for :func:`capture`.
    :param skip: paths to leave out, with `*` and `?` as wildcards.
    :param code: classes and functions of the script that the world may not show, as those in its running functions.
    :param last: called when all parts are walked; it returns further parts.
    :raises CaptureError: if a part has no proper name.
    """
    generators = rng.get_state()
    walker = Walker(skip)
    try:
        parts = parts_of(world)
        more: dict[str, Any] = {}

        def further(walker: Walker) -> Mapping[str, Any]:
            more.update({} if last is None else last(walker))
            return more

        root = walker.parts({**parts, rng.name_beside(parts): rng.Generators(generators)}, further)
        walker.find_views()
    finally:
        # Perdure's own functions draw nothing, and setting the generators takes as long as capturing many objects.
        if walker.foreign or not isinstance(world, dict):
            rng.set_state(generators)
    return LiveWorld({**parts, **more}, root, walker, code)


class LiveWorld(LiveObjects):
    """What one walk over a world found; its parts are without the process's random generators.

    :param root: the tree of the parts and of the generators.
    :param walker: made the tree. It keeps alive what it met, so ids stay valid.
    :param code: classes and functions of the script beside those that the walk met.
    """

    def __init__(
        self, parts: Mapping[str, Any], root: Object, walker: Walker, code: Sequence[Any] = ()
    ) -> None:
        classes = {name: cls for name, cls in walker.classes.items() if cls is not rng.Generators}
        references = walker.references
        code = [*(each for each in references if not isinstance(each, ModuleType)), *code]
        shown = ShownClasses(classes, walker.ambiguous, code)
        super().__init__(parts, classes, walker.given, walker.skip, shown, references)
        self.root = root
        #: The recorded names that two classes of the live objects have.
        self.ambiguous = walker.ambiguous
        #: What decides whether it can be restored.
        self.structure = walker.structure
        self._walker = walker

    def met(self) -> Iterator[tuple[Any, Node]]:
        """Every object that the walk met, with its node."""
        return self._walker.met()

    @property
    def ids(self) -> Collection[int]:
        """The ids of all objects that the walk met."""
        return self._walker.memo.keys()

    @property
    def refused(self) -> Sequence[tuple[str, str]]:
        """What could not be captured: the paths, and why. `state` raises it."""
        return self._walker.refused

    def tensors_with_graphs(self) -> list[str]:
        """The paths of tensors that belong to a graph, which no checkpoint holds."""
        return self._walker.tensors_with_graphs()

    def state(self) -> State:
        """The state of the world and of the random generators.

        :raises CaptureError: if something can neither be captured nor be left out; it lists every such path.
        """
        self._walker.raise_refusals()
        return State(self.root, self._walker.own_arrays())


@contextmanager
def paused_collection() -> Iterator[None]:
    """Without garbage collection. A walk makes thousands of objects, none of them garbage, and would set off a full
    collection, which with torch loaded takes many times as long as the walk."""
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


def parts_of(world: Any) -> dict[str, Any]:
    """The parts of a world, of a dict, or of a single object.

    :raises CaptureError: if a part's name is not one that a part can have.
    """
    # Looked up on the class: an object may have a `__getattr__` that answers to every name.
    method = getattr(type(world), "parts", None)
    found = (
        dict(dict.items(world)) if isinstance(world, dict) else method(world) if callable(method) else None
    )
    if not isinstance(found, dict):
        found = {"world": world}
    for name in found:
        if type(name) is not str:
            raise CaptureError(f"the world has a part named {name!r:.80}; expected a name")
    return found
