"""Plain values whose builders could be misled: numbers, patterns, records, flags, tensors of odd kinds, type hints."""

from __future__ import annotations

from policy_gallery.assembler import (
    DICT,
    FALSE,
    NONE,
    TRUE,
    attack,
    call,
    d,
    g,
    i,
    in_policy,
    l,
    new,
    put,
    raw,
    s,
    storage,
    t,
    v,
)

QINT8 = g("torch", "QInt8Storage")
ATTRGETTER = g("operator", "attrgetter")


def _pickled_partial(function: bytes, *state: bytes) -> bytes:
    return call(g("functools", "partial"), function) + t(*state) + b"b"


@attack(
    "Taking attributes and calling methods is all that it takes to run anything, when the policy calls it."
)
def a_getter_that_nobody_trusts() -> bytes:
    return in_policy(call(ATTRGETTER, s("__globals__")))


@attack("The same, to call a method.")
def a_caller_of_methods() -> bytes:
    return in_policy(call(g("operator", "methodcaller"), s("run"), s("x")))


@attack("A function hidden in a function that is given arguments later.")
def a_partial_with_code_in_its_attributes() -> bytes:
    return in_policy(_pickled_partial(v("ran"), v("ran"), t(), d({}), d({"__reduce_ex__": v("ran")})))


@attack("A regular expression that takes long to compile, many times.")
def many_long_patterns() -> bytes:
    pattern = s("(?:" + "|".join(f"[a-{chr(98 + n % 24)}]{n}" for n in range(250)) + ")*")
    return in_policy(
        l(*(call(g("re", "_compile"), pattern, i(32 | n % 2 * 2 | n % 3 * 8)) for n in range(400)))
    )


@attack("A regular expression that is nested deeper than Python can compile.")
def a_deep_pattern() -> bytes:
    return in_policy(call(g("re", "_compile"), s("(" * 999 + ")" * 999), i(0)))


@attack("A regular expression with a repetition of repetitions.", harmless=True)
def a_pattern_of_repetitions() -> bytes:
    return in_policy(call(g("re", "_compile"), s("((((a{1,999}){1,999}){1,999}){1,999}){1,999}"), i(0)))


@attack("Compiling with the flag for debugging prints.", harmless=True)
def a_pattern_that_prints() -> bytes:
    return in_policy(call(g("re", "_compile"), s("a"), i(128 | 32)))


@attack("A decimal number of a million digits.")
def a_long_decimal() -> bytes:
    return in_policy(call(g("decimal", "Decimal"), s("1" * 1_000_000)))


@attack("A decimal number with a huge exponent, as a key: its hash is a power.", harmless=True)
def a_decimal_key() -> bytes:
    return in_policy(d({}, call(g("decimal", "Decimal"), s("1e999999999")) + NONE))


@attack("A decimal number that is none.")
def a_decimal_that_is_none() -> bytes:
    return in_policy(call(g("decimal", "Decimal"), s("x")))


@attack("A fraction of numbers of a megabyte, which Python would shorten.")
def a_long_fraction() -> bytes:
    import pickle as pickles

    number = pickles.dumps(3**60_000, 2)[2:-1]
    return in_policy(call(g("fractions", "Fraction"), number, i(7)))


@attack("A fraction of an object that computes.")
def a_fraction_of_an_object() -> bytes:
    return in_policy(call(g("fractions", "Fraction"), new(v("Numeric")), i(1)))


@attack("A zone that is read from a file of the machine.")
def a_zone_from_a_file() -> bytes:
    return in_policy(call(g("zoneinfo", "ZoneInfo._unpickle"), s("../../etc/passwd"), TRUE))


@attack("A moment in a zone of a class of the user's: its hash asks the class.")
def a_moment_in_an_own_zone() -> bytes:
    return in_policy(call(g("datetime", "datetime"), raw(b"\x07\xe4\1\1\0\0\0\0\0\0"), new(v("Plain"))))


@attack("A moment whose bytes are no moment.")
def a_moment_that_is_none() -> bytes:
    return in_policy(call(g("datetime", "datetime"), raw(b"\xff" * 10)))


@attack("A number beyond 128 bits as a UUID.")
def a_long_uuid() -> bytes:
    return in_policy(new(g("uuid", "UUID"), state=d({"int": i(1 << 200)})))


@attack("An object as the number in a UUID: its hash asks it.")
def a_uuid_of_an_object() -> bytes:
    return in_policy(d({}, new(g("uuid", "UUID"), state=d({"int": new(v("Hashes"))})) + NONE))


@attack("More flags than there are bits.")
def a_million_flags() -> bytes:
    return in_policy(call(v("Flags"), i(1 << 2_000)))


