"""Archives that are not what torch writes."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile

from policy_gallery.assembler import NONE, archive, attack, honest, l, pickle, policy, storage, tensor


def _records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return {name: source.read(name) for name in source.namelist()}


def _packed(records: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as target:
        warnings.simplefilter("ignore")
        for name, content in records:
            target.writestr(name, content)
    return file.getvalue()


@attack("A few kilobytes that become a gigabyte of zeros.")
def data_that_becomes_a_gigabyte() -> bytes:
    data = {"0": bytes(300_000_000)}
    return archive(
        pickle(policy(tensor(storage("0", 75_000_000), size=(1,)))), data, method=zipfile.ZIP_DEFLATED
    )


@attack("A pickle that becomes megabytes of lists.")
def a_pickle_that_becomes_megabytes() -> bytes:
    return archive(pickle(l(*[b"]"] * 10_000_000)), method=zipfile.ZIP_DEFLATED)


@attack("Records that lie in each other: together they are the square of the file.")
def records_in_each_other() -> bytes:
    content = bytearray(
        _packed([("policy/data.pkl", pickle(policy(NONE))), ("policy/data/0", bytes(10_000))])
    )
    end = content.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", content, end + 16)[0]
    directory = bytes(content[start:end])
    entry = directory[directory.rindex(b"PK\x01\x02") :]
    many = directory + entry * 1_000
    counts = struct.pack("<HH", 1_002, 1_002)
    tail = content[end : end + 8] + counts + struct.pack("<II", len(many), start) + b"\0\0"
    return bytes(content[:start]) + many + bytes(tail)


@attack("Two records of one name: which one counts depends on the reader.")
def two_records_of_one_name() -> bytes:
    return _packed([("policy/data.pkl", pickle(policy(NONE)))] * 2)


@attack("Two pickles under two names.")
def two_pickles() -> bytes:
    return _packed([("policy/data.pkl", pickle(policy(NONE))), ("other/data.pkl", pickle(policy(NONE)))])


@attack("An archive without a pickle.")
def no_pickle() -> bytes:
    return _packed([("policy/version", b"3\n")])


@attack("A program of TorchScript, which is code.")
def a_program() -> bytes:
    return _packed([("policy/data.pkl", pickle(policy(NONE))), ("policy/constants.pkl", b"\x80\x02).")])


@attack("A method of compression with a large memory of its own.")
def another_compression() -> bytes:
    return _packed([("policy/data.pkl", pickle(policy(NONE)))], zipfile.ZIP_LZMA)


@attack("A record that is said to be encrypted: somebody might ask for a password.")
def an_encrypted_record() -> bytes:
    content = bytearray(_packed([("policy/data.pkl", pickle(policy(NONE)))]))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@attack("Numbers as another kind of processor writes them.")
def another_byte_order() -> bytes:
    records = {**_records(archive(pickle(policy(NONE)))), "policy/byteorder": b"middle"}
    return _packed(list(records.items()))


@attack("A record that was changed: its checksum does not fit.")
def a_changed_record() -> bytes:
    content = bytearray(honest())
    content[content.index(b"training") + 2] ^= 1
    return bytes(content)


@attack("A file that was cut off.")
def half_a_file() -> bytes:
    content = honest()
    return content[: len(content) // 2]


@attack(
    "A directory of records that is said to lie elsewhere: the larger kind of archive says it twice.",
    harmless=True,
)
def a_directory_elsewhere() -> bytes:
    content = bytearray(honest())
    end = content.rindex(b"PK\x05\x06")
    content[end + 16 : end + 20] = b"\xff\xff\xff\x7f"
    return bytes(content)


@attack("A plain pickle, which torch's old format begins like.")
def a_plain_pickle() -> bytes:
    return b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R."


@attack("A name of a record that leads out of a directory; nothing is ever written by it.", harmless=True)
def a_record_that_leads_elsewhere() -> bytes:
    records = {**_records(archive(pickle(policy(NONE)))), "../../evil": b"x"}
    return _packed(list(records.items()))


@attack("A compressed file within bounds is one.", harmless=True)
def an_honest_compressed_file() -> bytes:
    return _packed(list(_records(honest()).items()), zipfile.ZIP_DEFLATED)
