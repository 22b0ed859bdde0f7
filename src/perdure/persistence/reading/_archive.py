"""The records of the archive that torch.save writes, each checked and within bounds. Knows no pickles."""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from typing import NamedTuple

from perdure.persistence.reading._pickle_steps import MalformedError

MOST_INFLATED = 16
"""How many bytes a byte of a compressed archive may become."""
_FLOOR = 1 << 20
_MOST_PICKLED = 4
_PICKLE_FLOOR = 1 << 18
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DIRECTORY_ENTRY = 46
_MOST_ENTRIES = 1 << 20

# Names that are not marked as UTF-8 have this encoding, which Python imports when it is first used.
"".encode("cp437")


class Archive(NamedTuple):
    """What a policy file holds.

    :param pickle: the objects.
    :param data: of the tensors, by key.
    """

    pickle: bytes
    data: dict[str, memoryview]


def read_archive(content: bytes) -> Archive:
    """The records of a file that torch.save wrote.

    :raises MalformedError: if it is not one, a checksum is wrong, or a record becomes too large.
    """
    if not content.startswith(b"PK"):
        raise MalformedError(
            "is damaged, cut off, or not a file that torch.save wrote. If a torch older than 0.2 wrote it, load it "
            "with that and save its state dictionary with a newer one"
        )
    try:
        records = _records(content)
    except MalformedError:
        raise
    except Exception as error:  # zipfile raises what it comes upon: BadZipFile, zlib.error, struct.error, ...
        raise MalformedError(f"is damaged or cut off: {error!s:.200}") from error
    return _sorted_out(records)


def _records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        _check_sizes(entries, len(content))
        records = {}
        for entry in entries:
            if entry.filename in records:
                raise MalformedError(f"is damaged: it has two records {entry.filename!r:.80}")
            try:
                records[entry.filename] = archive.read(entry)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise MalformedError(
                    f"is damaged: its record {entry.filename!r:.80} is not what was written: {error!s:.200}"
                ) from error
    return records


def _check_sizes(entries: list[zipfile.ZipInfo], length: int) -> None:
    stored = sum(entry.compress_size for entry in entries)
    if stored > length or len(entries) > min(_MOST_ENTRIES, length // _DIRECTORY_ENTRY):
        raise MalformedError("is damaged: its records lie in each other")
    for entry in entries:
        if entry.compress_type not in _METHODS or entry.flag_bits & 1:
            raise MalformedError(
                f"is refused: its record {entry.filename!r:.80} is compressed in a way that torch never uses"
            )
        most = max(_MOST_PICKLED * length, _PICKLE_FLOOR)
        if entry.filename.endswith("/data.pkl") and entry.file_size > most:
            raise MalformedError("is refused: it is compressed, and would become far larger")
    if sum(entry.file_size for entry in entries) > max(MOST_INFLATED * length, _FLOOR):
        raise MalformedError(
            f"is refused: it is compressed, and would become more than {MOST_INFLATED} times as large"
        )


def _sorted_out(records: dict[str, bytes]) -> Archive:
    roots = [name.removesuffix("/data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise MalformedError("is damaged, or not a file that torch.save wrote: it has no record data.pkl")
    root = roots[0]
    if f"{root}/constants.pkl" in records:
        raise MalformedError("holds a TorchScript program, which is code; save the module itself")
    order = records.get(f"{root}/byteorder", sys.byteorder.encode())
    if order != sys.byteorder.encode():
        raise MalformedError(f"was written for another kind of processor (byte order {order!r:.20})")
    prefix = f"{root}/data/"
    data = {
        name[len(prefix) :]: memoryview(each) for name, each in records.items() if name.startswith(prefix)
    }
    return Archive(records[f"{root}/data.pkl"], data)
