"""Reads a policy file as data: gives the objects that its pickle describes, and runs nothing of it.

Unpickling is running a program that the file brings. Here none runs; the file goes through these steps, each in a
module of its own:

1. `_archive` takes the records out of the archive, within bounds: one pickle, and the data of the tensors. `_legacy`
   does so for files of torch before 1.6, which are no archives.
2. `_pickle_steps` follows the pickle with symbols in the place of objects. It gives a list of steps: which object is
   made of what, and what is put into it. A `Budget` counts the memory that all of this takes, from here on.
3. `_allowlist` says what the names in it stand for: plain classes, the classes of the live policy, and what the user
   trusts. It imports nothing. Whatever is missing, or could not be made, is said at once (`_refusal`).
4. `_making` makes the objects, step by step. Those of classes are made blank (`_classes`) and get their attributes
   (`_objects`, `_class_rules`); which classes may be made blank, and which attributes would take the place of a method,
   is said by `perdure.state`, for checkpoints too. Tensors get their memory (`_storages`). Where a pickle calls a
   function, a builder of our own does what that function would do (`_builders`, and a module for each kind of value).
   Keys of dictionaries and sets are such as Python can hash quickly without running anybody's code (`_hashing`). In the
   end `_modules` looks at the modules.

The steps know no files. Their own errors (`MalformedError`, `NotMadeError`) become those that users know here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from perdure._lazy import publish
from perdure.errors import DamagedError, UntrustedError
from perdure.persistence.checksums import REMEDY
from perdure.persistence.reading._allowlist import Everything, Names, Trust, Trusted
from perdure.persistence.reading._archive import Archive, read_archive
from perdure.persistence.reading._classes import NotMadeError
from perdure.persistence.reading._legacy import is_legacy, read_legacy
from perdure.persistence.reading._making import Making
from perdure.persistence.reading._modules import to_evaluation
from perdure.persistence.reading._pickle_steps import Budget, MalformedError, parse
from perdure.persistence.reading._refusal import refusal
from perdure.persistence.reading._storages import LiveStorages, Storages, TDevice

__all__ = [
    "Names",
    "TDevice",
    "Trust",
    "Trusted",
    "read_policy",
    "to_evaluation",
    "why_not_read",
]


def read_policy(content: bytes, path: str, device: TDevice, names: Names) -> Any:
    """The object in a policy file.

    :param content: of the whole file.
    :param path: for messages.
    :param names: what it may use.
    :raises UntrustedError: if it needs anything else, all of which is named.
    :raises DamagedError: if it is not such as torch writes.
    """
    try:
        return _read(content, path, device, names)
    except MalformedError as error:
        raise DamagedError(f"{path} {error}. Nothing of it was run. {REMEDY}") from error
    except NotMadeError as error:
        raise UntrustedError(
            f"{path} is refused: {error.name}: {error.reason}. Nothing of it was run.", [error.name]
        ) from error


def _read(content: bytes, path: str, device: TDevice, names: Names) -> Any:
    old = is_legacy(content)
    archive = Archive(content, {}) if old else read_archive(content)
    length = min(len(archive.pickle), len(content))
    budget = Budget(length)
    try:
        if old:
            program, data, length = read_legacy(content, budget)
        else:
            program, data = parse(archive.pickle, budget), archive.data
        making = Making(program, names, Storages(data, device), budget, length)
        refusals = making.check()
        if refusals.missing or refusals.faults:
            raise UntrustedError(
                refusal(path, refusals, names.runs_methods), sorted([*refusals.missing, *refusals.faults])
            )
        return making.make()
    except MalformedError as error:
        raise MalformedError(f"is damaged: its pickle {error}") from error


def why_not_read(pickle: bytes, storages: Mapping[str, torch.UntypedStorage]) -> str | None:
    """Why a pickle that was just written could not be read back, or None if it can.

    :param storages: the memory of the live tensors in it, by the keys in the pickle.
    """
    try:
        return _why_not_read(pickle, storages)
    except (MalformedError, NotMadeError) as error:
        return str(error)


def _why_not_read(pickle: bytes, storages: Mapping[str, torch.UntypedStorage]) -> str | None:
    budget = Budget(len(pickle))
    program = parse(pickle, budget)
    making = Making(program, Everything(), LiveStorages(storages), budget, len(pickle))
    refusals = making.check()
    if refusals.faults:
        name, reason = next(iter(refusals.faults.items()))
        return f"{name}: {reason}"
    if refusals.missing:
        return f"{refusals.missing[0]} is not found under that name"
    making.make()
    return None


publish(globals())