@attack("Flags that the enumeration has not.")
def a_flag_that_is_missing() -> bytes:
    return in_policy(call(v("Flags"), i(1 << 20)))


@attack("Flags of an enumeration that looks for them by code of its own.")
def flags_with_missing() -> bytes:
    return in_policy(call(v("LoudFlags"), i(3)))


@attack("A tuple of objects as the value of a member is compared with the members.")
def a_member_with_objects() -> bytes:
    return in_policy(call(v("Kind"), t(i(1), new(v("Equal")))))


@attack("An exception whose constructor would run.", harmless=True)
def an_exception() -> bytes:
    return in_policy(call(v("Problem"), s("x")))


@attack("An exception with a finalizer.")
def an_exception_with_a_finalizer() -> bytes:
    return in_policy(call(v("FinalProblem"), s("x")))


@attack("An exception of the system's, whose constructor takes its arguments apart.")
def an_error_of_the_system() -> bytes:
    return in_policy(call(v("SystemProblem"), i(2), s("x")))


@attack("A type hint of text is compiled.")
def a_hint_of_text() -> bytes:
    return in_policy(call(g("_operator", "getitem"), v("Generic"), s("__import__('os')")))


@attack("A type hint of an enumeration looks up a member by its class.")
def an_item_of_an_enumeration() -> bytes:
    return in_policy(call(g("_operator", "getitem"), v("Kind"), s("A")))


@attack("A class with a metaclass of its own would be asked for an item.")
def an_item_of_a_class() -> bytes:
    return in_policy(call(g("_operator", "getitem"), v("Indexed"), g("__builtin__", "int")))


@attack("A union of classes asks their metaclass.")
def a_union_with_a_metaclass() -> bytes:
    return in_policy(call(g("functools", "reduce"), g("_operator", "or_"), t(v("Indexed"), v("Indexed"))))


@attack("A reduction by another function.")
def a_reduction() -> bytes:
    return in_policy(call(g("functools", "reduce"), v("ran"), t(i(1), i(2))))


@attack("Hints in hints in hints: the hash of each is that of all.")
def hints_in_hints() -> bytes:
    step, steps = g("types", "GenericAlias"), g("__builtin__", "list")
    for _ in range(40):
        steps = call(step, g("__builtin__", "dict"), t(steps, steps))
        if len(steps) > 20_000:
            break
    return in_policy(steps)


@attack("A quantized tensor of a terabyte: it would be made before its memory is looked at.", harmless=True)
def a_large_quantized_tensor() -> bytes:
    scheme = t(g("torch", "per_tensor_affine"), b"G?\xb9\x99\x99\x99\x99\x99\x9a", i(0))
    function = g("torch._utils", "_rebuild_qtensor")
    shape = t(i(1 << 40)), t(i(0))
    return in_policy(
        call(function, storage("0", 16, QINT8), i(0), *shape, scheme, FALSE, call(DICT)), harmless_data()
    )


def harmless_data() -> dict[str, bytes]:
    return {"0": bytes(16)}


@attack("A quantized tensor beyond its memory.")
def a_quantized_tensor_beyond_its_data() -> bytes:
    scheme = t(g("torch", "per_tensor_affine"), b"G?\xb9\x99\x99\x99\x99\x99\x9a", i(0))
    function = g("torch._utils", "_rebuild_qtensor")
    shape = t(i(1 << 40)), t(i(1))
    return in_policy(
        call(function, storage("0", 16, QINT8), i(0), *shape, scheme, FALSE, call(DICT)), harmless_data()
    )


@attack("A quantized tensor of channels that it has not.")
def a_quantized_tensor_of_other_channels() -> bytes:
    scales = call(
        g("torch._utils", "_rebuild_tensor_v2"), storage("1", 4), i(0), t(i(4)), t(i(1)), FALSE, call(DICT)
    )
    scheme = t(g("torch", "per_channel_affine"), scales + put(9), b"j\x09\0\0\0", i(0))
    function = g("torch._utils", "_rebuild_qtensor")
    shape = t(i(2), i(8)), t(i(8), i(1))
    return in_policy(
        call(function, storage("0", 16, QINT8), i(0), *shape, scheme, FALSE, call(DICT)),
        {"0": bytes(16), "1": bytes(16)},
    )


@attack("A tensor of quantized memory without a scale crashes when it is used.")
def quantized_memory_without_a_scale() -> bytes:
    function = g("torch._utils", "_rebuild_tensor_v2")
    shape = t(i(16)), t(i(1))
    return in_policy(
        call(function, storage("0", 16, QINT8), i(0), *shape, FALSE, call(DICT)), harmless_data()
    )


