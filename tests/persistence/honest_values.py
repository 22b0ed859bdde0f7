"""Values that honest policies hold, of every kind: loaded as an unpickler gives them, or refused with a reason.

Run as a program, it writes a policy with each, loads it in both ways, and prints what became of it as JSON: in a
process of its own, because an unpickler runs whatever a file says.
"""

from __future__ import annotations

import array
import collections
import copyreg
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import itertools
import json
import math
import operator
import pathlib
import random
import re
import string
import sys
import tempfile
import types
import typing
import uuid
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import honest_array_values
import honest_python_values
import numpy as np
import torch

# -- a user's classes ----------------------------------------------------------------------------------------


def func(*args: object, **kwargs: object) -> int:
    return 1


class Plain:
    def __init__(self) -> None:
        self.a = 1

    def method(self) -> int:
        return 1

    @classmethod
    def made(cls) -> int:
        return 1

    @functools.cached_property
    def computed(self) -> int:
        return 3


Pair = collections.namedtuple("Pair", "a b")


class Typed(NamedTuple):
    a: int
    b: str = "x"


class Color(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Text(enum.StrEnum):
    A = "a"


class Flags(enum.Flag):
    A = 1
    B = 2
    C = 4


class Bits(enum.IntFlag):
    A = 1
    B = 2


class Shape(enum.Enum):
    LONG = (1, 2)
    WIDE = ("x", (None, 1.5))

    def __init__(self, first: object, second: object) -> None:
        self.first = first


class Holder(enum.Enum):
    A = Plain()


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1


class Both(Slotted):
    __slots__ = ("__dict__", "c")

    def __init__(self) -> None:
        super().__init__()
        self.c, self.d = 2, 3


@dataclasses.dataclass
class Data:
    a: int = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int = 1
    b: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(slots=True)
class Slots:
    a: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    a: int = 1
    b: str = "x"


class Partly:
    """Leaves something out of its state."""

    def __init__(self) -> None:
        self.a, self.b = 1, lambda: 1

    def __getstate__(self) -> dict[str, int]:
        return {"a": self.a}


class Generic(typing.Generic[typing.TypeVar("T")]):
    pass


class OwnTensor(torch.Tensor):
    pass


class OwnParameter(torch.nn.Parameter):
    pass


class OwnArray(np.ndarray):
    pass


class Notes(np.ndarray):
    def __array_finalize__(self, other: object) -> None:
        self.note = getattr(other, "note", None)


class Problem(Exception):
    pass


class Explained(Exception):
    def __init__(self, what: str, why: str = "") -> None:
        super().__init__(what)
        self.why = why


class Dict(dict): ...  # type: ignore[type-arg]


class List(list): ...  # type: ignore[type-arg]


class Set(set): ...  # type: ignore[type-arg]


class FrozenSet(frozenset): ...  # type: ignore[type-arg]


class Tuple(tuple): ...  # type: ignore[type-arg]


class Deque(collections.deque): ...  # type: ignore[type-arg]


class Ordered(collections.OrderedDict): ...  # type: ignore[type-arg]


class Default(collections.defaultdict): ...  # type: ignore[type-arg]


class Counts(collections.Counter): ...  # type: ignore[type-arg]


class Str(str): ...


class Int(int): ...


class Float(float): ...


class Bytes(bytes): ...


# What needs a remedy: see test_persistence_remedies.py.


class SetsState:
    def __init__(self) -> None:
        self.a = 1

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__.update(state)
        self.b = 2


class Reduces:
    def __init__(self, a: int) -> None:
        self.a = a

    def __reduce__(self) -> Any:
        return Reduces, (self.a,)


class Arguments:
    def __new__(cls, a: int) -> Arguments:
        made = super().__new__(cls)
        made.a = a
        return made

    def __getnewargs__(self) -> tuple[int]:
        return (self.a,)


class Hashes:
    def __init__(self, a: int) -> None:
        self.a = a

    def __hash__(self) -> int:
        return hash(self.a)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashes) and self.a == other.a


class Finalizes:
    def __init__(self) -> None:
        self.a = 1

    def __del__(self) -> None:
        pass


class FinalizesSlots:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1

    def __del__(self) -> None:
        pass


class FinalizesDict(dict):  # type: ignore[type-arg]
    def __del__(self) -> None:
        pass


class Copied:
    def __init__(self, a: int) -> None:
        self.a = a


