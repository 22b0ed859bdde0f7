"""Tensors, arrays and generators whose description does not fit their bytes."""

from __future__ import annotations

import struct

from policy_gallery.assembler import (
    DATA,
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
    raw,
    s,
    storage,
    t,
    tensor,
    v,
)


@attack("A tensor that reaches beyond its data reads foreign memory.")
def a_tensor_beyond_its_data() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(5,)))


@attack("The same by its stride.")
def a_tensor_with_a_wide_stride() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(2,), stride=(1_000_000,)))


@attack("The same by its offset.")
def a_tensor_with_an_offset() -> bytes:
    return in_policy(tensor(storage("0", 4), offset=3, size=(2,)))


@attack("A negative offset.")
def a_tensor_before_its_data() -> bytes:
    return in_policy(tensor(storage("0", 4), offset=-1, size=(1,)))


@attack("A negative stride.")
def a_tensor_backwards() -> bytes:
    return in_policy(tensor(storage("0", 4), offset=3, size=(4,), stride=(-1,)))


@attack("A size whose product wraps around to a small number.")
def a_tensor_whose_size_wraps_around() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(1 << 33, 1 << 33), stride=(0, 0)))


@attack("A stride whose product wraps around.")
def a_tensor_whose_stride_wraps_around() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(1 << 40,), stride=(1 << 40,)))


@attack("A tensor with as many dimensions as the file likes.")
def a_tensor_of_many_dimensions() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(1,) * 1_000, stride=(1,) * 1_000))


@attack("More sizes than strides.")
def a_tensor_with_too_few_strides() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(2, 2), stride=(1,)))


@attack("A tensor that shows its one element very often takes no memory.", harmless=True)
def a_tensor_of_one_element() -> bytes:
    return in_policy(tensor(storage("0", 4), size=(1 << 20,), stride=(0,)))


@attack("Data that is said to be longer than it is.")
def data_that_is_too_short() -> bytes:
    return in_policy(tensor(storage("0", 1 << 40)))


@attack("Data that is not there.")
def data_that_is_missing() -> bytes:
    return in_policy(tensor(storage("7", 4)))


@attack("Data by a name that leads out of the archive.")
def data_by_a_path() -> bytes:
    return in_policy(tensor(storage("../../../etc/passwd", 4)))


@attack("A kind of data that is none of torch's.")
def data_of_another_kind() -> bytes:
    return in_policy(tensor(storage("0", 4, v("Loud"))))


@attack("A device that does not exist.", harmless=True)
def data_of_another_device() -> bytes:
    return in_policy(tensor(storage("0", 4, location="no such device")))


@attack("Something that is no data of a tensor is referred to.")
def another_reference() -> bytes:
    return in_policy(s("x") + b"Q")


@attack("The data of a tensor without the tensor.", harmless=True)
def data_without_a_tensor() -> bytes:
    return in_policy(storage("0", 4))


@attack("A truth value that is neither true nor false.")
def a_tensor_of_odd_truths() -> bytes:
    data = {**DATA, "1": b"\x02"}
    return in_policy(tensor(storage("1", 1, g("torch", "BoolStorage")), size=(1,)), data)


@attack("Whole numbers cannot have gradients.")
def gradients_of_whole_numbers() -> bytes:
    data = {**DATA, "1": bytes(8)}
    made = tensor(storage("1", 1, g("torch", "LongStorage")), size=(1,))
    return in_policy(call(g("torch._utils", "_rebuild_parameter"), made, TRUE, call(DICT)), data)


@attack("A parameter of something that is no tensor.")
def a_parameter_of_a_text() -> bytes:
    return in_policy(call(g("torch._utils", "_rebuild_parameter"), s("x"), FALSE, call(DICT)))


@attack("A sparse tensor whose indices lead out of it.")
def a_sparse_tensor_with_wild_indices() -> bytes:
    data = {**DATA, "1": struct.pack("<4q", 0, 1, 2, 1 << 40)}
    indices = tensor(storage("1", 4, g("torch", "LongStorage")), size=(1, 4), stride=(4, 1))
    layout = call(g("torch.serialization", "_get_layout"), s("torch.sparse_coo"))
    made = call(
        g("torch._utils", "_rebuild_sparse_tensor"), layout, t(indices, tensor(storage("0", 4)), t(i(8)))
    )
    return in_policy(made, data)


@attack("A layout that is none: any name in torch.")
def a_layout_that_is_none() -> bytes:
    return in_policy(call(g("torch.serialization", "_get_layout"), s("torch.load")))


