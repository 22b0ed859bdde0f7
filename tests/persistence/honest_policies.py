"""Honest policies of every kind that the tests know, for comparing what is read as data with what an unpickler gives.

Run with files as arguments, it loads each in both ways and compares: in a process of its own, because an unpickler runs
whatever a file says.
"""

from __future__ import annotations

import copyreg
import datetime
import decimal
import enum
import functools
import itertools
import operator
import resource
import sys
import types
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import torch


def layers() -> torch.nn.Module:
    """One of each of torch's layers that sets its own state, or holds more than parameters."""
    made = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        torch.nn.GRU(2, 2),
        torch.nn.MultiheadAttention(4, 2),
        torch.nn.TransformerEncoderLayer(4, 2, 8),
        torch.nn.TransformerDecoderLayer(4, 2, 8),
        torch.nn.Upsample(scale_factor=2),
        torch.nn.Softmax(-1),
        torch.nn.AvgPool3d(2),
        torch.nn.Embedding(3, 2),
        torch.nn.utils.spectral_norm(torch.nn.Linear(2, 2)),
        torch.nn.ParameterList([torch.nn.Parameter(torch.ones(1))]),
        torch.nn.ModuleDict({"a": torch.nn.ReLU()}),
    )
    made.shared = made[0]
    made.register_buffer("view", torch.arange(6.0)[2:4])
    made.register_buffer("transposed", torch.arange(6.0).reshape(2, 3).T)
    made.register_buffer("sparse", torch.eye(3).to_sparse())
    made.register_buffer("truths", torch.tensor([True, False]))
    made.register_buffer("small", torch.ones(2, dtype=torch.bfloat16))
    made.register_buffer("unsigned", torch.ones(2, dtype=torch.uint16))
    made[0].weight.tag = "a parameter with an attribute"
    return made


def optimizers() -> torch.nn.Module:
    """All of torch's common optimizers, after a step."""
    made = torch.nn.Linear(2, 2)
    kinds = (
        "Adam",
        "AdamW",
        "RMSprop",
        "SGD",
        "Adagrad",
        "Adadelta",
        "Adamax",
        "NAdam",
        "RAdam",
        "ASGD",
        "Rprop",
    )
    made.optimizers = [getattr(torch.optim, kind)(made.parameters(), lr=0.1) for kind in kinds]
    made(torch.ones(2)).sum().backward()
    for optimizer in made.optimizers:
        optimizer.step()
    return made


def values() -> torch.nn.Module:
    """Plain values of all kinds, and containers that hold themselves."""
    made = torch.nn.Identity()
    made.numbers = [1, -1, 2**70, -(2**70), 1.5, float("inf"), 1j, True, None, ...]
    made.texts = ["", "é", "\ud800", b"", b"\x00\xff", bytearray(b"x")]
    made.itself: list[Any] = []
    made.itself.append((made.itself,))
    made.odd = {(1, "a"): slice(1, 2), frozenset({1}): range(3), torch.float32: np.dtype("<i2"), int: {1}}
    made.arrays = [
        np.zeros((0, 3)),
        np.asfortranarray(np.eye(2)),
        np.array("text"),
        np.array([None, {}], object),
    ]
    made.scalars = [
        np.float32(1),
        np.int64(2),
        np.bool_(True),
        np.str_("x"),
        np.datetime64("2020", "s").item(),
    ]
    made.times = [datetime.datetime(2020, 1, 2, 3), datetime.date(2020, 1, 2), datetime.timedelta(1, 2, 3)]
    made.plain = types.SimpleNamespace(a=1)
    made.size = torch.Size([1, 2])
    made.generators = [
        np.random.Generator(bits(3)) for bits in (np.random.Philox, np.random.SFC64, np.random.MT19937)
    ]
    return made


