"""What the builders of rarer values must not be talked into."""

from __future__ import annotations

import struct

from policy_gallery.assembler import (
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
    honest,
    i,
    in_policy,
    l,
    new,
    pickle,
    policy,
    put,
    raw,
    s,
    storage,
    t,
    tensor,
    v,
)

ITER = g("__builtin__", "iter")
LONGS = {"0": struct.pack("<4f", 1, 2, 3, 4), "1": struct.pack("<4q", 0, 0, 0, 0)}


def longs(*numbers: int) -> tuple[bytes, dict[str, bytes]]:
    """A tensor of whole numbers, and the data of the file."""
    data = {**LONGS, "1": struct.pack(f"<{len(numbers)}q", *numbers)}
    return storage("1", len(numbers), g("torch", "LongStorage")), data


def nested(size: int, stride: int, offset: int) -> bytes:
    memory, data = longs(size, stride, offset)
    parts = [
        tensor(get(9), at, shape, step)
        for at, shape, step in ((0, (1, 1), (1, 1)), (1, (1, 1), (1, 1)), (2, (1,), (1,)))
    ]
    made = call(g("torch._utils", "_rebuild_nested_tensor"), tensor(storage("0", 4)), *parts)
    return in_policy(l(memory + put(9), made), data)


@attack("A nested tensor whose row is longer than its memory would read what lies behind it.")
def a_row_that_is_too_long() -> bytes:
    return nested(5, 1, 0)


@attack("A row that begins behind the memory.")
def a_row_that_begins_too_late() -> bytes:
    return nested(1, 1, 4)


@attack("Steps that leave the memory.")
def a_row_with_large_steps() -> bytes:
    return nested(2, 1 << 40, 0)


@attack("A row that begins in front of the memory.")
def a_row_in_front() -> bytes:
    return nested(1, 1, -1)


def jagged(offsets: tuple[int, ...], cache: bytes = d(), state: bytes | None = None) -> bytes:
    memory, data = longs(*offsets)
    module = "torch.nested._internal.nested_tensor"
    about = d({
        "values": tensor(storage("0", 4)),
        "offsets": tensor(memory, 0, (len(offsets),)) + put(8),
        "lengths": NONE,
        "_ragged_idx": i(1),
        "_metadata_cache": cache,
        "requires_grad": FALSE,
    })  # fmt: skip
    function = g("torch._tensor", "_rebuild_from_type_v2")
    parts = (g(module, "_rebuild_njt"), g(module, "NestedTensor"), t(about), state or d())
    return in_policy(call(function, *parts), data)


@attack("A jagged tensor whose last row ends behind its memory.")
def offsets_that_leave_the_memory() -> bytes:
    return jagged((0, 2, 9))


@attack("Offsets that go back make a row of negative length.")
def offsets_that_go_back() -> bytes:
    return jagged((0, 3, 1))


@attack("Torch allocates by what is noted as the longest row.")
def a_longest_row_that_is_not_there() -> bytes:
    memory = call(
        g("torch._utils", "_rebuild_meta_tensor_no_storage"),
        g("torch", "float32"),
        t(i(1 << 40), i(0)),
        t(i(1), i(1)),
        FALSE,
    )
    return jagged((0, 2, 4), d({"max_seqlen": memory}))


@attack("Attributes that come after the check would put other offsets in place.")
def other_offsets_as_an_attribute() -> bytes:
    return jagged((0, 2, 4), state=d({"_offsets": tensor(storage("0", 4))}))


@attack("Iterators in each other, twenty thousand deep: taking or freeing one recurses in C.")
def iterators_in_each_other() -> bytes:
    repeat = g("itertools", "repeat")
    step = get(1) + get(2) + b"\x85R" + put(2) + b"0"
    return in_policy(repeat + put(1) + b"0" + i(1) + put(2) + b"0" + step * 20_000 + get(2))


@attack("The same with iterators that go over each other.")
def cycles_of_cycles() -> bytes:
    inner = call(ITER, l(i(1)))
    for _ in range(500):
        inner = call(g("itertools", "cycle"), inner)
    return in_policy(inner)


@attack("An iterator over an object would call its class's __iter__.")
def an_iterator_over_an_object() -> bytes:
    return in_policy(call(ITER, new(v("Loud"))))


@attack("zip takes an iterator of each of its arguments.")
def a_zip_of_an_object() -> bytes:
    return in_policy(call(g("__builtin__", "zip"), new(v("Loud"))))


