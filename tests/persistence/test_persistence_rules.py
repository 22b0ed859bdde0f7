"""One set of rules for checkpoints and policy files: what may be made blank, and which attributes it may get."""

from __future__ import annotations

import abc
import functools
import io
from typing import Any

import pytest
import torch
from numpy.random import RandomState

from perdure.persistence.reading._classes import attribute_fault, why_not_made
from perdure.state import unassignable
from perdure.state._registry import cannot_make


class Finalized:
    def __del__(self) -> None:
        pass


class FinalizedBase(Finalized):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def act(self) -> None: ...


class Native(io.BytesIO):
    pass


class Plain:
    value: int = 1
    cls = int
    rand = RandomState.rand
    in_c = torch.relu

    def method(self) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    @functools.lru_cache  # noqa: B019
    def cached(self) -> None: ...

    @functools.singledispatchmethod
    def dispatched(self, value: Any) -> None: ...

    partial = functools.partialmethod(method)

    @functools.cached_property
    def computed(self) -> int:
        return 1


@pytest.mark.parametrize("cls", [Finalized, FinalizedBase, Abstract, Native])
def test_what_is_never_made_blank(cls: type) -> None:
    assert cannot_make(cls) is not None
    assert why_not_made(cls) is not None


def test_what_is_made_blank() -> None:
    assert cannot_make(Plain) is None
    assert why_not_made(Plain) is None


@pytest.mark.parametrize(
    "name",
    [
        *("method", "of_class", "static", "cached", "dispatched", "partial", "rand", "in_c"),
        *("__class__", "__reduce__", "__dict__", "__eq__"),
    ],
)
def test_an_attribute_that_takes_the_place_of_a_method(name: str) -> None:
    assert unassignable(Plain, name, ()) is not None
    assert attribute_fault(Plain, name) is not None


@pytest.mark.parametrize("name", ["value", "cls", "computed", "other"])
def test_an_attribute_that_takes_the_place_of_nothing(name: str) -> None:
    assert unassignable(Plain, name, ()) is None
    assert attribute_fault(Plain, name) is None
