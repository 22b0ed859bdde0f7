"""Small files that would take very long, or very much memory."""

from __future__ import annotations

import pickle as pickles
import struct
import sys

from policy_gallery.assembler import (
    DICT,
    NONE,
    attack,
    call,
    d,
    g,
    get,
    i,
    in_policy,
    l,
    module,
    new,
    put,
    raw,
    s,
    t,
    v,
    whole,
)

MODULUS = sys.hash_info.modulus


def _doubled(times: int, value: bytes = b")") -> bytes:
    """A tuple that holds another one twice, and so on."""
    steps = (get(number) + get(number) + b"\x86" + put(number + 1) for number in range(times))
    return l(value + put(0), *steps)


@attack("Hashing a tuple that doubles takes 2^45 steps.")
def a_key_that_doubles() -> bytes:
    return in_policy(l(_doubled(45), b"}" + get(45) + i(1) + b"s"))


@attack("The same as an element of a set.")
def an_element_that_doubles() -> bytes:
    return in_policy(l(_doubled(45), call(g("__builtin__", "frozenset"), l(get(45)))))


@attack("The same as arguments of a call, for whoever compares or hashes them.")
def arguments_that_double() -> bytes:
    function = g("torch._tensor", "_rebuild_from_type_v2")
    return in_policy(
        l(_doubled(45), call(function, g("torch._utils", "_rebuild_tensor_v2"), get(45), t(), NONE))
    )


@attack("A tuple that doubles is a value like others, as long as nobody looks at all of it.", harmless=True)
def a_value_that_doubles() -> bytes:
    return in_policy(_doubled(45))


@attack("Dictionaries that double: a billion laughs.", harmless=True)
def a_dictionary_that_doubles() -> bytes:
    steps = (d({"a": get(n), "b": get(n)}) + put(n + 1) for n in range(45))
    return in_policy(l(d() + put(0), *steps))


@attack("A range of two billion in a list.")
def a_list_of_a_range() -> bytes:
    return in_policy(call(g("__builtin__", "list"), call(g("__builtin__", "xrange"), i(2_000_000_000))))


@attack("A range of two billion in a deque.")
def a_deque_of_a_range() -> bytes:
    return in_policy(call(g("collections", "deque"), call(g("__builtin__", "xrange"), i(2_000_000_000))))


@attack("A range itself is three numbers.", harmless=True)
def a_range() -> bytes:
    return in_policy(call(g("__builtin__", "xrange"), i(0), i(2_000_000_000), i(1)))


@attack("Many zero bytes.")
def a_bytearray_of_a_number() -> bytes:
    return in_policy(call(g("__builtin__", "bytearray"), i(2_000_000_000)))


@attack("A place in the memo at four billion: a table with as many entries.", harmless=True)
def a_memo_of_four_billion() -> bytes:
    return in_policy(l() + put(0xFFFFFFFE))


@attack("A frame of many exabytes.", harmless=True)
def a_frame_of_exabytes() -> bytes:
    return whole(b"\x95" + struct.pack("<Q", 1 << 62) + l())


@attack("A text of many exabytes.")
def a_text_of_exabytes() -> bytes:
    return in_policy(b"\x8d" + struct.pack("<Q", 1 << 62) + b"x")


@attack("Bytes of four gigabytes.")
def bytes_of_gigabytes() -> bytes:
    return in_policy(b"B\xff\xff\xff\xff" + b"x")


@attack("A list for each byte of the file.")
def a_list_for_each_byte() -> bytes:
    return in_policy(b"](" + b"]" * 300_000 + b"e")


@attack("A set for each byte of the file takes more than a list.")
def a_set_for_each_byte() -> bytes:
    return in_policy(b"](" + b"\x8f" * 300_000 + b"e")


@attack("An entry in the memo for each byte of the file.")
def a_memo_for_each_byte() -> bytes:
    return in_policy(l() + b"\x94" * 300_000)


@attack("A mark for each byte of the file.", harmless=True)
def a_mark_for_each_byte() -> bytes:
    return in_policy(b"(" * 300_000 + b"1" * 300_000 + NONE)