copyreg.pickle(Copied, lambda each: (Copied, (each.a,)))


# -- values --------------------------------------------------------------------------------------------------


def tagged(value: Any) -> Any:
    value.tag = "an attribute"
    return value


def seeded(space: Any) -> Any:
    space.seed(1)
    return space


def with_grad() -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.ones(2))
    (made * 2).sum().backward()
    return made


def cyclic() -> Any:
    made = Slotted()
    made.a = {"itself": made}
    return made


def hooked() -> torch.nn.Module:
    made = torch.nn.Linear(2, 2)
    made.handle = made.register_forward_hook(func)
    return made


def computed() -> Plain:
    made = Plain()
    assert made.computed == 3
    return made


def memory_map() -> Any:
    with tempfile.NamedTemporaryFile() as file:
        return np.memmap(file.name, mode="w+", shape=(3,))


def started() -> Any:
    made = iter([1, 2, 3])
    next(made)
    return made


def batch() -> Any:
    from tianshou.data import Batch

    return Batch(a=np.ones(2), b=Batch(c=torch.ones(2), d=Batch()), e=np.array([None, "x"], object), f=None)


def replay(vectors: bool = False) -> Any:
    from tianshou.data import Batch, ReplayBuffer, VectorReplayBuffer

    if vectors:
        return VectorReplayBuffer(10, 2)
    made = ReplayBuffer(5)
    made.add(Batch(obs=1, act=1, rew=1.0, terminated=False, truncated=False, obs_next=2, info={}))
    return made


def stacked_tensor_dicts() -> Any:
    from tensordict import LazyStackedTensorDict, TensorDict

    return LazyStackedTensorDict(*(TensorDict({"a": torch.ones(size)}, []) for size in (2, 3)), stack_dim=0)


def mixed_tensor_dict() -> Any:
    from tensordict import NonTensorData, NonTensorStack, TensorDict

    parts = {
        "a": "text",
        "b": NonTensorData({"c": [1, 2]}),
        "d": NonTensorStack("e", "f"),
        "g": torch.ones(1),
    }
    return TensorDict(parts, [])


def tensor_dict() -> Any:
    from tensordict import TensorDict

    return TensorDict({"a": torch.ones(2), "b": TensorDict({"c": torch.zeros(2, 1)}, [2])}, [2])


def tensor_dict_module() -> Any:
    from tensordict.nn import TensorDictModule

    return TensorDictModule(torch.nn.Linear(2, 2), in_keys=["a"], out_keys=["b"])


def actor() -> Any:
    from torchrl.modules import MLP, NormalParamExtractor, ProbabilisticActor, TanhNormal

    net = torch.nn.Sequential(MLP(3, 4, num_cells=[8]), NormalParamExtractor())
    from tensordict.nn import TensorDictModule

    module = TensorDictModule(net, in_keys=["observation"], out_keys=["loc", "scale"])
    return ProbabilisticActor(module, in_keys=["loc", "scale"], distribution_class=TanhNormal)


def rmsprop() -> Any:
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    return RMSpropTFLike(torch.nn.Linear(1, 1).parameters())


def complexes() -> torch.Tensor:
    return torch.tensor([1 + 2j, 3 - 1j])


def quantized(per_channel: bool = False) -> torch.Tensor:
    if per_channel:
        scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 1])
        return torch.quantize_per_channel(torch.ones(2, 3), scales, zeros, 0, torch.qint8)
    return torch.quantize_per_tensor(torch.arange(6.0).reshape(2, 3), 0.1, 3, torch.quint8)[:, 1:]


def _spaces() -> dict[str, Callable[[], Any]]:
    made = gym.spaces
    one = made.Discrete(2)
    return {
        "Box": lambda: made.Box(-1, 1, (2,)),
        "Box of two bounds": lambda: seeded(made.Box(np.array([0, 1]), np.array([2.0, np.inf]))),
        "Discrete": lambda: seeded(made.Discrete(3, start=1)),
        "MultiDiscrete": lambda: made.MultiDiscrete([2, 3]),
        "MultiBinary": lambda: made.MultiBinary(3),
        "Dict space": lambda: seeded(made.Dict(a=made.Discrete(2), b=made.Box(0, 1, ()))),
        "Tuple space": lambda: made.Tuple([made.Discrete(2)]),
        "Text space": lambda: made.Text(3),
        "Graph space": lambda: made.Graph(made.Box(0, 1, (2,)), None),
        "Sequence space": lambda: made.Sequence(one),
        "OneOf space": lambda: made.OneOf([one]),
    }


