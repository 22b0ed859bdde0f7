"""Write and read ``run.json`` (what a run is) and manifests (what a checkpoint is).

It knows bytes and fields, and reads no files itself.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from perdure.errors import DamagedError, UnsupportedFormatError
from perdure.store._checksummed_json import (
    dump_checksummed,
    from_plain,
    load_checksummed,
    load_json,
    to_plain,
    verified,
)
from perdure.store._layout import CODECS, MOST_PAGES, ZERO, Chunk, Extent, Layout, Page, checked

FORMAT = 1
"""The version of the format that is written. Every version up to it is read."""

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"

_MANIFEST_FILE = re.compile(rf"{CHECKPOINTS}/(\d{{8,12}})\.json", re.ASCII)
_CHECKSUM = re.compile(r"[0-9a-f]{32}", re.ASCII)
_RUN_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LARGEST = 1 << 62


@dataclass(frozen=True)
class RunInfo:
    """What a run is.

    :param id: 32 hexadecimal digits, drawn when the run was created.
    :param created: when, in UTC, as ISO 8601.
    :param versions: of Python and the libraries when it was created.
    :param metadata: what the caller gave when it was created.
    """

    id: str
    created: str
    versions: Mapping[str, str]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a manifest says of its checkpoint.

    :param number: a later checkpoint of a run has a higher number.
    :param file: the manifest, relative to the run's directory.
    :param step: as given when it was committed.
    :param created: when, in UTC, as ISO 8601.
    :param bytes: size of all arrays together. On disk it takes less, because checkpoints share data.
    :param counters: as given when it was committed.
    :param metrics: as given when it was committed.
    :param tags: as given when it was committed.
    :param versions: of Python and the libraries when it was committed.
    :param process: which process committed it: its command, the commit of its code, its machine.
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
    process: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """All of a manifest: the run, the checkpoint, the state's document, and where its arrays lie.

    :param packs: the packs that the checkpoint needs.
    :param arrays: where each array lies. Pages of extents are empty until they are read.
    """

    run: RunInfo
    info: CheckpointInfo
    document: Any
    packs: Sequence[int]
    arrays: Sequence[Layout]


def manifest_name(number: int) -> str:
    """The name of the manifest of checkpoint `number`."""
    return f"{CHECKPOINTS}/{number:08d}.json"


def checkpoint_number(name: str) -> int | None:
    """The number of the checkpoint whose manifest has this name, or None if no manifest has such a name."""
    match = _MANIFEST_FILE.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if manifest_name(number) == name else None


def now() -> str:
    """The time, in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


#: Packages that the numbers of a run depend on if it uses them: the module, and what it is installed as.
_PEERS = {
    "gymnasium": "gymnasium",
    "gym": "gym",
    "pettingzoo": "pettingzoo",
    "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
    "tianshou": "tianshou",
    "torchrl": "torchrl",
    "tensordict": "tensordict",
    "mujoco": "mujoco",
    "dm_control": "dm-control",
    "ale_py": "ale-py",
    "Box2D": "box2d",
    "pygame": "pygame",
    "numba": "numba",
    "scipy": "scipy",
    "pandas": "pandas",
}


def library_versions() -> Mapping[str, str]:
    """The versions of Python, of the libraries that the numbers of any run depend on, and of training and environment
    libraries that this process has imported."""
    versions = {"python": platform.python_version()}
    used = [distribution for module, distribution in _PEERS.items() if module in sys.modules]
    for library in ("perdure", "torch", "numpy", *used):
        if (version := _version(library)) is not None:
            versions[library] = version
    return versions


@functools.cache
def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_run(run: RunInfo) -> bytes:
    """The content of ``run.json``."""
    return dump_checksummed("run", _run_body(run))


def read_run(data: bytes, where: str) -> RunInfo:
    """The run that the content of a ``run.json`` describes.

    :param where: the file in words, for messages.
    :raises DamagedError: if it is damaged.
    :raises UnsupportedFormatError: if a newer Perdure wrote it.
    """
    return _parse_run(load_checksummed("run", data, where), where)


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
        **({} if info.process is None else {"process": to_plain(info.process, "process")}),
        "state": manifest.document,
        "packs": list(manifest.packs),
        "arrays": [_dump_layout(layout) for layout in manifest.arrays],
    }
    return dump_checksummed("manifest", body)