def libraries() -> dict[str, Callable[[], torch.nn.Module]]:
    """The policies and algorithms of Tianshou and Stable-Baselines3."""
    import stable_baselines3 as sb3
    import test_persistence_libraries as tests

    def algorithm(build: Callable[[], Any]) -> torch.nn.Module:
        made: torch.nn.Module = build()
        tests.step_all_optimizers(made)
        return made

    def of_sb3(name: str) -> torch.nn.Module:
        env = "Pendulum-v1" if name in ("SAC", "TD3") else "CartPole-v1"
        made: torch.nn.Module = getattr(sb3, name)(
            "MlpPolicy", env, seed=1, policy_kwargs={"net_arch": [8]}, device="cpu"
        ).policy
        return made

    builds = (tests.dqn, tests.ppo, tests.sac)
    return {
        **{f"tianshou {build.__name__}": (lambda build=build: build().policy) for build in builds},
        **{f"tianshou {build.__name__} algorithm": functools.partial(algorithm, build) for build in builds},
        **{f"sb3 {name}": functools.partial(of_sb3, name) for name in ("A2C", "DQN", "PPO", "SAC", "TD3")},
    }


_WITHOUT_SLOTS = (type, enum.Enum, torch.Tensor, np.ndarray, PurePath)


def difference(a: Any, b: Any) -> str | None:
    """The first path at which two objects differ: in type, content, order, or in what is the same object."""
    stack: list[tuple[str, Any, Any]] = [("policy", a, b)]
    same: dict[int, int] = {}
    alive: list[Any] = []
    while stack:
        path, a, b = stack.pop()
        if type(a) is not type(b):
            return f"{path}: {type(a)} and {type(b)}"
        if a is b:
            continue
        if isinstance(
            a, int | float | complex | str | bytes | np.generic | np.dtype | torch.dtype | torch.device
        ):
            if not (a == b or (a != a and b != b)):
                return f"{path}: {a!r:.80} and {b!r:.80}"
            continue
        if id(a) in same:
            if same[id(a)] != id(b):
                return f"{path}: not the same object as elsewhere"
            continue
        same[id(a)] = id(b)
        alive += [a, b]
        if (found := _content(path, a, b, stack)) is not None:
            return found
        for name in () if isinstance(a, _WITHOUT_SLOTS) else copyreg._slotnames(type(a)):
            pair = [getattr(each, name, "nothing") for each in (a, b)]
            if any(each is not pair[0] for each in pair) and name != "__weakref__":
                stack.append((f"{path}.{name}", *pair))
        ours, theirs = getattr(a, "__dict__", None), getattr(b, "__dict__", None)
        if (
            ours is not None
            and not isinstance(a, type | types.FunctionType | enum.Enum)
            and not _is_jagged(a)
        ):
            if list(ours) != list(theirs):
                return f"{path}: the attributes {sorted(set(ours) ^ set(theirs))}, or their order"
            stack += [(f"{path}.{name}", ours[name], theirs[name]) for name in ours]
    return None


