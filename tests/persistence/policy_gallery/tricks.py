"""Tricks with the machine of pickles and with archives: other protocols, extensions, the memo, the order of things."""

from __future__ import annotations

import copyreg
import io
import os
import pickle as pickles
import struct
import tarfile
import zipfile

import torch

from policy_gallery import victims
from policy_gallery.assembler import (
    DATA,
    DICT,
    FALSE,
    NONE,
    TRUE,
    archive,
    attack,
    call,
    d,
    g,
    get,
    i,
    in_policy,
    l,
    new,
    pickle,
    policy,
    put,
    s,
    storage,
    t,
    tensor,
    v,
    whole,
)

copyreg.add_extension("policy_gallery.victims", "Loud", 77)


@attack("A class by the number of an extension, which names nothing.")
def an_extension() -> bytes:
    return in_policy(b"\x82\x4d)R")


@attack("The same with a longer number.")
def a_long_extension() -> bytes:
    return in_policy(b"\x84" + struct.pack("<i", 77) + b")\x81")


@attack("A constructor in the way of protocol 0: INST.")
def an_instance_of_protocol_0() -> bytes:
    return in_policy(b"(S'x'\nipolicy_gallery.victims\nLoud\n")


@attack("A constructor in the way of protocol 1: OBJ.")
def an_instance_of_protocol_1() -> bytes:
    return in_policy(b"(" + v("Loud") + s("x") + b"o")


@attack("A constructor with keywords: NEWOBJ_EX.")
def keywords_of_a_constructor() -> bytes:
    return in_policy(v("Loud") + t(s("x")) + d({"a": i(1)}) + b"\x92")


@attack("A reference to something outside in text.")
def a_reference_in_text() -> bytes:
    return in_policy(b"Pos.system\n")


@attack("A buffer that lies outside of the pickle.")
def a_buffer_elsewhere() -> bytes:
    return whole(b"\x97\x98")


@attack("Strings of protocol 0, which an unpickler evaluates.")
def a_text_that_is_evaluated() -> bytes:
    return in_policy(b"S'\\x41' '\\x42'\n")


@attack("A number of protocol 0 of a million digits.")
def a_number_in_digits() -> bytes:
    return in_policy(b"L" + b"9" * 1_000_000 + b"L\n")


@attack("The memo is written over: what was checked and what is used would be two things.", harmless=True)
def a_memo_that_changes() -> bytes:
    return in_policy(l(v("Plain") + put(5), NONE + put(5), get(5)))


@attack("The memo is written over with a class that is not allowed, and called.")
def a_memo_that_becomes_a_function() -> bytes:
    return in_policy(
        v("Plain") + put(5) + b"0" + g("posix", "system") + put(5) + b"0" + get(5) + t(s("true")) + b"R"
    )


@attack("A memo of gigabytes by its number.", harmless=True)
def a_huge_number_in_the_memo() -> bytes:
    return in_policy(NONE + put(0xFFFFFFFF))


@attack("A state that is filled after the object was built: nobody looks at it again.", harmless=True)
def a_state_that_is_filled_later() -> bytes:
    later = get(3) + s("method") + i(1) + b"s0"
    return in_policy(l(new(v("Plain"), state=d({"a": i(1)}) + put(3)), later + NONE))


@attack("A state with the name of a method that is a key from the memo.")
def a_method_by_the_memo() -> bytes:
    return in_policy(s("method") + put(3) + b"0" + new(v("Plain"), state=b"}" + get(3) + i(1) + b"s"))


@attack("A name that is put together by a call.")
def a_name_that_is_made() -> bytes:
    name = call(g("_codecs", "encode"), s("method"), s("latin1"))
    return in_policy(new(v("Plain"), state=d(None, name + i(1))))


@attack("States in states: the object in the state is built inside the state of another.")
def states_in_states() -> bytes:
    inner = new(v("Plain"), state=d({"a": new(v("Plain"), state=d({"method": i(1)}))}))
    return in_policy(new(v("Plain"), state=d({"a": l(inner)})))