def _distributions() -> dict[str, Callable[[], Any]]:
    made = torch.distributions
    zeros, ones = torch.zeros(2), torch.ones(2)
    return {
        "Normal": lambda: made.Normal(zeros, ones),
        "Categorical": lambda: made.Categorical(ones),
        "Bernoulli": lambda: made.Bernoulli(probs=ones / 2),
        "Independent": lambda: made.Independent(made.Normal(zeros, ones), 1),
        "TanhNormal": lambda: made.TransformedDistribution(made.Normal(0.0, 1.0), [made.TanhTransform()]),
        "MultivariateNormal": lambda: made.MultivariateNormal(zeros, torch.eye(2)),
        "a constraint": lambda: made.constraints.interval(0, 1),
    }


def _torch() -> dict[str, Callable[[], Any]]:
    floats = ("float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2", "complex64", "complex32")
    whole = ("uint8", "uint16", "uint32", "uint64", "int8", "bool")
    net = torch.nn.Linear(2, 2)
    return {
        **{name: (lambda name=name: torch.ones(3).to(getattr(torch, name))) for name in floats + whole},
        "a conjugated view": lambda: complexes().conj(),
        "a negated view": lambda: complexes().conj().imag,
        "a part of a complex tensor": lambda: complexes().real,
        "an expanded tensor": lambda: torch.ones(1).expand(3),
        "an empty tensor": lambda: torch.empty(0, 3),
        "a number": lambda: torch.tensor(1.0),
        "a meta tensor": lambda: torch.empty(2, 3, device="meta"),
        "a leaf": lambda: torch.ones(2, requires_grad=True),
        "a parameter with a gradient": with_grad,
        "a tensor with an attribute": lambda: tagged(torch.ones(2)),
        "a parameter with an attribute": lambda: tagged(torch.nn.Parameter(torch.ones(2))),
        "a Buffer": lambda: torch.nn.Buffer(torch.ones(2)),
        "a class of tensors": lambda: tagged(torch.ones(2).as_subclass(OwnTensor)),
        "a class of parameters": lambda: OwnParameter(torch.ones(2)),
        "quantized": quantized,
        "quantized per channel": lambda: quantized(True),
        "COO": lambda: torch.eye(3).to_sparse(),
        "COO with doubles": lambda: torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (2,)),
        "CSR": lambda: torch.eye(3).to_sparse_csr(),
        "CSC": lambda: torch.eye(3).to_sparse_csc(),
        "BSR": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
        "Size": lambda: torch.Size([1, 2]),
        "dtype": lambda: torch.float32,
        "device": lambda: torch.device("cuda:1"),
        "layout": lambda: torch.sparse_coo,
        "memory format": lambda: torch.channels_last,
        "qscheme": lambda: torch.per_tensor_affine,
        "a generator of torch": lambda: torch.Generator().manual_seed(3),
        "what max returns": lambda: torch.eye(2).max(0),
        "a packed sequence": lambda: torch.nn.utils.rnn.pack_padded_sequence(
            torch.ones(3, 2), torch.tensor([3, 2])
        ),
        "a lazy layer": lambda: torch.nn.LazyLinear(2),
        "a layer with weight_norm": lambda: torch.nn.utils.weight_norm(torch.nn.Linear(2, 2)),
        "a layer with a hook": hooked,
        "fx": lambda: torch.fx.symbolic_trace(torch.nn.Linear(2, 2)),
        "an average of models": lambda: torch.optim.swa_utils.AveragedModel(torch.nn.Linear(1, 1)),
        "a data set": lambda: torch.utils.data.TensorDataset(torch.ones(2)),
        "GradScaler": lambda: torch.amp.GradScaler("cpu"),
        "a schedule": lambda: torch.optim.lr_scheduler.StepLR(torch.optim.SGD(net.parameters(), 0.1), 1),
        "a schedule by a function": lambda: torch.optim.lr_scheduler.LambdaLR(
            torch.optim.SGD(net.parameters(), 0.1), func
        ),
        **{
            name: (lambda name=name: getattr(torch.optim, name)(net.parameters()))
            for name in ("LBFGS", "SparseAdam", "Adafactor")
        },
        "RMSpropTFLike": rmsprop,
        "Batch": batch,
        "ReplayBuffer": replay,
        "VectorReplayBuffer": lambda: replay(True),
        "TensorDict": tensor_dict,
        "a stack of TensorDicts": stacked_tensor_dicts,
        "a TensorDict with what is no tensor": mixed_tensor_dict,
        "TensorDictModule": tensor_dict_module,
        "an actor of TorchRL": actor,
    }