def read_manifest(data: bytes, name: str, where: str, run_id: str | None = None) -> Manifest:
    """The manifest in the file `name`, whose content is `data`.

    :param where: the file in words, for messages.
    :param run_id: the run in whose directory the file is.
    :raises DamagedError: if it is damaged, or not in its place.
    :raises UnsupportedFormatError: if a newer Perdure wrote it.
    """
    body = load_checksummed("manifest", data, where)
    _check_format(body, where)
    run = _parse_run(body.get("run"), where)
    _check_place(body, run, name, where, run_id)
    packs = [_whole(entry, "a pack's number", where) for entry in _typed(body, "packs", list, where)]
    there = frozenset(packs)
    arrays = [_parse_layout(entry, there, where) for entry in _typed(body, "arrays", list, where)]
    info = _parse_info(body, name, where, sum(layout.nbytes for layout in arrays))
    return Manifest(run, info, body.get("state"), packs, arrays)


def _check_place(body: dict[str, Any], run: RunInfo, name: str, where: str, run_id: str | None) -> None:
    if run_id is not None and run.id != run_id:
        raise DamagedError(
            f"{where} belongs to another run: its run is {run.id}, the run of this directory is {run_id}. "
            "Move it back to the other run."
        )
    number = _whole(body.get("checkpoint"), "checkpoint", where)
    if number != checkpoint_number(name):
        raise DamagedError(
            f"{where} is the manifest of checkpoint {number}: it was renamed, or copied over another one"
        )


def _parse_info(body: dict[str, Any], name: str, where: str, nbytes: int) -> CheckpointInfo:
    tags = _typed(body, "tags", list, where)
    if not all(isinstance(tag, str) for tag in tags):
        raise DamagedError(f"{where}: expected strings as tags, found {tags!r:.200}")
    step = body.get("step")
    if type(step) is not int:
        raise DamagedError(f"{where}: expected an integer as step, found {step!r:.80}")
    return CheckpointInfo(
        number=_whole(body.get("checkpoint"), "checkpoint", where),
        file=name,
        step=step,
        created=_typed(body, "created", str, where),
        bytes=nbytes,
        counters=from_plain(_typed(body, "counters", dict, where)),
        metrics=from_plain(_typed(body, "metrics", dict, where)),
        tags=tuple(tags),
        versions=_typed(body, "versions", dict, where),
        process=_typed(body, "process", dict, where) if "process" in body else None,
    )


class Head(NamedTuple):
    """What a manifest says of its checkpoint, without the state and where its arrays lie.

    :param info: without the number of its bytes.
    :param least: the size that each of its packs has at least, as far as the manifest itself says.
    """

    run: RunInfo
    info: CheckpointInfo
    least: Mapping[int, int]


def read_head(data: bytes, name: str, where: str, run_id: str | None = None) -> Head:
    """The head of the manifest in the file `name`, after its checksum was verified. Most of the file is not parsed.

    Takes and raises what :func:`read_manifest` does; but what is wrong with the rest of a forged manifest is not found.
    """
    content = verified("manifest", data, where)
    body = _head_of(content, where)
    _check_format(body, where)
    run = _parse_run(body.get("run"), where)
    _check_place(body, run, name, where, run_id)
    packs = _PACKS.search(content, max(0, content.rfind(_PACKS_KEY)))
    least = dict.fromkeys(map(int, packs[1].split(b",")) if packs and packs[1] else (), 0)
    for match in _STORED.finditer(content, packs.end() if packs else len(content)):
        pack, offset, stored = map(int, match.groups())
        least[pack] = max(least.get(pack, 0), offset + stored)
    return Head(run, _parse_info(body, name, where, 0), {pack: size for pack, size in least.items() if pack})


# In JSON as Perdure writes it: the list of packs, and of each chunk its pack, its offset and how much is stored.
_STATE_KEY, _PACKS_KEY = b',"state":', b',"packs":['
_PACKS = re.compile(rb',"packs":\[((?:\d{1,20}(?:,\d{1,20})*)?)\],"arrays":')
_STORED = re.compile(rb'(\d{1,20}),(\d{1,20}),(\d{1,20}),\d{1,20},"')
_MOST_STATES = 8
_HEAD = {"format", "run", "checkpoint", "created", "step", "counters", "metrics", "tags", "versions"}


