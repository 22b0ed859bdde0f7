"""Opens the run that a backend holds, or creates one. Knows ``run.json`` and manifests, and no arrays."""

from __future__ import annotations

import warnings

from perdure.errors import DamagedError, PerdureWarning, StoreError, user_level
from perdure.store._checksummed_json import is_of_another_program
from perdure.store._manifest import (
    RUN_FILE,
    RunInfo,
    manifest_name,
    read_head,
    read_run,
    write_run,
)
from perdure.store._reading import checkpoint_numbers, load_manifest
from perdure.store.backends import Backend


def open_run(backend: Backend, create: RunInfo | None = None) -> RunInfo:
    """The run that `backend` holds.

    A run must not be lost together with one small file. So every manifest has a copy of ``run.json``, which is restored
    from the newest one.

    :param create: the run to create if there is none. Only a writer, who holds the lock, may give one.
    :raises DamagedError: if ``run.json`` is damaged, and no manifest can be read.
    :raises UnsupportedFormatError: if a newer Perdure wrote the run.
    :raises StoreError: if there is no run, and none is to be created.
    """
    where = backend.locate(RUN_FILE)
    try:
        content = backend.get(RUN_FILE)
        if is_of_another_program(content) and not checkpoint_numbers(backend):
            raise StoreError(
                f"{where} was written by another program: there is no run of Perdure in {backend.locate('')}. Use "
                "another directory"
            )
        run = read_run(content, where)
        numbers = checkpoint_numbers(backend)
        if not _is_of_another(backend, numbers, run):
            return run
        problem = f"{where} is that of another run, {run.id}, than every checkpoint here"
    except FileNotFoundError:
        if not (numbers := checkpoint_numbers(backend)):
            if create is None:
                raise StoreError(
                    f"there is no run in {backend.locate('')}: expected {where}. Check the path; a run is "
                    "created when it is opened for writing."
                ) from None
            backend.put(RUN_FILE, [write_run(create)])
            return create
        problem = f"{where} is missing"
    except DamagedError as error:
        numbers = checkpoint_numbers(backend)
        problem = str(error)
    run = _from_manifests(backend, numbers, problem)
    if create is not None:
        # Killed in between, it is missing: then the next writer comes here again.
        backend.delete(RUN_FILE)
        backend.put(RUN_FILE, [write_run(run)])
    warnings.warn(
        f"{problem}. What it said was taken from a manifest{' and written anew' if create else ''}; nothing "
        "is lost.",
        PerdureWarning,
        stacklevel=user_level(),
    )
    return run


def _is_of_another(backend: Backend, numbers: list[int], run: RunInfo) -> bool:
    """Whether ``run.json`` was put in the place of the right one: no manifest agrees with it, but all with each other.

    In a run that is as it should be, that takes the newest manifest and no more.
    """
    found: set[str] = set()
    for number in reversed(numbers):
        try:
            name = manifest_name(number)
            found.add(read_head(backend.get(name), name, backend.locate(name)).run.id)
        except (StoreError, FileNotFoundError):
            continue
        if run.id in found or len(found) > 1:
            return False
    return bool(found)


def _from_manifests(backend: Backend, numbers: list[int], problem: str) -> RunInfo:
    for number in reversed(numbers):
        try:
            return load_manifest(backend, number).run
        except (DamagedError, FileNotFoundError):
            continue
    raise DamagedError(
        f"{problem}, and there is no manifest to restore it from ({len(numbers)} are there, none can be "
        "read). Use a copy of the run, or another directory."
    )