def _numpy() -> dict[str, Callable[[], Any]]:
    fields = [("a", "i1"), ("b", "f8", (2,))]
    return {
        **{
            f"{code} array": (lambda code=code: np.ones(2, code))
            for code in ("f2", "g", "G", ">f8", ">u2", "V3")
        },
        "records": lambda: np.array([(1, (2.0, 3.0))], fields),
        "aligned records": lambda: np.zeros(2, np.dtype(fields, align=True)),
        "records in records": lambda: np.zeros(2, [("a", [("x", "i4")]), (("title", "b"), "S3")]),
        "records of times": lambda: np.zeros(2, [("when", "M8[ns]"), ("text", "U4")]),
        "records of another order": lambda: np.array([(1,)], [("a", ">i4")]),
        "recarray": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        "a record": lambda: np.ones(2, fields)[0],
        "days": lambda: np.array(["2020-01-01", "NaT"], "M8[D]"),
        "seconds": lambda: np.array([1], "m8[25s]"),
        "times without a unit": lambda: np.array(["NaT"], "M8"),
        "a day": lambda: np.datetime64("2020-01-01"),
        "a duration": lambda: np.timedelta64(3, "s"),
        "objects": lambda: np.array([[None, {}], ["x", 1]], object),
        "one object": lambda: np.array(None, object),
        "texts": lambda: np.array(["", "é"]),
        "texts of no length": lambda: np.array(["", ""]),
        "bytes of no length": lambda: np.zeros(2, "S0"),
        "Fortran order": lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
        "void": lambda: np.void(b"ab"),
        **{kind.__name__: functools.partial(kind, 1) for kind in (np.float16, np.longdouble, np.complex64)},
        "str_": lambda: np.str_("a"),
        "bytes_": lambda: np.bytes_(b"a"),
        "a masked array": lambda: np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
        "matrix": lambda: np.matrix([[1, 2]]),
        "memmap": memory_map,
        "a class of arrays": lambda: np.ones(2).view(OwnArray),
        "a class of arrays with notes": lambda: np.ones(2).view(Notes),
        "a dtype of records": lambda: np.dtype(fields),
        "a dtype of rows": lambda: np.dtype(("i4", (2,))),
        "poly1d": lambda: np.poly1d([1, 2]),
        "Polynomial": lambda: np.polynomial.Polynomial([1, 2]),
        "vectorize": lambda: np.vectorize(func),
        "default_rng": lambda: np.random.default_rng(1),
        "RandomState": lambda: np.random.RandomState(1),
        "PCG64DXSM": lambda: np.random.Generator(np.random.PCG64DXSM(1)),
        "SeedSequence": lambda: np.random.SeedSequence([3, 4], spawn_key=(1,)),
        "a bit generator": lambda: np.random.PCG64(1),
        "a sparse matrix": lambda: __import__("scipy.sparse").sparse.csr_matrix(np.eye(2)),
        "a graph": lambda: __import__("networkx").path_graph(3),
        "a table of pandas": lambda: __import__("pandas").DataFrame({"a": [1]}),
    }