@attack("A map holds a function, which has to be trusted like any other.")
def a_map_of_a_function() -> bytes:
    return in_policy(call(g("__builtin__", "map"), g("os", "system"), call(ITER, l(s("touch it-ran")))))


@attack("How far an iterator of a deque is, is found step by step.", harmless=True)
def iterators_far_into_a_deque() -> bytes:
    long = call(g("collections", "deque"), l(*[i(1)] * 20_000))
    over = call(g("_collections", "_deque_iterator"), get(1), i(20_000))
    return in_policy(l(long + put(1), *[over] * 2_000))


@attack("Choosing very many of a few sets aside memory for each.")
def combinations_of_very_many() -> bytes:
    name = "combinations_with_replacement"
    return in_policy(call(g("itertools", name), t(i(1)), i((1 << 31) - 1)))


@attack("Python hashes a type hint with everything in it: one that doubles takes 2^60 steps.")
def a_hint_that_doubles() -> bytes:
    item = g("_operator", "getitem")
    steps = [call(item, g("typing", "Tuple"), t(get(n), get(n))) + put(n + 1) for n in range(60)]
    return in_policy(l(g("__builtin__", "int") + put(0), *steps))


@attack("A type hint made by an object's own __class_getitem__ or __getitem__.")
def a_hint_of_an_object() -> bytes:
    return in_policy(call(g("_operator", "getitem"), new(v("Loud")), i(0)))


