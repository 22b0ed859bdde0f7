"""What the tests of damage share: small runs, what is to be found in them, and ways to damage them.

Only what anyone can do is done here: files are changed as bytes, runs are opened by `Store` and `Run`. So these tests
hold for every version of the format.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import perdure
from perdure.errors import PerdureError, PerdureWarning, StoreError
from perdure.state import capture, diff, restore
from perdure.store import Problem, Store
from perdure.store.testing import MemoryBackend
from perdure.tree import Array, Object, State

Files = dict[str, bytes]


# -- small runs ----------------------------------------------------------------------------------------------


def arrays_at(step: int) -> dict[str, np.ndarray[Any, Any]]:
    """Some that never change, some that always do, and some that do now and then."""
    return {
        "same": np.arange(5, dtype=np.uint8),
        "new": np.array([step, 1], np.uint8),
        "half": np.full(3, step // 2, np.int16),
    }


def state_of(arrays: dict[str, np.ndarray[Any, Any]]) -> State:
    fields = {
        name: Array("numpy", a.dtype.str, a.shape, tuple(range(a.ndim)), a, name=f"world.{name}")
        for name, a in arrays.items()
    }
    return State(Object("World", fields))


def small_store(steps: tuple[int, ...] = (1, 2, 3)) -> Files:
    """The files of a run whose every byte can be tried."""
    backend = MemoryBackend()
    with Store.open(backend, write=True) as store:
        for step in steps:
            store.commit(state_of(arrays_at(step)), step=step, metrics={"reward": 0.5}, tags=["x"])
    return dict(backend.objects)


def make_world(step: int = 0) -> perdure.World:
    """A world that trains; what it holds after `step` steps follows from that number alone."""
    torch.manual_seed(7)
    world = perdure.World(
        net=torch.nn.Linear(2, 1), seen=np.zeros(4, np.float32), log=[], rng=np.random.default_rng(3)
    )
    for number in range(step):
        train(world, number)
    return world


def train(world: Any, number: int) -> None:
    with torch.no_grad():
        world.net.weight += float(world.rng.normal())
    world.seen[number % 4] = number
    world.log.append(number)


def small_run(directory: Path, checkpoints: int = 3) -> Path:
    """A run on a disk, as `Run` makes it: checkpoints, and a published best policy."""
    with perdure.Run(directory, keep=checkpoints) as run:
        world = make_world()
        for number in range(checkpoints):
            train(world, number)
            if number == checkpoints - 2:
                run.report_score(1.5, world)
            run.checkpoint(world, number + 1)
    return directory


def files_of(directory: Path) -> Files:
    """Every file of a run, by name; what links lead to is listed once."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.name != ".lock"
        and not _below_link(path, directory)
    }


def _below_link(path: Path, directory: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents if parent != directory)


def files_of_store(files: Files) -> Files:
    """Those that the store reads."""
    return {name: content for name, content in files.items() if not name.startswith("policies/")}


def in_memory(files: Files) -> MemoryBackend:
    backend = MemoryBackend()
    backend.objects.update(files)
    return backend