def _python() -> dict[str, Callable[[], Any]]:
    utc = datetime.UTC
    there = datetime.timezone(datetime.timedelta(hours=2), "there")
    return {
        "Decimal": lambda: decimal.Decimal("-1.50"),
        "Decimal NaN": lambda: decimal.Decimal("NaN"),
        "Decimal context": lambda: decimal.getcontext().copy(),
        "Fraction": lambda: fractions.Fraction(-1, 3),
        "complex": lambda: complex(math.nan, -0.0),
        "a long number": lambda: -(2**5000),
        "UUID": lambda: uuid.UUID(int=5),
        "a moment": lambda: datetime.datetime(2020, 1, 1, fold=1, tzinfo=utc),
        "a moment there": lambda: datetime.datetime(2020, 1, 1, tzinfo=there),
        "a time": lambda: datetime.time(1, 2, 3, tzinfo=there),
        "a zone": lambda: there,
        "Path": lambda: pathlib.Path("/a/b"),
        "PurePosixPath": lambda: pathlib.PurePosixPath("a/b"),
        "PureWindowsPath": lambda: pathlib.PureWindowsPath("a\\b"),
        "an address": lambda: ipaddress.ip_address("1.2.3.4"),
        "a network": lambda: ipaddress.ip_network("2001:db8::/32"),
        "range": lambda: range(3, 10, 2),
        "slice": lambda: slice(np.int64(2), None, "x"),
        "Pattern": lambda: re.compile("a+(?P<x>b)", re.I | re.M),
        "Pattern of bytes": lambda: re.compile(b"a+"),
        "Template": lambda: string.Template("a"),
        "array": lambda: array.array("d", [1, 2]),
        "array of whole numbers": lambda: array.array("H", [1, 2]),
        "bytearray": lambda: bytearray(b"ab"),
        "OrderedDict": lambda: collections.OrderedDict(a=1),
        "defaultdict": lambda: collections.defaultdict(float, a=1),
        "defaultdict of a class": lambda: collections.defaultdict(Plain),
        "defaultdict of counters": lambda: collections.defaultdict(collections.Counter),
        "defaultdict of defaultdicts": lambda: collections.defaultdict(
            functools.partial(collections.defaultdict, list)
        ),
        "Counter": lambda: collections.Counter("aab"),
        "deque": lambda: collections.deque([1, 2], 3),
        "ChainMap": lambda: collections.ChainMap({1: 2}, {3: 4}),
        "UserDict": lambda: collections.UserDict(a=1),
        "UserList": lambda: collections.UserList([1]),
        "UserString": lambda: collections.UserString("x"),
        "SimpleNamespace": lambda: types.SimpleNamespace(a=1),
        "a named tuple": lambda: Pair(1, 2),
        "a typed tuple": lambda: Typed(1),
        "partial": lambda: functools.partial(func, 1, a=2),
        "partial with an attribute": lambda: tagged(functools.partial(func)),
        "partial of a method": lambda: functools.partial(Plain().method),
        "a function": lambda: func,
        "a ufunc": lambda: np.tanh,
        "a function of torch": lambda: torch.nn.functional.relu,
        "a built-in function": lambda: max,
        "a method": lambda: Plain().method,
        "a method of a class": lambda: Plain.made,
        "itemgetter": lambda: operator.itemgetter(1, 2),
        "attrgetter": lambda: operator.attrgetter("a.b"),
        "methodcaller": lambda: operator.methodcaller("foo", 1),
        "count": lambda: itertools.count(3, 2),
        "an iterator": started,
        "random.Random": lambda: random.Random(1),
        "an exception": lambda: ValueError("x", 1),
        "an exception of its own": lambda: tagged(Problem("a")),
        "an exception with more": lambda: Explained("a", "b"),
        "a class": lambda: Plain,
        "the class of None": lambda: type(None),
        "list[int]": lambda: list[int],
        "Optional": lambda: typing.Optional[int],  # noqa: UP045
        "int | None": lambda: int | None,
        "Optional of a list": lambda: typing.Optional[list[int]],  # noqa: UP045
        "a generic object": lambda: Generic[int](),
        "...": lambda: ...,
        "NotImplemented": lambda: NotImplemented,
        "an enum": lambda: Color.RED,
        "an IntEnum": lambda: Number.ONE,
        "a StrEnum": lambda: Text.A,
        "a flag": lambda: Flags.A,
        "flags": lambda: Flags.A | Flags.C,
        "no flags": lambda: Flags(0),
        "bits": lambda: Bits.A | Bits.B,
        "bits beyond": lambda: Bits(9),
        "flags of re": lambda: re.I | re.M,
        "an enum of tuples": lambda: [Shape.LONG, Shape.WIDE],
        "an enum of objects": lambda: Holder.A,
        **{
            each.__name__: each
            for each in (Plain, Slotted, Both, Data, Frozen, Slots, FrozenSlots, Partly)
        },
        "cached_property": computed,
        "cyclic": cyclic,
        "Dict": lambda: tagged(Dict(a=1)),
        "List": lambda: tagged(List([1])),
        "Set": lambda: Set([1]),
        "FrozenSet": lambda: FrozenSet([1]),
        "Tuple": lambda: Tuple((1, 2)),
        "Deque": lambda: Deque([1]),
        "Ordered": lambda: tagged(Ordered(a=1)),
        "Default": lambda: Default(int, a=1),
        "Counts": lambda: Counts("ab"),
        "Str": lambda: tagged(Str("a")),
        "Int": lambda: Int(3),
        "Float": lambda: Float(1.5),
        "Bytes": lambda: Bytes(b"a"),
        "plain keys": lambda: {1.5: 1, (1, (2,)): 2, frozenset({1}): 3, b"x": 4, None: 5, math.inf: 6},
        "keys of time": lambda: {datetime.date(2020, 1, 1): 1, datetime.datetime(2020, 1, 1, tzinfo=utc): 2},
        "keys of numbers": lambda: {decimal.Decimal(1): 1, fractions.Fraction(1, 3): 2, uuid.UUID(int=3): 3},
        "a path as a key": lambda: {pathlib.PurePosixPath("a"): 1},
        "members as keys": lambda: {Color.RED: 1, Flags.A: 2, Pair(1, 2): 3},
        "dataclasses as keys": lambda: {Frozen(): 1, FrozenSlots(): 2},
        "modules as keys": lambda: {torch.nn.ReLU(): 1, torch.float32: 2, torch.device("cpu"): 3},
        "classes as keys": lambda: {int: 1, Plain: 2, func: 3},
        **{
            each.__name__: functools.partial(each, *arguments)
            for each, arguments in (
                (SetsState, ()), (Reduces, (3,)), (Arguments, (3,)), (Finalizes, ()), (FinalizesSlots, ()),
                (FinalizesDict, ()), (Copied, (3,)),
            )
        },
        "Hashes": lambda: {Hashes(3): 1},
    }  # fmt: skip


