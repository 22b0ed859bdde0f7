"""The two kinds of sealed files: ``run.json`` (what a run is) and manifests (what a checkpoint is)."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from perdure.errors import DamagedError, FormatError
from perdure.store.packs import LONGEST_CHUNK, PACK_FILE, Chunk, Pack
from perdure.store.sealed import from_plain, seal, to_plain, unseal

FORMAT = 1
"""The version of the format that is written. Every version up to it is read."""

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"

_MANIFEST_FILE = re.compile(rf"{CHECKPOINTS}/(\d{{8,12}})\.json", re.ASCII)
_CHECKSUM = re.compile(r"[0-9a-f]{32}", re.ASCII)
_RUN_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LARGEST = 1 << 62


class NewerFormatError(FormatError):
    """The file is intact, but of a later version of the format than this Perdure reads."""


@dataclass(frozen=True)
class RunInfo:
    """What a run is.

    :param id: 32 hexadecimal digits, drawn when the run was created.
    :param created: when, in UTC, as ISO 8601.
    :param versions: of Python and the libraries, at that time.
    :param metadata: what the caller gave at that time.
    """

    id: str
    created: str
    versions: Mapping[str, str]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a manifest says of its checkpoint.

    :param number: counts the checkpoints of a run; a later one has a higher number.
    :param file: the manifest, relative to the run's directory.
    :param step: as given when it was committed.
    :param created: when, in UTC, as ISO 8601.
    :param bytes: size of all arrays together (not what it takes on disk, which checkpoints share).
    :param counters: as given when it was committed.
    :param metrics: as given when it was committed.
    :param tags: as given when it was committed.
    :param versions: of Python and the libraries, at that time.
    :param damage: what is wrong with it, in words; empty if nothing is known to be. Where it is not empty,
        everything but the number and the file is empty or 0.
    """

    number: int
    file: str
    step: int = 0
    created: str = ""
    bytes: int = 0
    counters: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    versions: Mapping[str, str] | None = None
    damage: str = ""


@dataclass(frozen=True)
class Manifest:
    """All of a manifest: the run, the checkpoint, the state's document, and where its arrays lie."""

    run: RunInfo
    info: CheckpointInfo
    document: Any
    packs: Sequence[Pack]
    arrays: Sequence[Sequence[Chunk]]


def manifest_name(number: int) -> str:
    """The name of the manifest of checkpoint `number`."""
    return f"{CHECKPOINTS}/{number:08d}.json"


def checkpoint_number(name: str) -> int | None:
    """The number of the checkpoint whose manifest has this name, or None if it is not a name of one."""
    match = _MANIFEST_FILE.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if manifest_name(number) == name else None


def now() -> str:
    """The time, in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@functools.cache
def library_versions() -> Mapping[str, str]:
    """The versions of Python and of the libraries that the numbers of any run depend on."""
    versions = {"python": platform.python_version()}
    for library in ("perdure", "torch", "numpy"):
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return MappingProxyType(versions)


def write_run(run: RunInfo) -> bytes:
    """The content of ``run.json``."""
    return seal("run", _run_body(run))


def read_run(data: bytes, where: str) -> RunInfo:
    """The run that the content of a ``run.json`` tells of.

    :raises DamagedError: if it is damaged.
    """
    return _parse_run(unseal("run", data, where), where)


def write_manifest(manifest: Manifest) -> bytes:
    """The content of a manifest's file."""
    info = manifest.info
    body = {
        "format": FORMAT,
        "run": _run_body(manifest.run),
        "checkpoint": info.number,
        "created": info.created,
        "step": info.step,
        "counters": to_plain(info.counters, "counters"),
        "metrics": to_plain(info.metrics, "metrics"),
        "tags": list(info.tags),
        "versions": info.versions,
        "state": manifest.document,
        "packs": manifest.packs,
        "arrays": manifest.arrays,
    }
    return seal("manifest", body)