@attack("An object that is built before it is made: BUILD on a reference of its own state.")
def an_object_built_by_its_state() -> bytes:
    return in_policy(v("Plain") + b")\x81" + put(4) + d({"a": get(4) + d({"method": i(1)}) + b"b"}) + b"b")


@attack("A second state by way of a copy of the reference.")
def a_second_state_by_a_copy() -> bytes:
    return in_policy(new(v("Plain"), state=d({"a": i(1)})) + b"2" + d({"method": i(1)}) + b"b0")


@attack("What is taken off the stack again would run, if it were made.", harmless=True)
def a_call_that_is_dropped() -> bytes:
    return in_policy(call(g("posix", "system"), s("true")) + b"0" + NONE)


@attack("A class in the attribute of a class.", harmless=True)
def a_class_in_a_class() -> bytes:
    return in_policy(g("policy_gallery.victims", "Plain.__class__.__mro__"))


@attack("A name with a line break, which protocol 4 can write.")
def a_name_with_a_line_break() -> bytes:
    return in_policy(s("posix\nsystem") + s("x\ny") + b"\x93")


@attack("A function by way of a module that is an attribute of an allowed one.")
def a_module_in_a_module() -> bytes:
    return in_policy(call(s("policy_gallery.victims") + s("sys.modules") + b"\x93", s("os")))


@attack("What an enumeration keeps its members in.")
def the_table_of_an_enumeration() -> bytes:
    return in_policy(
        g("policy_gallery.victims", "Kind._member_map_") + put(3) + b"0" + get(3) + s("A") + NONE + b"s"
    )


@attack("A storage of a negative size.")
def a_negative_storage() -> bytes:
    return in_policy(tensor(storage("0", -4)))


@attack("A storage by a path.")
def a_storage_by_a_path() -> bytes:
    return in_policy(tensor(storage("../../../etc/passwd", 4)))


@attack("A storage on a device that cannot be.", harmless=True)
def a_storage_on_another_device() -> bytes:
    return in_policy(tensor(storage("0", 4, location="cuda:99999999999999999999")))


@attack("A storage on the meta device: it has no memory, whatever its size.", harmless=True)
def a_storage_without_memory() -> bytes:
    return in_policy(tensor(storage("0", 4, location="meta")))


@attack("A storage of a kind that torch has not.")
def a_storage_of_another_kind() -> bytes:
    return in_policy(tensor(storage("0", 4, g("torch", "Tensor"))))


@attack("The same memory as numbers and as truth values.")
def memory_as_truth_values() -> bytes:
    data = {"0": struct.pack("<16B", *range(16))}
    both = l(tensor(storage("0", 4)), tensor(storage("0", 16, g("torch", "BoolStorage")), size=(16,)))
    return in_policy(both, data)


@attack("Memory of bytes as truth values, whose type the tensor says itself.")
def bytes_as_truth_values() -> bytes:
    function = g("torch._utils", "_rebuild_tensor_v3")
    memory = storage("0", 16, g("torch.storage", "UntypedStorage"))
    shape = t(i(16)), t(i(1))
    made = call(function, memory, i(0), *shape, FALSE, call(DICT), g("torch", "bool"))
    return in_policy(made, {"0": bytes(range(16))})


@attack("A tensor whose end lies beyond what 64 bits count.")
def a_tensor_beyond_64_bits() -> bytes:
    return in_policy(tensor(storage("0", 4), offset=(1 << 62) - 1, size=((1 << 61), 8), stride=(8, 1)))


@attack("The gradient of a tensor is asked for by an object.")
def a_gradient_of_an_object() -> bytes:
    function = g("torch._utils", "_rebuild_tensor_v2")
    return in_policy(call(function, storage("0", 4), i(0), t(i(4)), t(i(1)), new(v("Numeric")), call(DICT)))