VALUES = {
    **_python(),
    **_numpy(),
    **_torch(),
    **_spaces(),
    **_distributions(),
    **honest_python_values.values(),
    **honest_array_values.values(),
}

#: What is refused, and what the message says.
REFUSED = {
    "a table of pandas": "Keep what it makes as plain",
    "fx": "Keep the module that it was traced from",
    "a quantized layer": "Keep the layers as they were before they were converted",
    "quint4x2": "keep the tensor that they were made of",
    "a class of arrays with notes": "__array_finalize__ of its own",
    "an enum of objects": "Keep the member's name",
    "records of rows of objects": "Keep one array for each field",
    "a masked matrix": "Keep its data and its mask",
    "Named": "perdure.register(Named, capture=lambda obj: obj.__getnewargs_ex__()",
    "SetsState": "perdure.register(SetsState, capture=SetsState.__getstate__, restore=SetsState.__setstate__)",
    **{
        name: f"perdure.register({name}, capture="
        for name in (
            *("Reduces", "Arguments", "Hashes", "Finalizes", "FinalizesSlots", "FinalizesDict", "Copied"),
            *("Says", "Wordy", "Counting"),
        )
    },
}
#: What torch itself does not write.
UNWRITTEN = ("memory format",)


def policy_with(value: Any) -> torch.nn.Module:
    policy = torch.nn.Identity()
    if isinstance(value, torch.nn.Module):
        policy.x = value
    else:
        policy.__dict__["x"] = value
    return policy


def all_in_one() -> torch.nn.Module:
    """A policy that holds one of each value that is loaded."""
    policy = torch.nn.Identity()
    for number, (name, make) in enumerate(VALUES.items()):
        if name not in REFUSED and name not in UNWRITTEN:
            setattr(policy, f"x{number}", make())
    return policy


def main(directory: str) -> None:
    """Write, load and compare all of them."""
    from honest_policies import compare

    from perdure.errors import PerdureError

    warnings.simplefilter("ignore")
    said = {}
    for name, make in VALUES.items():
        for protocol in (2, 4):
            path = f"{directory}/{protocol}.pt"
            try:
                torch.save(policy_with(make()), path, pickle_protocol=protocol)
            except ImportError as error:
                said[f"{name}, {protocol}"] = f"missing: {error}"
                continue
            except Exception as error:  # pickle raises what it comes upon
                said[f"{name}, {protocol}"] = f"cannot be written: {error}"
                continue
            try:
                said[f"{name}, {protocol}"] = compare(path) or "equal"
            except PerdureError as error:
                said[f"{name}, {protocol}"] = f"{type(error).__name__}: {error}"
            except Exception as error:
                said[f"{name}, {protocol}"] = f"failed: {type(error).__name__}: {error}"
    print(json.dumps(said))


if __name__ == "__main__":
    import honest_values  # the classes are not those of a main script

    honest_values.main(sys.argv[1])