@attack("Tuples in each other, 300,000 deep: whoever recurses falls over.")
def tuples_very_deep() -> bytes:
    return in_policy(NONE + b"\x85" * 300_000)


@attack("Lists in each other, so deep that printing or copying them recurses too far.", harmless=True)
def lists_that_are_deep() -> bytes:
    return in_policy((b"]" + b"".join(b"]" + put(n) for n in range(50_000))) + b"a" * 50_000)


@attack("Objects in each other.", harmless=True)
def objects_that_are_deep() -> bytes:
    count = 20_000
    return in_policy((v("Plain") + b")\x81}" + s("a")) * count + NONE + b"sb" * count)


@attack("A key of tuples, too deep for the stack of C.")
def a_key_that_is_deep() -> bytes:
    chain = NONE + b"".join(b"\x85" + put(n) for n in range(50_000))
    return in_policy(b"}" + chain + i(1) + b"s")


@attack("Whole numbers with one hash: filling a dictionary takes the square of their number.")
def keys_of_one_hash() -> bytes:
    return in_policy(d({}, *(i(number * MODULUS) + NONE for number in range(1, 18_000))))


@attack("The same in a set.")
def elements_of_one_hash() -> bytes:
    return in_policy(call(g("__builtin__", "set"), l(*(i(number * MODULUS) for number in range(1, 18_000)))))


@attack("The same in tuples.")
def tuples_of_one_hash() -> bytes:
    return in_policy(d({}, *(t(i(number * MODULUS)) + NONE for number in range(1, 18_000))))


@attack("The same by pairs given to a function.")
def pairs_of_one_hash() -> bytes:
    return in_policy(call(DICT, l(*(l(i(number * MODULUS), NONE) for number in range(1, 18_000)))))


@attack("A number of megabytes as text: reading it takes the square of its length.")
def a_number_as_text() -> bytes:
    return in_policy(b"L" + b"9" * 1_000_000 + b"L\n")


@attack("A number of megabytes.", harmless=True)
def a_number_of_megabytes() -> bytes:
    number = pickles.dumps(1 << 8_000_000, 2)[2:-1]
    return in_policy(number)


@attack(
    "A number of a megabyte as a key a thousand times: each hash of it looks at all of it.", harmless=True
)
def a_long_number_as_a_key() -> bytes:
    number = pickles.dumps(1 << 8_000_000, 2)[2:-1]
    return in_policy(l(number + put(7), *(d(None, get(7) + NONE) for _ in range(1_000))))


@attack("A dictionary of a thousand attributes, given to each of ten thousand objects.")
def attributes_given_to_many() -> bytes:
    shared = d({f"name{number}": NONE for number in range(1_000)})
    objects = (new(v("Plain")) + get(1) + b"b" for _ in range(10_000))
    return in_policy(l(shared + put(1), *objects))


def _copied(function: bytes, content: bytes) -> bytes:
    return in_policy(l(content + put(1), *(call(function, get(1)) for _ in range(10_000))))


@attack("A list of ten thousand, copied ten thousand times into sets.")
def a_list_copied_into_sets() -> bytes:
    return _copied(g("__builtin__", "set"), l(*map(i, range(10_000))))


@attack("The same into lists.")
def a_list_copied_into_lists() -> bytes:
    return _copied(g("__builtin__", "list"), l(*[NONE] * 10_000))


@attack("The same into tuples.")
def a_list_copied_into_tuples() -> bytes:
    return _copied(g("__builtin__", "tuple"), l(*[NONE] * 10_000))


@attack("The same into deques.")
def a_list_copied_into_deques() -> bytes:
    return _copied(g("collections", "deque"), l(*[NONE] * 10_000))


@attack("A dictionary of ten thousand, copied ten thousand times.")
def a_dictionary_copied() -> bytes:
    return _copied(DICT, d({f"{number}": NONE for number in range(10_000)}))


