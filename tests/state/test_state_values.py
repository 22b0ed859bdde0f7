"""Values without identity: what goes into a state comes out of it, bit for bit and of the same type."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import math
import pathlib
import uuid

import numpy as np
import pytest
import torch
from state_support import differences, moved

from perdure.errors import CaptureError
from perdure.state import capture


class Mode(enum.Enum):
    TRAIN = object()
    TEST = "test"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Flags(enum.IntFlag):
    A = 1
    B = 2


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**62,
    -(2**62),
    2**63,
    2**64 - 1,
    10**5000,
    -(10**5000),
    0.0,
    1e-320,
    math.inf,
    -math.inf,
    complex(1, -0.0),
    complex(math.inf, math.nan),
    "",
    "naïve \N{SNOWMAN} \0 \U0001f600",
    "\ud800",
    "\ud83d\ude00",
    b"",
    bytes(range(256)),
    Ellipsis,
    NotImplemented,
    slice(None, 10**30, -1),
    range(0, 10**30, 7),
    torch.float32,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.device("cpu"),
    torch.device("cuda:1"),
    torch.Size([2, 0]),
    torch.strided,
    torch.sparse_coo,
    torch.channels_last,
    np.dtype("<f4"),
    np.dtype(">i2"),
    np.dtype(object),
    np.dtype([("a", "<i4"), ("b", "<f8", (2, 3)), ("c", [("d", "|u1")])]),
    np.dtype([(("title", "name"), "<i4")]),
    np.dtype("datetime64[ms]"),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
    datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET")),
    datetime.time(1, 2, tzinfo=datetime.UTC),
    datetime.timezone(datetime.timedelta(hours=-3)),
    datetime.timezone(datetime.timedelta(hours=1), "CET"),
    datetime.date(1, 1, 1),
    datetime.time(23, 59, 59, 999999),
    datetime.timedelta(days=-1, microseconds=1),
    decimal.Decimal("1.10"),
    fractions.Fraction(10**40, 3),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("c:/x"),
    pathlib.Path("tmp"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_survives(value):
    found = moved(value)
    assert type(found) is type(value)
    assert found == value or found != found
    if isinstance(value, datetime.datetime):
        assert (found.fold, found.utcoffset()) == (value.fold, value.utcoffset())
        assert found.tzname() == value.tzname()
    if isinstance(value, datetime.timezone):
        assert found.tzname(None) == value.tzname(None)


def test_coordinated_universal_time_is_one_object():
    assert moved(datetime.UTC) is datetime.UTC


@pytest.mark.parametrize("number", [0.0, -0.0, math.nan, 5e-324, 1.7976931348623157e308, 0.1])
def test_floats_keep_their_bits(number):
    assert np.float64(moved(number)).tobytes() == np.float64(number).tobytes()
    assert np.float64(moved([number] * 20)[7]).tobytes() == np.float64(number).tobytes()


@pytest.mark.parametrize("member", [Mode.TRAIN, Level.HIGH, Flags.A | Flags.B, Flags(0), Flags(8)])
def test_members_of_enums_come_back_as_themselves(member):
    # The script has to show the class; any member does.
    class Holder:
        pass

    saved, live = Holder(), Holder()
    saved.mode, live.mode = member, next(iter(type(member)))
    found = moved(saved, live).mode
    assert found == member
    assert type(found) is type(member)


SCALARS = [
    np.bool_(True),
    np.int8(-128),
    np.uint64(2**64 - 1),
    np.float16(-0.0),
    np.float32(np.nan),
    np.float64(1e-310),
    np.complex64(1 - 2j),
    np.longdouble(1) / 3,
    np.datetime64("2024-01-01T00:00", "m"),
    np.datetime64("NaT"),
    np.timedelta64(5, "s"),
    np.str_(""),
    np.str_("\N{SNOWMAN}\0x"),
    np.bytes_(b""),
    np.bytes_(b"a\0b"),
    np.void(b"abc"),
]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: repr(scalar))
def test_a_numpy_scalar_stays_one(scalar):
    found = moved(scalar)
    assert type(found) is type(scalar)
    assert found.dtype == scalar.dtype
    assert found.tobytes() == scalar.tobytes()
    many = moved([scalar] * 20)
    assert {type(each) for each in many} == {type(scalar)}
    assert many[3].tobytes() == scalar.tobytes()


def structured():
    dtype = np.dtype([("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "|S3")])])
    return np.frombuffer(bytes(range(dtype.itemsize * 3)), dtype).copy()


def aligned():
    array = np.zeros(3, np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True))
    array["b"] = [1, 2, 3]
    return array


ARRAYS = {
    "plain": lambda: np.arange(6.0).reshape(2, 3),
    "0-d": lambda: np.array(3.5),
    "empty": lambda: np.empty((0, 4), np.float32),
    "empty inside": lambda: np.empty((4, 0, 2), np.int8),
    "Fortran": lambda: np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "transposed": lambda: np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "reversed": lambda: np.arange(10)[::-1],
    "strided": lambda: np.arange(20)[3::4],
    "broadcast": lambda: np.broadcast_to(np.arange(3), (4, 3)),
    "big-endian": lambda: np.arange(5, dtype=">i4"),
    "bool": lambda: np.array([True, False]),
    "float16": lambda: np.array([1, np.nan, -0.0], np.float16),
    "complex": lambda: np.array([1 + 2j, np.nan]),
    "longdouble": lambda: np.zeros(3, np.longdouble),
    "datetime": lambda: np.array(["2020-01-01", "NaT"], "datetime64[D]"),
    "timedelta": lambda: np.array([1, 2], "timedelta64[ns]"),
    "text": lambda: np.array(["a", "\N{SNOWMAN}\N{SNOWMAN}"]),
    "bytes": lambda: np.array([b"a", b"bcd"]),
    "void": lambda: np.array([b"abc", b"def"], "V3"),
    "structured": structured,
    "aligned": aligned,
    "read-only": lambda: np.frombuffer(b"12345678", np.int32),
    "unaligned": lambda: np.frombuffer(b"x" * 17, np.uint8)[1:].view(np.float64),
}


@pytest.mark.parametrize("make", ARRAYS.values(), ids=ARRAYS.keys())
def test_an_array_survives(make):
    value = make()
    for into in (None, "something else", np.zeros(77), make()):
        found = moved(value, into)
        assert type(found) is np.ndarray
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tobytes() == value.tobytes()
        assert found.flags.writeable


def test_arrays_keep_their_order_in_memory():
    fortran = moved(np.asfortranarray(np.arange(24).reshape(2, 3, 4)))
    assert fortran.flags.f_contiguous
    turned = moved(np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0))
    assert turned.strides == np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0).strides


def test_a_live_array_is_filled_in_place_whatever_its_order():
    value = np.arange(24.0).reshape(2, 3, 4)
    for into in (
        np.zeros((2, 3, 4)),
        np.zeros((2, 3, 4), order="F"),
        np.zeros((4, 6, 8))[::2, ::2, ::2].transpose(0, 1, 2),
    ):
        if into.shape != value.shape:
            into = np.zeros((2, 6, 8))[:, ::2, ::2]
        assert moved(value, into) is into
        assert np.array_equal(into, value)


@pytest.mark.parametrize("dtype", sorted(str(dtype) for dtype in set(map(np.dtype, "?bBhHiIlLqQefdgFDG"))))
def test_every_number_type_of_numpy(dtype):
    value = np.arange(4).astype(dtype)
    assert moved(value).tobytes() == value.tobytes()


TORCH_DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_dtype_of_torch(dtype):
    value = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)
    for into in (None, torch.ones_like(value), torch.zeros(5)):
        found = moved(value, into)
        assert found.dtype is dtype
        assert bytes(found.view(torch.uint8).numpy()) == bytes(value.view(torch.uint8).numpy())


TENSORS = {
    "0-d": lambda: torch.tensor(2.5),
    "empty": lambda: torch.empty(0, 3),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).t(),
    "strided": lambda: torch.arange(20)[::3],
    "expanded": lambda: torch.arange(3).expand(4, 3),
    "channels last": lambda: torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    "conjugate": lambda: torch.tensor([1 + 2j]).conj(),
    "negative": lambda: torch.tensor([1 + 2j]).conj().imag,
    "NaN": lambda: torch.tensor([float("nan"), -0.0]),
    "requires grad": lambda: torch.ones(2, requires_grad=True),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "frozen parameter": lambda: torch.nn.Parameter(torch.ones(2), requires_grad=False),
    "of a graph": lambda: torch.ones(2, requires_grad=True) * 3,
}


@pytest.mark.parametrize("make", TENSORS.values(), ids=TENSORS.keys())
def test_a_tensor_survives(make):
    value = make()
    for into in (None, make()):
        found = moved(value, into)
        assert type(found) is type(value)
        assert found.requires_grad == (value.requires_grad and value.is_leaf)
        assert torch.equal(found.detach().nan_to_num(7), value.detach().resolve_neg().nan_to_num(7))


def test_channels_last_stays_so():
    assert moved(TENSORS["channels last"]()).is_contiguous(memory_format=torch.channels_last)


def test_tensors_of_inference_mode_are_replaced():
    with torch.inference_mode():
        live = torch.zeros(3)
    found = moved(torch.ones(3), live)
    assert found.tolist() == [1, 1, 1]
    assert live.tolist() == [0, 0, 0]


def test_gradients_belong_to_their_tensor():
    value = torch.ones(3, requires_grad=True)
    (value * 2).sum().backward()
    live = torch.zeros(3, requires_grad=True)
    found = moved(value, live)
    assert found is live
    assert found.grad.tolist() == [2, 2, 2]
    had_one = torch.zeros(3, requires_grad=True)
    had_one.sum().backward()
    assert moved(torch.ones(3, requires_grad=True), had_one).grad is None


def test_a_meta_dtype_of_numpy_with_overlapping_fields_is_refused():
    dtype = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]})
    with pytest.raises(CaptureError, match="x"):
        capture({"x": np.zeros(2, dtype)})


def test_bytearrays_have_an_identity():
    value = bytearray(b"abc")
    found = moved([value, value], [bytearray(b"x"), None])
    assert found[0] == b"abc"
    assert found[0] is found[1]
    live = [bytearray(b"longer than before")]
    inner = live[0]
    assert moved([value], live)[0] is inner


def test_what_differs_is_told_apart():
    assert differences(0.0, -0.0) == ["x"]
    assert differences(math.nan, math.nan) == []
    assert differences(1, 1.0) == ["x"]
    assert differences(True, 1) == ["x"]
    assert differences(10**5000, 10**5000 + 1) == ["x"]
    assert differences(np.array([0.0]), np.array([-0.0])) == ["x"]
    assert differences(np.float32(1), np.float64(1)) == ["x"]
    assert differences(torch.ones(2), torch.ones(2, requires_grad=True)) == ["x"]
    assert differences({1, 2, (3, 4)}, {(3, 4), 2, 1}) == []
    assert differences({1, 2, (3, 4)}, {(3, 5), 2, 1}) == ["x"]
    assert differences([{}] * 2 + [{} for _ in range(20)], [{} for _ in range(22)]) != []
    assert differences([1.0] * 20, [1.0] * 19 + [2.0]) == ["x[0:20]"]
    assert differences(np.zeros((2, 2)), np.zeros((2, 2), order="F")) == []