def read_manifest(data: bytes, name: str, where: str, run_id: str | None = None) -> Manifest:
    """The manifest that is the content of the file `name`.

    :param where: the file in words, for messages.
    :param run_id: the run whose directory it lies in.
    :raises DamagedError: if it is damaged, or not in its place.
    :raises FormatError: if it is intact, but in a format that this version does not read.
    """
    body = unseal("manifest", data, where)
    _check_format(body, where)
    run = _parse_run(body.get("run"), where)
    if run_id is not None and run.id != run_id:
        raise DamagedError(
            f"{where} belongs to another run: its run is {run.id}, the run of this directory is {run_id}. "
            "Move it back to where it came from."
        )
    packs = [_parse_pack(entry, where) for entry in _typed(body, "packs", list, where)]
    arrays = [_parse_chunks(entry, packs, where) for entry in _typed(body, "arrays", list, where)]
    number = _whole(body.get("checkpoint"), "checkpoint", where)
    if number != checkpoint_number(name):
        raise DamagedError(
            f"{where} is the manifest of checkpoint {number}: it was renamed or put in another's place"
        )
    tags = _typed(body, "tags", list, where)
    if not all(isinstance(tag, str) for tag in tags):
        raise FormatError(f"{where}: expected strings as tags, found {tags!r:.200}")
    step = body.get("step")
    if type(step) is not int:
        raise FormatError(f"{where}: expected an integer as step, found {step!r:.80}")
    info = CheckpointInfo(
        number=number,
        file=name,
        step=step,
        created=_typed(body, "created", str, where),
        bytes=sum(chunk.length for array in arrays for chunk in array),
        counters=from_plain(_typed(body, "counters", dict, where)),
        metrics=from_plain(_typed(body, "metrics", dict, where)),
        tags=tuple(tags),
        versions=_typed(body, "versions", dict, where),
    )
    return Manifest(run, info, body.get("state"), packs, arrays)


def _run_body(run: RunInfo) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": run.id,
        "created": run.created,
        "versions": to_plain(run.versions, "versions"),
        "metadata": to_plain(run.metadata, "metadata"),
    }


def _parse_run(body: Any, where: str) -> RunInfo:
    if not isinstance(body, dict):
        raise FormatError(f"{where}: expected what run it belongs to, found {body!r:.80}")
    _check_format(body, where)
    run_id = _typed(body, "id", str, where)
    if not _RUN_ID.fullmatch(run_id):
        raise FormatError(f"{where}: expected 32 hexadecimal digits as the run's id, found {run_id!r:.80}")
    return RunInfo(
        run_id,
        _typed(body, "created", str, where),
        _typed(body, "versions", dict, where),
        from_plain(_typed(body, "metadata", dict, where)),
    )


def _check_format(body: dict[str, Any], where: str) -> None:
    version = _whole(body.get("format"), "format", where)
    if version > FORMAT:
        raise NewerFormatError(
            f"{where} is in version {version} of the format, written by a newer Perdure; this one reads up "
            f"to version {FORMAT}. Upgrade: pip install --upgrade perdure"
        )
    if version < 1:
        raise FormatError(f"{where}: there is no version {version} of the format")


def _parse_pack(entry: Any, where: str) -> Pack:
    if not (
        isinstance(entry, list)
        and len(entry) == 4
        and isinstance(entry[0], str)
        and PACK_FILE.fullmatch(entry[0])
    ):
        raise FormatError(f"{where}: expected file, size and header of a pack, found {entry!r:.200}")
    size, header = _whole(entry[1], "a pack's size", where), _whole(entry[2], "a header's length", where)
    if not 8 <= header <= size:
        raise FormatError(f"{where}: a header of {header} bytes does not fit a pack of {size} bytes")
    return Pack(entry[0], size, header, _checksum(entry[3], where))


def _parse_chunks(entry: Any, packs: Sequence[Pack], where: str) -> list[Chunk]:
    if not isinstance(entry, list):
        raise FormatError(f"{where}: expected a list of chunks, found {entry!r:.200}")
    chunks = []
    for item in entry:
        if not (isinstance(item, list) and len(item) == 4):
            raise FormatError(
                f"{where}: expected pack, offset, length and checksum of a chunk, found {item!r:.200}"
            )
        pack, offset, length = (_whole(part, "a part of a chunk", where) for part in item[:3])
        # Before anything is allocated or read by these numbers.
        if pack >= len(packs):
            raise FormatError(f"{where}: a chunk is said to be in pack {pack}, but there are {len(packs)}")
        if not 0 < length <= LONGEST_CHUNK or not packs[pack].header <= offset <= packs[pack].size - length:
            raise FormatError(
                f"{where}: {length} bytes at {offset} are not a chunk within {packs[pack].file}"
            )
        chunks.append(Chunk(pack, offset, length, _checksum(item[3], where)))
    return chunks


def _checksum(value: Any, where: str) -> str:
    if not (isinstance(value, str) and _CHECKSUM.fullmatch(value)):
        raise FormatError(f"{where}: expected a checksum of 32 hexadecimal digits, found {value!r:.80}")
    return value


def _whole(value: Any, what: str, where: str) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise FormatError(f"{where}: expected a whole number as {what}, found {value!r:.80}")
    return value


def _typed(body: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = body.get(key)
    if not isinstance(value, kind):
        raise FormatError(f"{where}: expected a {kind.__name__} as {key!r}, found {value!r:.80}")
    return value