def _array(dtype: str, shape: tuple[int, ...], content: bytes, state: bytes | None = None) -> bytes:
    kind = call(g("numpy", "dtype"), s(dtype), b"\x89", b"\x88") + (b"" if state is None else state + b"b")
    made = call(g("numpy._core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return made + t(i(1), t(*map(i, shape)), kind, b"\x89", content) + b"b"


@attack("Bytes as objects: NumPy reads them as pointers.")
def an_array_of_pointers() -> bytes:
    return in_policy(_array("O8", (1,), raw(bytes(8))))


@attack("A dtype whose flags hide that it holds objects.")
def a_dtype_whose_flags_lie() -> bytes:
    flags = t(i(3), s("|"), NONE, NONE, NONE, i(-1), i(-1), i(0))
    return in_policy(_array("O8", (1,), raw(bytes(8)), flags))


@attack("A dtype of bytes that are nothing.", harmless=True)
def a_dtype_of_bytes() -> bytes:
    return in_policy(_array("V8", (1,), raw(bytes(8))))


@attack("A dtype with a count in front: an array of gigabytes for each element.")
def a_dtype_with_a_count() -> bytes:
    return in_policy(_array("(1000000000,)u1", (0,), raw(b"")))


@attack("NumPy's own dtype, not a copy of it: changing it changes it for the program.")
def the_shared_dtype() -> bytes:
    return in_policy(call(g("numpy", "dtype"), s("f8"), b"\x89", b"\x89"))


@attack("An array that is larger than its bytes.")
def an_array_beyond_its_data() -> bytes:
    return in_policy(_array("f8", (1 << 40,), raw(bytes(8))))


@attack("Texts of no length: NumPy makes room for one letter each.")
def an_array_of_empty_texts() -> bytes:
    return in_policy(_array("U0", (1 << 40,), raw(b"")))


@attack("Nothing, in very large dimensions.")
def an_array_of_nothing() -> bytes:
    return in_policy(_array("f8", (0, 1 << 61), raw(b"")))


@attack("An array of objects with too few of them.")
def an_array_with_too_few_objects() -> bytes:
    return in_policy(_array("O8", (1 << 40,), l(NONE)))


@attack("A subclass of arrays runs `__array_finalize__`.")
def an_array_of_a_class_of_its_own() -> bytes:
    made = call(g("numpy._core.multiarray", "_reconstruct"), g("numpy.ma", "MaskedArray"), t(i(0)), raw(b"b"))
    return in_policy(made)


@attack("An array that was never given a shape.")
def an_array_without_a_state() -> bytes:
    made = call(g("numpy._core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return in_policy(made)


@attack("A scalar whose bytes are too few.")
def a_scalar_beyond_its_data() -> bytes:
    dtype = call(g("numpy", "dtype"), s("f8"), b"\x89", b"\x88")
    return in_policy(call(g("numpy._core.multiarray", "scalar"), dtype, raw(b"x")))


@attack("A scalar that is an object by its bytes.")
def a_scalar_that_is_a_pointer() -> bytes:
    dtype = call(g("numpy", "dtype"), s("O8"), b"\x89", b"\x88")
    return in_policy(call(g("numpy._core.multiarray", "scalar"), dtype, raw(bytes(8))))


def _bits(name: str, state: bytes) -> bytes:
    return call(g("numpy.random._pickle", "__bit_generator_ctor"), s(name)) + t(state, NONE) + b"b"


@attack("A position outside of the state: NumPy reads memory there.")
def a_generator_outside_of_its_state() -> bytes:
    key = _array("u8", (4,), raw(bytes(32)))
    counter = d({"counter": key, "key": _array("u8", (2,), raw(bytes(16)))})
    more = {"buffer": key, "buffer_pos": i(1 << 20), "has_uint32": i(0), "uinteger": i(0)}
    return in_policy(_bits("Philox", d({"bit_generator": s("Philox"), "state": counter, **more})))


@attack("The same for the Mersenne twister, before its state.")
def a_generator_before_its_state() -> bytes:
    key = d({"key": _array("u4", (624,), raw(bytes(2496))), "pos": i(-100)})
    return in_policy(_bits("MT19937", d({"bit_generator": s("MT19937"), "state": key})))


@attack("A state that is too short.")
def a_generator_with_a_short_state() -> bytes:
    key = d({"key": _array("u4", (1,), raw(bytes(4))), "pos": i(0)})
    return in_policy(_bits("MT19937", d({"bit_generator": s("MT19937"), "state": key})))


@attack("A state of another kind of generator.")
def a_generator_with_another_state() -> bytes:
    return in_policy(_bits("PCG64", d({"bit_generator": s("MT19937"), "state": d()})))


@attack("A generator by the name of any class in NumPy's module.")
def a_generator_that_is_none() -> bytes:
    return in_policy(_bits("RandomState", d({"bit_generator": s("RandomState"), "state": d()})))


@attack("A state of torch's generator that is four numbers.")
def a_generator_of_torch_with_a_short_state() -> bytes:
    data = {**DATA, "1": bytes(16)}
    device = call(g("torch", "device"), s("cpu"))
    content = tensor(storage("1", 16, g("torch", "ByteStorage")), size=(16,))
    return in_policy(call(g("torch._C", "Generator"), device) + t(i(1), NONE, content) + b"b", data)


@attack("A state of Python's generator with a position outside of it.")
def a_generator_of_python_with_a_wild_position() -> bytes:
    numbers = t(*[i(0)] * 624, i(1 << 20))
    return in_policy(call(g("random", "Random")) + t(i(3), numbers, NONE) + b"b")


@attack("An object in the place of a dtype runs when somebody asks what it is.")
def an_array_of_a_type_that_pretends() -> bytes:
    made = call(g("numpy._core.multiarray", "_reconstruct"), g("numpy", "ndarray"), t(i(0)), raw(b"b"))
    return in_policy(made + t(i(1), t(i(1)), new(v("Pretends")), b"\x89", raw(b"x")) + b"b")


@attack("The same for a scalar.")
def a_scalar_of_a_type_that_pretends() -> bytes:
    return in_policy(call(g("numpy._core.multiarray", "scalar"), new(v("Pretends")), raw(b"x")))


@attack("Objects in the place of everything that describes a tensor.")
def a_tensor_of_objects() -> bytes:
    odd = new(v("Pretends"))
    return in_policy(
        call(g("torch._utils", "_rebuild_tensor_v2"), storage("0", 4), odd, t(odd), t(odd), odd, odd)
    )


@attack("The same for a parameter.")
def a_parameter_of_objects() -> bytes:
    odd = new(v("Pretends"))
    return in_policy(call(g("torch._utils", "_rebuild_parameter"), odd, odd, odd))


@attack("A sparse tensor of objects.")
def a_sparse_tensor_of_objects() -> bytes:
    odd = new(v("Pretends"))
    return in_policy(call(g("torch._utils", "_rebuild_sparse_tensor"), odd, t(odd, odd, t(odd), odd)))
