"""Writers of the user's that nothing else finds."""

from __future__ import annotations

import os
from collections.abc import Callable

from perdure import arguments
from perdure.outputs._writers import Registered

_registered: dict[str, Registered] = {}


def register_output(
    path: str | os.PathLike[str],
    *,
    flush: Callable[[], object] | None = None,
    go_on: Callable[[], object] | None = None,
    emptied: bool = False,
) -> None:
    """Make a file part of the run that something writes which Perdure does not find by itself: C++, or a library.

    At each checkpoint its length is noted. When the run is resumed, it is brought to that length, and what was written
    after the checkpoint is set aside. The writer must only append. Files that Python has open, or opens to append to,
    need no such line.

    :param path: of the file.
    :param flush: hands over to the system what the writer still holds. It is called at each checkpoint.
    :param go_on: called after the file was changed, where the writer must go to its end.
    :param emptied: whether the writer empties the file when it opens it.

    Example::

        perdure.register_output("runs/a/trace.bin", flush=tracer.flush)
    """
    where = os.path.abspath(arguments.local_path(path, "path"))
    for name, function in (("flush", flush), ("go_on", go_on)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: expected a function, found a {type(function).__name__}")
    _registered[where] = Registered(where, flush, go_on, truncates=arguments.flag(emptied, "emptied"))


def writers() -> list[Registered]:
    """What was registered."""
    return list(_registered.values())