# -- what is to be found -------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What becomes of a run.

    :param opened: whether it could be opened at all.
    :param warned: whether there was a warning on opening it.
    :param read: for each checkpoint, the content that was read; None where it could not be.
    :param newest: the number of the newest one that `latest` gives; None if it raises or there are none.
    :param problems: of `verify`, those that are no harmless notes; None if it could not be opened.
    :param notes: of `verify`, the harmless ones.
    """

    opened: bool
    warned: bool
    read: dict[int, bytes | None]
    newest: int | None
    problems: list[Problem]
    notes: list[Problem]


def content_of(state: State) -> bytes:
    """All that a state holds, as bytes that can be compared."""
    parts = []
    for path, leaf in state.leaves():
        data = getattr(leaf, "data", None)
        if isinstance(leaf, Array) and data is not None:
            if isinstance(data, np.ndarray | torch.Tensor):
                parts.append(f"{path}={np.asarray(data).tobytes()!r}")
                continue
            buffer = bytearray(data.nbytes)
            data.read_into(memoryview(buffer))
            parts.append(f"{path}={bytes(buffer)!r}")
        else:
            parts.append(f"{path}={leaf!r:.200}" if not hasattr(leaf, "__slots__") else path)
    return "\n".join(parts).encode()


def find(files: Files) -> Found:
    """What reading and what checking make of the files of a store."""
    backend = in_memory(files)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PerdureWarning)
        try:
            store = Store.open(backend)
        except StoreError:
            return Found(False, False, {}, None, [], [])
        warned = bool(caught)
        read: dict[int, bytes | None] = {}
        for info in store.checkpoints():
            try:
                checkpoint = store.read(info.number)
                read[info.number] = content_of(checkpoint.state) + repr(checkpoint.info).encode()
            except StoreError:
                read[info.number] = None
        try:
            latest = store.latest()
            newest = None if latest is None else latest.info.number
        except StoreError:
            newest = None
        found = store.verify()
    return Found(
        True,
        warned,
        read,
        newest,
        [each for each in found if not each.harmless],
        [each for each in found if each.harmless],
    )


# -- ways to damage ------------------------------------------------------------------------------------------


class Damage(NamedTuple):
    """A damaged copy of the files of a run.

    :param what: in words.
    :param name: the file that it was done to.
    """

    what: str
    name: str
    files: Files


def flips(files: Files, every: int = 1, first: int = 0) -> Iterator[Damage]:
    """One bit of each byte of each file, another one from byte to byte; or of every so many-th byte."""
    for name, content in files.items():
        for at in range(first % max(1, min(every, len(content))), len(content), every):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            yield Damage(f"bit {at % 8} of byte {at} of {name}", name, {**files, name: bytes(damaged)})


def cuts(files: Files, every: int = 1) -> Iterator[Damage]:
    """Each file cut off at each length, and with something added."""
    for name, content in files.items():
        for length in range(0, len(content), every):
            yield Damage(f"{name} cut off at {length}", name, {**files, name: content[:length]})
        for more in (b"\0", b"\n", b"x" * 100, content):
            yield Damage(f"{name} with {len(more)} bytes more", name, {**files, name: content + more})


def deletions(files: Files) -> Iterator[Damage]:
    for name in files:
        yield Damage(f"{name} deleted", name, {other: files[other] for other in files if other != name})


def swaps(files: Files, other: Files) -> Iterator[Damage]:
    """Files of one checkpoint in the place of those of another, files of another run in the place of the run's."""
    names = list(files)
    for a in names:
        for b in names:
            if a != b and _folder(a) == _folder(b) and files[a] != files[b]:
                yield Damage(f"a copy of {b} at {a}", a, {**files, a: files[b]})
                if a < b:
                    yield Damage(f"{a} and {b} swapped", a, {**files, a: files[b], b: files[a]})
        for b in other:
            if _folder(a) == _folder(b):
                yield Damage(f"another run's {b} at {a}", a, {**files, a: other[b]})


def renames(files: Files) -> Iterator[Damage]:
    """Files under other names: of a later number, of an earlier one, and of none."""
    for name in files:
        folder, _, leaf = name.rpartition("/")
        stem, dot, ending = leaf.partition(".")
        for new in (
            f"{leaf}.bak",
            f"old-{leaf}",
            f"{99:0{len(stem)}}{dot}{ending}",
            f"{stem[:-1]}{dot}{ending}",
        ):
            renamed = f"{folder}/{new}" if folder else new
            rest = {other: files[other] for other in files if other != name}
            yield Damage(f"{name} renamed to {renamed}", name, {**rest, renamed: files[name]})


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


# -- on a disk -----------------------------------------------------------------------------------------------


def write_files(directory: Path, files: Files) -> Path:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def resumed(directory: Path) -> tuple[int | None, list[str], str | None]:
    """Resume in a directory: the step, the warnings, and the error if there is one.

    What was restored is compared with what an undamaged run has at that step.
    """
    world = make_world()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PerdureWarning)
        try:
            with perdure.Run(directory) as run:
                info = run.resume(world)
        except PerdureError as error:
            return None, [str(each.message) for each in caught], str(error)
    step = None if info is None else info.step
    if step is not None:
        expected = capture(make_world(step))
        assert diff(expected, capture(world), ignore=("rng.*",)) == []
        restore(expected, world)
    return step, [str(each.message) for each in caught], None


def exhaustive() -> bool:
    """Whether everything is to be tried, however long it takes: `make damage` says so."""
    return os.environ.get("PERDURE_EXHAUSTIVE", "") not in ("", "0")
