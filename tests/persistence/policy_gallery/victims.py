"""A user's classes and functions, allowed for the attacks. Each tells when its code runs, which loading must not do."""

from __future__ import annotations

import abc
import enum
import functools
import sys
import typing
from typing import ClassVar

import numpy as np
import torch

#: What ran.
RAN: list[str] = []


def ran(what: object = "", *more: object) -> None:
    RAN.append(f"{what!r:.80}")


class Policy(torch.nn.Module):
    """The policy that files are restored into."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.x: object = None
        self.callback = functools.partial(ran, "partial")
        self.kinds = [Loud, Sets, Plain, Slotted, Kind.A]


class Plain:
    shared: ClassVar[list[int]] = []

    def method(self) -> None:
        ran("method")

    @classmethod
    def make(cls, *args: object) -> None:
        ran("classmethod")

    @property
    def computed(self) -> int:
        ran("property")
        return 1

    @computed.setter
    def computed(self, value: object) -> None:
        ran("setter")


class Loud:
    def __init__(self, *args: object) -> None:
        ran("constructor")

    def __new__(cls, *args: object) -> Loud:
        ran("__new__")
        return super().__new__(cls)

    def __call__(self, *args: object) -> None:
        ran("__call__")

    def __setattr__(self, name: str, value: object) -> None:
        ran("__setattr__")

    def __getattr__(self, name: str) -> None:
        if not (name.startswith("__") and name.endswith("__")):
            ran("__getattr__")
        raise AttributeError(name)


class Sets:
    def __setstate__(self, state: object) -> None:
        ran("__setstate__")


class Reduces:
    def __reduce__(self) -> str:
        ran("__reduce__")
        return ""


class Pretends:
    """Runs whenever somebody asks what it is, or goes through it."""

    def __getattribute__(self, name: str) -> object:
        ran("__getattribute__")
        return object.__getattribute__(self, name)

    def __iter__(self) -> object:
        ran("__iter__")
        return iter(())

    def __bool__(self) -> bool:
        ran("__bool__")
        return True


class Final:
    def __del__(self) -> None:
        ran("__del__")


class Hashes:
    def __hash__(self) -> int:
        ran("__hash__")
        return 1


class Equal:
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        ran("__eq__")
        return True


class Numeric:
    def __index__(self) -> int:
        ran("__index__")
        return 1

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        ran("__eq__")
        return True

    def __bool__(self) -> bool:
        ran("__bool__")
        return True

    def __len__(self) -> int:
        ran("__len__")
        return 1


class Table(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: object, value: object) -> None:
        ran("__setitem__")

    def items(self) -> object:  # type: ignore[override]
        ran("items")
        return ()


class Items(list):  # type: ignore[type-arg]
    def append(self, value: object) -> None:
        ran("append")

    def extend(self, values: object) -> None:
        ran("extend")


class Slotted:
    __slots__ = ("a",)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self) -> None: ...


class Meta(type):
    def __call__(cls, *args: object) -> None:
        ran("metaclass")


class WithMeta(metaclass=Meta):
    pass


class Kind(enum.Enum):
    A = 1
    B = 2

    @classmethod
    def _missing_(cls, value: object) -> None:
        ran("_missing_")


class Offers:
    """Says itself how it is captured."""

    def __setstate__(self, state: object) -> None:
        ran("__setstate__")

    def __perdure_state__(self) -> object:
        ran("__perdure_state__")

    def __perdure_restore__(self, state: object) -> None:
        ran("__perdure_restore__")

    @classmethod
    def __perdure_create__(cls, state: object) -> None:
        ran("__perdure_create__")

    def __hash__(self) -> int:
        ran("__hash__")
        return 1


class Flags(enum.Flag):
    A = 1
    B = 2


class LoudFlags(enum.Flag):
    A = 1
    B = 2

    @classmethod
    def _missing_(cls, value: object) -> None:
        ran("_missing_")


class Generic(typing.Generic[typing.TypeVar("T")]):
    pass


class Indexing(type):
    def __getitem__(cls, index: object) -> None:
        ran("__getitem__ of a metaclass")

    def __or__(cls, other: object) -> None:
        ran("__or__ of a metaclass")

    def __hash__(cls) -> int:
        ran("__hash__ of a metaclass")
        return 1


class Indexed(metaclass=Indexing):
    pass


class Problem(Exception):
    def __init__(self, *args: object) -> None:
        ran("constructor of an exception")


class FinalProblem(Exception):
    def __del__(self) -> None:
        ran("__del__ of an exception")


class SystemProblem(OSError):
    pass


class LoudArray(np.ndarray):
    def __array_finalize__(self, other: object) -> None:
        ran("__array_finalize__")


class LoudTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        ran("__torch_function__")


class DispatchingTensor(torch.Tensor):
    @classmethod
    def __torch_dispatch__(cls, *args: object, **kwargs: object) -> None:
        ran("__torch_dispatch__")


class FinalTensor(torch.Tensor):
    def __del__(self) -> None:
        ran("__del__ of a tensor")


class Lazy(type(sys)):  # type: ignore[misc]
    """A module that loads itself when somebody asks for a name that it has not."""

    def __getattr__(self, name: str) -> None:
        ran("__getattr__ of a module")
        raise AttributeError(name)


sys.modules["policy_gallery.victims_lazy"] = Lazy("policy_gallery.victims_lazy")