@attack("A file in the format before archives: a pickle, several of them.", harmless=True)
def an_old_file() -> bytes:
    file = io.BytesIO()
    torch.save(victims.Policy().layer, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@attack("An old file with a call in its first pickle.")
def an_old_file_with_a_call() -> bytes:
    return pickles.dumps(0x1950A86A20F9469CFC6C, 2) + pickles.dumps(1001, 2) + pickle(call(v("Loud"), s("x")))


@attack("An even older file: a tape archive.")
def a_tape() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as target:
        link = tarfile.TarInfo("pickle")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(link)
    return file.getvalue()


def _entries(stream: bytes) -> dict[str, bytes]:
    return {"data.pkl": stream, **{f"data/{key}": each for key, each in DATA.items()}}


@attack("An archive with something in front of it: a program that is also a policy.")
def an_archive_in_a_program() -> bytes:
    return b"#!/bin/sh\ntrue\n" + in_policy(NONE)


@attack("An archive inside the comment of another: two programs read two of them.")
def an_archive_in_a_comment() -> bytes:
    file = io.BytesIO(in_policy(NONE))
    with zipfile.ZipFile(file, "a") as target:
        target.comment = in_policy(call(v("Loud"), s("x")))
    return file.getvalue()


@attack("A link as a record.", harmless=True)
def a_record_that_is_a_link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, content in _entries(pickle(policy(tensor(storage("0", 4))))).items():
            info = zipfile.ZipInfo(f"policy/{name}")
            if name.startswith("data/"):
                info.external_attr = 0o120777 << 16
            target.writestr(info, content)
    return file.getvalue()


@attack("The directory of the archive names another record than the record itself.")
def a_record_of_two_names() -> bytes:
    content = bytearray(in_policy(NONE))
    at = content.rindex(b"policy/data.pkl")
    first = content.index(b"policy/data.pkl")
    assert first < at
    content[first : first + 15] = b"policy/data.pk1"
    return bytes(content)


@attack("A size of exabytes, in the fields for large files.")
def a_record_of_exabytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, content in _entries(pickle(policy(NONE))).items():
            with target.open(f"policy/{name}", "w", force_zip64=True) as stream:
                stream.write(content)
    content = bytearray(file.getvalue())
    at = content.rindex(b"PK\1\2")
    content[at + 24 : at + 28] = b"\xfe\xff\xff\xff"
    return bytes(content)


@attack("Very many empty records.", harmless=True)
def very_many_records() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("policy/data.pkl", pickle(policy(NONE)))
        for number in range(3_000):
            target.writestr(f"policy/data/{number}", b"")
    return file.getvalue()


@attack("A compressed archive of compressed archives.")
def a_bomb_in_a_bomb() -> bytes:
    inner = archive(pickle(policy(NONE)), {"0": bytes(4_000_000)}, method=zipfile.ZIP_DEFLATED)
    return archive(inner, {"0": bytes(40_000_000)}, method=zipfile.ZIP_DEFLATED)


@attack("The byte order is said twice.")
def the_byte_order_of_another_root() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("policy/data.pkl", pickle(policy(NONE)))
        target.writestr("other/data.pkl", pickle(policy(NONE)))
    return file.getvalue()


@attack("A sparse tensor whose indices lie outside of it.")
def sparse_indices_outside() -> bytes:
    indices = tensor(storage("1", 2, g("torch", "LongStorage")), size=(1, 2), stride=(2, 1))
    values = tensor(storage("0", 4), size=(2,))
    layout = call(g("torch.serialization", "_get_layout"), s("torch.sparse_coo"))
    made = call(g("torch._utils", "_rebuild_sparse_tensor"), layout, t(indices, values, t(i(3)), FALSE))
    return in_policy(made, {**DATA, "1": struct.pack("<2q", 0, 1 << 40)})


@attack("A sparse tensor of exabytes.", harmless=True)
def a_huge_sparse_tensor() -> bytes:
    indices = tensor(storage("1", 1, g("torch", "LongStorage")), size=(1, 1), stride=(1, 1))
    values = tensor(storage("0", 4), size=(1,))
    layout = call(g("torch.serialization", "_get_layout"), s("torch.sparse_coo"))
    made = call(g("torch._utils", "_rebuild_sparse_tensor"), layout, t(indices, values, t(i(1 << 60)), TRUE))
    return in_policy(made, {**DATA, "1": struct.pack("<q", 3)})


@attack("A file that is longer than what it holds.", harmless=True)
def a_padded_file() -> bytes:
    return in_policy(NONE) + os.urandom(0) + bytes(100)
