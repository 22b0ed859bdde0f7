"""What the store needs of a place that keeps bytes under names: five verbs and a lock.

A backend knows names and bytes, and nothing of runs, checkpoints or packs. There is one for a local disk
(:class:`perdure.store.LocalBackend`); an object store can be another. Whoever writes one subclasses
:class:`perdure.store.testing.BackendConformance`, which tests every promise made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from perdure.errors import StoreError
from perdure.store._files import Buffer

GET_LIMIT = 1 << 27
"""The largest object, in bytes, that :meth:`Backend.get` returns, and the longest text of JSON that is read.

As objects of Python, JSON takes up to 35 times its size: so no file takes more than some five gigabytes of a reader's
memory. It is enough for a state of a million small objects."""

_LONGEST_NAME = 512
_LONGEST_PART = 200


class Entry(NamedTuple):
    """One stored object: its name, and its size in bytes."""

    name: str
    size: int


class Backend(Protocol):
    """A place that keeps bytes under names; several threads may use it at the same time.

    A name is a relative POSIX path such as ``packs/00000012.safetensors``; every verb passes it through
    :func:`check_name` first. An object is written once and never changed: there is no verb that overwrites.

    Whatever fails for a reason of the place itself (full, read-only, no permission, unreachable) raises
    :class:`perdure.errors.StoreError`, with a message that says what failed, where, and what to do.
    """

    def put(self, name: str, buffers: Iterable[Buffer]) -> None:
        """Store the concatenation of `buffers` under `name`; whole, durable and atomic.

        After it returns, the object is there and survives a power cut. Before that it is either not there or
        there as a whole; the same holds if the process dies on the way, or if `buffers` or the place raises.

        :raises FileExistsError: if there is an object of that name already, which stays as it is.
        :raises StoreError: if it cannot be written.
        """
        ...

    def get(self, name: str) -> bytes:
        """The whole object. Meant for small ones.

        :raises FileNotFoundError: if there is none of that name.
        :raises DamagedError: if it is larger than :data:`GET_LIMIT`.
        :raises StoreError: if it cannot be read (:class:`DamagedError` where that is not for want of
            permission).
        """
        ...

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` (flat, writable) with the bytes of the object from `offset` on.

        :raises FileNotFoundError: if there is none of that name.
        :raises DamagedError: if the object ends before the buffer is full.
        :raises StoreError: if it cannot be read (:class:`DamagedError` where that is not for want of
            permission).
        """
        ...

    def list(self, directory: str) -> list[Entry]:
        """The objects directly in `directory`, sorted by name. ``""`` is the top.

        What has not been stored whole is not listed. A directory that does not exist is empty.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove the object, durably: after it returns, a power cut does not bring it back.

        No error if there is none of that name, so that it can be repeated.
        """
        ...

    def lock(self, wait: float) -> None:
        """Become the one writer, and remove what writers that died left half-written.

        The lock ends with the process that holds it, however it dies; children that it forked do not keep it.

        :param wait: for how many seconds to try. A writer that was killed may need a moment to be gone.
        :raises LockedError: if another writer holds the lock; the message says who, and since when.
        :raises StoreError: if one cannot write here at all.
        """
        ...

    def unlock(self) -> None:
        """Give the lock back; no error if it is not held."""
        ...

    def locate(self, name: str) -> str:
        """Where an object is, in words for a person: a path, a URL."""
        ...


def put_new(backend: Backend, name: str, buffers: Iterable[Buffer]) -> None:
    """Put an object whose name no object of the run can have.

    :raises StoreError: if something has that name all the same (a directory, say), or it cannot be written.
    """
    try:
        backend.put(name, buffers)
    except FileExistsError as error:
        raise StoreError(
            f"{backend.locate(name)} is in the way: something that is no file of this run has the name of the next "
            "one. Move it away"
        ) from error


def check_name(name: str) -> str:
    """The name itself, if it is one that a backend may be given.

    Names come out of files too, which may be damaged or made by someone hostile; so a name can only lead
    below the directory of the run. Parts that begin with a dot are for the backend's own use.

    :raises ValueError: if it is not.
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