def _head_of(content: bytes, where: str) -> dict[str, Any]:
    """The keys that come before the state, as a document; all of them if that cannot be told."""
    at = -1
    for _ in range(_MOST_STATES):
        # Metrics may have this key too; but cut off there, they are no JSON.
        if (at := content.find(_STATE_KEY, at + 1)) < 0:
            break
        with suppress(DamagedError):
            body = load_json(content[:at] + b"}", where)
            if isinstance(body, dict) and body.keys() >= _HEAD:
                return body
    body = load_json(content, where)
    if not isinstance(body, dict):
        raise DamagedError(f"{where}: expected a JSON object in it, found {type(body).__name__}")
    return body


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
        raise DamagedError(f"{where}: expected the run that it belongs to, found {body!r:.80}")
    _check_format(body, where)
    run_id = _typed(body, "id", str, where)
    if not _RUN_ID.fullmatch(run_id):
        raise DamagedError(f"{where}: expected 32 hexadecimal digits as the run's id, found {run_id!r:.80}")
    return RunInfo(
        run_id,
        _typed(body, "created", str, where),
        _typed(body, "versions", dict, where),
        from_plain(_typed(body, "metadata", dict, where)),
    )


def _check_format(body: dict[str, Any], where: str) -> None:
    version = _whole(body.get("format"), "format", where)
    if version > FORMAT:
        raise UnsupportedFormatError(
            f"{where} has version {version} of the format, which a newer Perdure wrote; this one reads versions up "
            f"to {FORMAT}. Upgrade: pip install --upgrade perdure"
        )
    if version < 1:
        raise DamagedError(f"{where}: there is no version {version} of the format")


def _dump_layout(layout: Layout) -> Any:
    if any(page.kept is not None for page in layout.pages):
        pages = [None if page.kept is None else [page.start, *page.kept] for page in layout.pages]
        return {"nbytes": layout.nbytes, "span": layout.span, "pages": pages}
    return [
        [*extent.chunk] if extent.whole else [*extent.chunk, extent.skip, extent.take]
        for extent in layout.extents()
    ]


def _parse_layout(entry: Any, packs: frozenset[int], where: str) -> Layout:
    if isinstance(entry, dict):
        nbytes, span = (_whole(entry.get(key), key, where) for key in ("nbytes", "span"))
        pages = _typed(entry, "pages", list, where)
        if not (0 < len(pages) <= MOST_PAGES and span and -(-nbytes // span) == len(pages)):
            raise DamagedError(f"{where}: {len(pages)} pages of {span} bytes for an array of {nbytes}")
        return Layout(
            nbytes, span, [_parse_page(page, n * span, packs, where) for n, page in enumerate(pages)]
        )
    if not isinstance(entry, list):
        raise DamagedError(f"{where}: expected the extents of an array, found {entry!r:.200}")
    extents = [_parse_extent(item, packs, where) for item in entry]
    return Layout.of(sum(extent.take for extent in extents), extents)


def _parse_page(entry: Any, start: int, packs: frozenset[int], where: str) -> Page:
    if entry is None:
        return Page(start, ())
    if not isinstance(entry, list) or len(entry) != 7:
        raise DamagedError(f"{where}: expected a page of extents, found {entry!r:.200}")
    extent = _parse_extent(entry[1:], packs, where)
    return Page(_whole(entry[0], "where a page starts", where), (), extent.chunk)


def _parse_extent(entry: Any, packs: frozenset[int], where: str) -> Extent:
    if not isinstance(entry, list) or len(entry) not in (6, 8) or entry[4] not in CODECS:
        raise DamagedError(
            f"{where}: expected a chunk's pack, offset, bytes stored, length, codec and checksum, and which part of "
            f"it is used, found {entry!r:.200}"
        )
    pack, offset, stored, length = (_whole(part, "a part of a chunk", where) for part in entry[:4])
    chunk = Chunk(pack, offset, stored, length, entry[4], _checksum(entry[5], where))
    skip, take = (_whole(part, "a part of a chunk", where) for part in entry[6:] or (0, length))
    if chunk.codec != ZERO and pack not in packs:
        raise DamagedError(
            f"{where}: a chunk is said to be in pack {pack}, which is not in the manifest's list of packs"
        )
    return checked(Extent(chunk, skip, take), where)


def _checksum(value: Any, where: str) -> str:
    if not (isinstance(value, str) and _CHECKSUM.fullmatch(value)):
        raise DamagedError(f"{where}: expected a checksum of 32 hexadecimal digits, found {value!r:.80}")
    return value


def _whole(value: Any, what: str, where: str) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise DamagedError(f"{where}: expected a whole number as {what}, found {value!r:.80}")
    return value


def _typed(body: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = body.get(key)
    if not isinstance(value, kind):
        raise DamagedError(f"{where}: expected a {kind.__name__} as {key!r}, found {value!r:.80}")
    return value