@attack("NumPy would ask an object in a field of numbers to become one.")
def an_object_in_a_field_of_numbers() -> bytes:
    plain = (
        call(g("numpy", "dtype"), s("f4"), FALSE, TRUE)
        + t(i(3), s("<"), NONE, NONE, NONE, i(-1), i(-1), i(0))
        + b"b"
    )
    objects = (
        call(g("numpy", "dtype"), s("O8"), FALSE, TRUE)
        + t(i(3), s("|"), NONE, NONE, NONE, i(-1), i(-1), i(63))
        + b"b"
    )
    fields = d({"a": t(plain, i(0)), "b": t(objects, i(8))})
    made = call(g("numpy", "dtype"), s("V16"), FALSE, TRUE)
    made += t(i(3), s("|"), NONE, t(s("a"), s("b")), fields, i(16), i(1), i(27)) + b"b"
    array = call(g("numpy.core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return in_policy(array + t(i(1), t(i(1)), made, FALSE, l(t(new(v("Loud")), NONE))) + b"b")


@attack("Objects that lie in each other in a record: NumPy would read one as two.")
def objects_in_each_other() -> bytes:
    objects = (
        call(g("numpy", "dtype"), s("O8"), FALSE, TRUE)
        + t(i(3), s("|"), NONE, NONE, NONE, i(-1), i(-1), i(63))
        + b"b"
    )
    fields = d({"a": t(objects, i(0)), "b": t(objects, i(4))})
    made = call(g("numpy", "dtype"), s("V12"), FALSE, TRUE)
    return in_policy(made + t(i(3), s("|"), NONE, t(s("a"), s("b")), fields, i(12), i(1), i(27)) + b"b")


@attack("An object in an array of texts would be asked for its text.")
def an_object_in_an_array_of_texts() -> bytes:
    dtype = call(g("numpy._core._internal", "_convert_to_stringdtype_kwargs"), TRUE)
    array = call(g("numpy.core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return in_policy(array + t(i(1), t(i(1)), dtype, FALSE, l(new(v("Loud")))) + b"b")


@attack("An array in memory that is shorter than its shape.")
def an_array_longer_than_its_memory() -> bytes:
    dtype = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    return in_policy(
        call(g("numpy._core.numeric", "_frombuffer"), raw(b"12345678"), dtype, t(i(1 << 40)), s("C"))
    )


@attack("Truth values that are neither true nor false, in memory by itself.")
def memory_of_no_truth() -> bytes:
    return in_policy(storage("0", 16, g("torch", "BoolStorage")))


@attack("A zone's name leads out of the table of zones.")
def a_zone_elsewhere() -> bytes:
    return in_policy(call(g("zoneinfo", "ZoneInfo._unpickle"), s("../../../etc/passwd"), TRUE))


@attack("A zone that is looked for in a package would import it.")
def a_zone_that_is_nowhere() -> bytes:
    return in_policy(call(g("zoneinfo", "ZoneInfo._unpickle"), s("antigravity/x"), TRUE))


@attack("A moment asks the zone of it, which may be an object of any class.")
def a_moment_in_an_object() -> bytes:
    moment = raw(bytes([7, 228, 1, 1, 0, 0, 0, 0, 0, 0]))
    return in_policy(call(g("datetime", "datetime"), moment, new(v("Loud"))))


@attack("A bound method of a list is a function, and has to be trusted.")
def a_method_of_a_list() -> bytes:
    return in_policy(call(g("__builtin__", "getattr"), l(), s("append")))


@attack("Special methods of built-in classes change what nobody expects.")
def a_special_method_of_a_dict() -> bytes:
    return in_policy(call(g("__builtin__", "getattr"), d(), s("__setattr__")))


@attack("A logger is the process's own: a state would change it.")
def a_logger_with_a_state() -> bytes:
    return in_policy(call(g("logging", "getLogger"), s("x")) + d({"handlers": l(), "level": i(99)}) + b"b")


@attack("Named arguments of __new__ are those of a constructor.")
def named_arguments() -> bytes:
    return in_policy(v("Loud") + t() + d({"a": i(1)}) + b"\x92")


@attack("The same as older pickles write it: a partial function of __new__ that is called.")
def a_partial_new() -> bytes:
    new_ = call(g("__builtin__", "getattr"), v("Loud"), s("__new__"))
    made = call(g("functools", "partial"), new_ + put(1)) + t(get(1), t(v("Loud")), d(), NONE) + b"b"
    return in_policy(call(made))


@attack("A class of exceptions whose arguments are objects, which its constructor would look at.")
def an_exception_of_objects() -> bytes:
    return in_policy(
        call(g("__builtin__", "UnicodeDecodeError"), s("x"), raw(b"x"), new(v("Loud")), i(1), s("y"))
    )


@attack(
    "TorchRL's specs have a method as an attribute; any other function in its place would run when it is used."
)
def a_method_that_is_another_function() -> bytes:
    return in_policy(new(g("torchrl.data.tensor_specs", "Categorical"), state=d({"encode": v("ran")})))


def legacy(stream: bytes, keys: bytes, data: bytes) -> bytes:
    """A file as torch wrote it before version 1.6."""
    magic = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    head = [pickle(each) for each in (magic, i(1001), d({"little_endian": TRUE}))]
    return b"".join([*head, pickle(stream), pickle(keys), data])


@attack("An old file runs what it names, as newer ones do.")
def an_old_file_with_a_command() -> bytes:
    return legacy(policy(call(g("os", "system"), s("touch it-ran"))), l(), b"")


@attack("The other pickles of an old file are pickles too.")
def an_old_file_with_a_command_among_its_keys() -> bytes:
    return legacy(policy(i(1)), l(call(g("os", "system"), s("touch it-ran"))), b"")


@attack("An old file says that a tensor has more data than there is.")
def an_old_file_that_is_too_short() -> bytes:
    key = t(s("storage"), g("torch", "FloatStorage"), s("0"), s("cpu"), i(1 << 40), NONE) + b"Q"
    return legacy(policy(tensor(key, 0, (1 << 40,))), l(s("0")), (1 << 40).to_bytes(8, "little"))


@attack("Ten thousand keys for the same few bytes of an old file.")
def an_old_file_with_one_key_often() -> bytes:
    return legacy(policy(i(1)), l(*[s("0")] * 10_000), bytes(80_000))


@attack("Classes in an old file come with their source, which nobody compiles.", harmless=True)
def an_old_file_with_source() -> bytes:
    cls = t(s("module"), v("Plain"), s("x.py"), s("open('it-ran', 'w')")) + b"Q"
    return legacy(policy(new(cls, state=d())), l(), b"")


@attack("Old files in the place of the pickle of a newer one.")
def an_old_file_in_a_new_one() -> bytes:
    return archive(legacy(policy(i(1)), l(), b""))


@attack("A new file with the beginning of an old one.")
def the_beginning_of_an_old_file() -> bytes:
    return pickle(b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")) + honest()


@attack("What is called again and again with very many parts takes the square of the file.")
def hints_of_very_many_parts() -> bytes:
    many = t(
        *[
            call(g("_operator", "getitem"), g("typing", "List"), g("__builtin__", "int")) + put(3),
            *[get(3)] * 150,
        ]
    )
    both = call(g("_operator", "getitem"), g("typing", "Union"), get(4))
    return in_policy(l(many + put(4), *[both] * 10_000, DICT))