def _content(path: str, a: Any, b: Any, stack: list[tuple[str, Any, Any]]) -> str | None:
    alike = True
    match a:
        case torch.nn.parameter.UninitializedTensorMixin():
            alike = a.requires_grad == b.requires_grad
        case torch.Tensor() if a.is_nested:
            alike = (a.layout, a.requires_grad) == (b.layout, b.requires_grad)
            stack.append((f"{path}.rows", list(a.detach().unbind()), list(b.detach().unbind())))
        case torch.UntypedStorage():
            alike = bytes(a) == bytes(b)
        case torch.TypedStorage():
            alike = a.dtype == b.dtype and a.tolist() == b.tolist()
        case torch.Tensor():
            alike = _about(a) == _about(b)
            if (alike and a.layout is not torch.strided) or a.is_quantized:
                plain = [each.dequantize() if each.is_quantized else each.to_dense() for each in (a, b)]
                alike = alike and torch.equal(*plain)
            elif alike and not a.is_meta:
                alike = bytes(a.untyped_storage()) == bytes(b.untyped_storage())
        case np.ndarray():
            alike = (a.dtype, a.shape) == (b.dtype, b.shape) and (a.size == 0 or a.strides == b.strides)
            if a.dtype.hasobject:
                stack.append((f"{path}[...]", a.ravel().tolist(), b.ravel().tolist()))
            elif a.dtype.names:  # what lies between the fields is nobody's
                alike = alike and repr(a.tolist()) == repr(b.tolist())
            else:
                alike = alike and a.tobytes() == b.tobytes()
        case dict():
            alike = len(a) == len(b)
            for number, (ours, theirs) in enumerate(zip(a.items(), b.items(), strict=False)):
                stack += [
                    (f"{path}.keys()[{number}]", ours[0], theirs[0]),
                    (f"{path}[{ours[0]!r:.40}]", ours[1], theirs[1]),
                ]
            stack.append(
                (
                    f"{path}.default_factory",
                    getattr(a, "default_factory", None),
                    getattr(b, "default_factory", None),
                )
            )
        case list() | tuple() | deque():
            alike = len(a) == len(b) and getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
            stack += [(f"{path}[{n}]", *pair) for n, pair in enumerate(zip(a, b, strict=False))]
        case set() | frozenset() | bytearray() | range() | slice():
            alike = a == b
        case functools.partial():
            stack.append((f"{path}.partial", (a.func, a.args, a.keywords), (b.func, b.args, b.keywords)))
        case types.BuiltinMethodType() if not isinstance(a.__self__, types.ModuleType):
            alike = a.__name__ == b.__name__
            stack.append((f"{path}.self", a.__self__, b.__self__))
        case types.MethodType():
            stack.append((f"{path}.method", (a.__func__, a.__self__), (b.__func__, b.__self__)))
        case np.random.Generator():
            stack.append((f"{path}.bits", a.bit_generator.state, b.bit_generator.state))
            seeds = [each.bit_generator.seed_seq for each in (a, b)]
            alike = (
                repr(seeds[0]) == repr(seeds[1])
                and seeds[0].spawn(1)[0].entropy == seeds[1].spawn(1)[0].entropy
            )
        case np.random.BitGenerator():
            stack.append((f"{path}.bits", a.state, b.state))
        case np.random.SeedSequence() | itertools.count() | decimal.Context() | decimal.Decimal():
            alike = repr(a) == repr(b)
        case Iterator() if not isinstance(a, itertools.count):
            stack.append((f"{path}.iterator", a.__reduce__(), b.__reduce__()))
        case zoneinfo.ZoneInfo():
            alike = a.key == b.key
        case operator.itemgetter() | operator.attrgetter() | operator.methodcaller():
            alike = a.__reduce__() == b.__reduce__()
        case torch.Generator():
            stack.append((f"{path}.state", a.get_state(), b.get_state()))
        case BaseException():
            stack.append((f"{path}.args", a.args, b.args))
        case np.random.RandomState():
            stack.append((f"{path}.state", a.get_state(legacy=False), b.get_state(legacy=False)))
        case _ if not hasattr(a, "__dict__") and not copyreg._slotnames(type(a)):
            alike = type(a).__name__ in ("weakref", "ReferenceType") or a == b
    return None if alike else f"{path}: {a!r:.80} and {b!r:.80}"


def _is_jagged(value: Any) -> bool:
    """Whether torch notes in a tensor what differs between any two of its kind."""
    return isinstance(value, torch.Tensor) and value.is_nested


def _about(tensor: torch.Tensor) -> Any:
    about = (tensor.dtype, tensor.shape, tensor.layout, tensor.requires_grad, tensor.device)
    if tensor.layout is not torch.strided:
        return about
    return *about, tensor.stride(), tensor.storage_offset(), tensor.is_conj(), tensor.is_neg()


def compare(path: str) -> str | None:
    """How what is read as data differs from what an unpickler gives, or None."""
    from policy_gallery.watch import watched

    from perdure.errors import UntrustedError
    from perdure.persistence.reading import Names, Trust, read_policy

    trust: Any = ()
    try:
        ours = read_policy(_read(path), path, "cpu", Names(Trust(()), None))
    except UntrustedError as error:
        trust = error.names  # all of them at once: the second time it loads
        names = Names(Trust(trust), None)
        with watched():
            ours = read_policy(_read(path), path, "cpu", names)
    return difference(ours, torch.load(path, weights_only=False))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


if __name__ == "__main__":
    import perdure.environments.handlers
    import perdure.environments.subprocess  # noqa: F401

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    failed = False
    for argument in sys.argv[1:]:
        found = compare(argument)
        print(argument, "differs:" if found else "equal", found or "")
        failed = failed or found is not None
    sys.exit(failed)