@attack("A text of a megabyte, made into bytes ten thousand times.")
def a_text_made_into_bytes() -> bytes:
    encode = g("_codecs", "encode") + get(1) + s("latin1") + b"\x86R"
    return in_policy(l(s("x" * 1_000_000) + put(1), *[encode] * 10_000))


@attack("Partial functions of partial functions: each copies the arguments of the one before.")
def partial_functions_of_partial_functions() -> bytes:
    start = call(g("functools", "partial"), v("ran")) + t(v("ran"), t(NONE), NONE, NONE) + b"b" + put(0)
    steps = (
        call(g("functools", "partial"), get(n)) + t(get(n), t(NONE), NONE, NONE) + b"b" + put(n + 1)
        for n in range(20_000)
    )
    return in_policy(l(start, *steps))


@attack("A generator of 2,500 bytes for ten bytes of the file.")
def very_many_generators() -> bytes:
    state = d(
        {
            "bit_generator": s("PCG64"),
            "state": d({"state": i(1), "inc": i(1)}),
            "has_uint32": i(0),
            "uinteger": i(0),
        }
    )
    made = call(g("numpy.random._pickle", "__bit_generator_ctor"), g("numpy.random._pcg64", "PCG64"))
    again = get(1) + get(2) + b"R" + get(3) + b"b"
    shared = (
        g("numpy.random._pickle", "__bit_generator_ctor") + put(1),
        t(s("PCG64")) + put(2),
        state + put(3),
    )
    return in_policy(l(made + state + b"b", *shared, *[again] * 50_000))


@attack("A sequence of seeds whose pool takes the square of its size.")
def a_large_pool_of_seeds() -> bytes:
    cls = g("numpy.random.bit_generator", "SeedSequence")
    function = g("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence")
    return in_policy(call(function, cls, i(1), NONE) + t(i(1), i(0), NONE, i(1_000_000), t()) + b"b")


@attack("Modules that double: whoever goes through them takes 2^40 steps.")
def modules_that_double() -> bytes:
    identity = g("torch.nn.modules.linear", "Identity")
    steps = [module(identity) + put(100)]
    for number in range(100, 140):
        children = d({"a": get(number), "b": get(number)})
        steps.append(module(identity, _modules=children) + put(number + 1))
    return in_policy(l(*steps), _modules=d({"layer": get(140)}))


@attack("Modules in each other, so deep that torch recurses too far.")
def modules_that_are_deep() -> bytes:
    identity = g("torch.nn.modules.linear", "Identity")
    steps = [module(identity) + put(100)]
    for number in range(100, 1_500):
        steps.append(module(identity, _modules=d({"a": get(number)})) + put(number + 1))
    return in_policy(l(*steps), _modules=d({"layer": get(1_500)}))


@attack("A table of modules that ten thousand modules share.")
def a_table_that_modules_share() -> bytes:
    identity = g("torch.nn.modules.linear", "Identity")
    table = d({f"{number}": new(identity) for number in range(2_000)}) + put(1)
    sharing = (new(identity, state=b"}" + s("_modules") + get(1) + b"s") for _ in range(10_000))
    return in_policy(l(table, *sharing))


@attack("Modules without their tables: torch adds nine to each.")
def modules_without_tables() -> bytes:
    made = get(1) + b")\x81}b"
    return in_policy(l(g("torch.nn.modules.linear", "Identity") + put(1), *[made] * 100_000))


@attack("Zeros that stand for bytes, a megabyte of them, held ten thousand times by arrays.")
def arrays_of_the_same_bytes() -> bytes:
    dtype = call(g("numpy", "dtype"), s("u1"), b"\x89", b"\x88")
    shared = (
        g("numpy._core.multiarray", "_reconstruct") + put(1),
        t(g("numpy", "ndarray"), t(i(0)), raw(b"b")) + put(2),
        t(i(1), t(i(1_000_000)), dtype, b"\x89", raw(bytes(1_000_000))) + put(3),
    )
    return in_policy(l(*shared, *[get(1) + get(2) + b"R" + get(3) + b"b"] * 10_000))