@attack("A real tensor that says it conjugates.")
def a_real_tensor_that_conjugates() -> bytes:
    function = g("torch._utils", "_rebuild_tensor_v2")
    shape = t(i(4)), t(i(1))
    return in_policy(call(function, storage("0", 4), i(0), *shape, FALSE, call(DICT), d({"conj": TRUE})))


@attack("A tensor as one of a class that is none of tensors.")
def a_tensor_as_something_else() -> bytes:
    return in_policy(_of_type(v("Plain")))


@attack("A tensor of a class that acts on each operation.")
def a_tensor_that_dispatches() -> bytes:
    return in_policy(_of_type(v("DispatchingTensor")))


@attack("A tensor of a class with a finalizer.")
def a_tensor_with_a_finalizer() -> bytes:
    return in_policy(_of_type(v("FinalTensor")))


@attack("A tensor of a class whose operations are code: none of it runs while it is loaded.", harmless=True)
def a_tensor_with_functions() -> bytes:
    return in_policy(_of_type(v("LoudTensor")))


def _of_type(cls: bytes) -> bytes:
    function = g("torch._utils", "_rebuild_tensor_v2")
    shape = t(i(4)), t(i(1))
    arguments = t(storage("0", 4), i(0), *shape, FALSE, call(DICT))
    return call(g("torch._tensor", "_rebuild_from_type_v2"), function, cls, arguments, d({"a": i(1)}))


@attack("An array of a class that acts when one is made.")
def an_array_that_acts() -> bytes:
    reconstruct = call(g("numpy.core.multiarray", "_reconstruct"), v("LoudArray"), t(i(0)), raw(b"b"))
    dtype = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    return in_policy(reconstruct + t(i(1), t(i(1)), dtype, FALSE, raw(bytes(8))) + b"b")


@attack("Records whose fields hold objects: NumPy would take the bytes for addresses.")
def records_of_objects() -> bytes:
    field = call(g("numpy", "dtype"), s("O8"), FALSE, TRUE)
    return in_policy(_records(d({"a": t(field, i(0))}), 8))


@attack("Records whose flags say that they hold objects.")
def records_whose_flags_lie() -> bytes:
    field = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    return in_policy(_records(d({"a": t(field, i(0))}), 8, flags=27))


@attack("A field that lies beyond its record.")
def a_field_beyond_its_record() -> bytes:
    field = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    return in_policy(_records(d({"a": t(field, i(1 << 20))}), 8))


@attack("Records of gigabytes.")
def records_of_gigabytes() -> bytes:
    field = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    return in_policy(_records(d({"a": t(field, i(0))}), 1 << 31))


def _records(fields: bytes, size: int, flags: int = 0) -> bytes:
    dtype = call(g("numpy", "dtype"), s(f"V{size}"), FALSE, TRUE)
    state = t(i(3), s("|"), NONE, t(s("a")), fields, i(size), i(1), i(flags))
    array = call(g("numpy.core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return array + t(i(1), t(i(1)), dtype + state + b"b", FALSE, raw(bytes(8))) + b"b"


@attack("A dtype of rows of terabytes.")
def rows_of_terabytes() -> bytes:
    base = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    state = t(i(3), s("|"), t(base, t(i(1 << 30), i(1 << 30))), NONE, NONE, i(8), i(1), i(0))
    return in_policy(call(g("numpy", "dtype"), s("V8"), FALSE, TRUE) + state + b"b")


@attack("A masked array whose fill value is an object.")
def a_masked_array_with_an_object() -> bytes:
    classes = g("numpy.ma.core", "MaskedArray"), g("numpy", "ndarray")
    made = call(g("numpy.ma.core", "_mareconstruct"), *classes, t(i(0)), s("b"))
    dtype = call(g("numpy", "dtype"), s("f8"), FALSE, TRUE)
    state = t(i(1), t(i(1)), dtype, FALSE, raw(bytes(8)), raw(b"\0"), new(v("Numeric")))
    return in_policy(made + state + b"b")


@attack("A handle of a hook with a number that no later hook could exceed.")
def a_handle_with_a_huge_number() -> bytes:
    return in_policy(new(g("torch.utils.hooks", "RemovableHandle"), state=t(NONE, i(1 << 60), NONE)))


@attack("An iterator of a range.", harmless=True)
def an_iterator_of_a_range() -> bytes:
    return in_policy(call(g("__builtin__", "iter"), call(g("__builtin__", "range"), i(1 << 60))))


@attack("An array of letters that are no numbers.")
def an_array_of_letters() -> bytes:
    return in_policy(call(g("array", "array"), s("u"), l(i(1))))


@attack("Bytes in a format that the array's letter does not have.")
def an_array_in_another_format() -> bytes:
    reconstruct = g("array", "_array_reconstructor")
    return in_policy(call(reconstruct, g("array", "array"), s("d"), i(99), raw(bytes(8))))
