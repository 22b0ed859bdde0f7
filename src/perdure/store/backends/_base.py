"""What the store needs of a backend: five verbs and a lock. Knows names and bytes, and no runs, checkpoints or packs.

There is one for a local disk (:class:`perdure.store.LocalBackend`); an object store can be another. For a new backend,
subclass :class:`perdure.store.testing.BackendConformance`, which tests every promise made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from perdure.errors import StoreError
from perdure.store._files import Buffer

GET_LIMIT = 1 << 27
"""The largest object, in bytes, that :meth:`Backend.get` returns, and the longest text of JSON that is read.

Parsed JSON takes up to 35 times the memory of its text, so no file takes more than about five gigabytes of a reader's
memory. This is enough for a state of a million small objects."""

_LONGEST_NAME = 512
_LONGEST_PART = 200


class Entry(NamedTuple):
    """One stored object: its name, and its size in bytes."""

    name: str
    size: int


class Backend(Protocol):
    """Keeps bytes under names. Several threads may use it at the same time.

    A name is a relative POSIX path such as ``packs/00000012.safetensors``; every verb passes it through
    :func:`check_name` first. An object is written once and never changed: there is no verb that overwrites.

    If something fails for an outside reason (a full or read-only disk, no permission, no connection), it raises
    :class:`perdure.errors.StoreError` with a message that says what failed, where, and what to do.
    """

    def put(self, name: str, buffers: Iterable[Buffer]) -> None:
        """Store the concatenation of `buffers` under `name`, atomically and durably.

        After it returns, the object survives a power cut. Until then it either does not exist or is complete, also if
        the process dies meanwhile, or if `buffers` or the backend raises.

        :raises FileExistsError: if an object of that name exists already; it stays as it is.
        :raises StoreError: if it cannot be written.
        """
        ...

    def get(self, name: str) -> bytes:
        """The whole object. Meant for small ones.

        :raises FileNotFoundError: if there is none of that name.
        :raises DamagedError: if it is larger than :data:`GET_LIMIT`.
        :raises StoreError: if it cannot be read (:class:`DamagedError` if the reason is not a missing permission).
        """
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable) with the bytes of the object from `offset` on.

        :raises FileNotFoundError: if there is none of that name.
        :raises DamagedError: if the object ends before the buffer is full.
        :raises StoreError: if it cannot be read (:class:`DamagedError` if the reason is not a missing permission).
        """
        ...

    def list(self, directory: str) -> list[Entry]:
        """The objects directly in `directory`, sorted by name. ``""`` is the top.

        Unfinished objects are not listed. A directory that does not exist is empty.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove the object, durably: after it returns, a power cut does not bring it back.

        No error if there is no such object, so that it can be repeated.
        """
        ...

    def lock(self, wait: float) -> None:
        """Become the only writer, and remove unfinished objects of writers that died.

        The lock ends with the process that holds it, however that dies; its forked children do not keep it.

        :param wait: for how many seconds to try. A writer that was killed may need a moment to be gone.
        :raises LockedError: if another writer holds the lock; the message says who, and since when.
        :raises StoreError: if nothing can be written here at all.
        """
        ...

    def check_lock(self) -> None:
        """Check that the place which was locked is still there, and that nobody else writes to it.

        Called before anything is written or deleted. Without a lock nothing is checked; a backend that cannot tell does
        nothing here.

        :raises LockedError: if another writer has taken the lock nevertheless.
        :raises StoreError: if the place was removed, or something else is there now.
        """
        return

    def unlock(self) -> None:
        """Release the lock. No error if it is not held."""
        ...

    def locate(self, name: str) -> str:
        """Where an object is, for messages: a path, a URL."""
        ...


def put_new(backend: Backend, name: str, buffers: Iterable[Buffer]) -> None:
    """Put an object under a name that is new in the run.

    :raises StoreError: if something has that name nevertheless (a directory, say), or it cannot be written.
    """
    try:
        backend.put(name, buffers)
    except FileExistsError as error:
        raise StoreError(
            f"{backend.locate(name)} is in the way: something that is no file of this run has the name of the next "
            "one. Move it away"
        ) from error


def check_name(name: str) -> str:
    """The same name, if a backend may be given it.

    Names also come from files, which may be damaged or forged. So a name can lead only to something below the run's
    directory. Parts that begin with a dot are reserved for backends.

    :raises ValueError: if a backend may not be given it.
    """
    parts = name.split("/")
    problem = ""
    if not name or len(name) > _LONGEST_NAME:
        problem = f"it has {len(name)} characters, expected 1 to {_LONGEST_NAME}"
    elif not name.isascii() or not name.isprintable() or "\\" in name or ":" in name:
        problem = "it has a character other than printable ASCII, or a backslash or colon"
    elif any(not part or len(part) > _LONGEST_PART for part in parts):
        problem = f"one of its parts is empty or longer than {_LONGEST_PART} characters"
    elif any(part.startswith(".") for part in parts):
        problem = "one of its parts begins with a dot"
    if problem:
        raise ValueError(f"{name[:80]!r} is not a name that can be stored: {problem}")
    return name
