"""Importable policies and handlers that the tests save and restore."""

from __future__ import annotations

import enum
import functools
from collections import defaultdict, deque
from pathlib import Path

import numpy as np
import torch

from perdure.persistence import Persistence, PersistEvent, RestoreEvent


class Net(torch.nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(self.layer.weight, value)
        torch.nn.init.constant_(self.layer.bias, value)

    @property
    def value(self) -> float:
        assert (self.layer.weight == self.layer.bias[0]).all()
        return float(self.layer.bias[0].item())


class Wide(Net):
    def __init__(self, value: float = 0.0) -> None:
        super().__init__(value)
        self.layer = torch.nn.Linear(2, 3)
        self.extra = torch.nn.Linear(1, 1)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def touch(path: str, *more: object) -> None:
    Path(path).touch()


class Loud:
    """Leaves a file when it is called, but not when it is unpickled as a policy's attribute is."""

    def __init__(self, path: str) -> None:
        self.path = path
        Path(path).touch()


class Rich(Net):
    """Has in it what policies have in them."""

    class Config:
        def __init__(self) -> None:
            self.color = Color.RED

    def __init__(self, value: float = 0.0) -> None:
        super().__init__(value)
        self.config = self.Config()
        self.kind = self.Config
        self.activation = functools.partial(double)
        self.function = double
        self.method = self.sample
        self.noise = np.random.default_rng(3)
        self.legacy = np.random.RandomState(3)
        self.sizes = np.array([1, 2])
        self.names = np.array(["a", None], dtype=object)
        self.scalar = np.float32(0.5)
        self.recent = deque([1, 2], maxlen=3)
        self.counts = defaultdict(list, a=[1])
        self.none_class = type(None)
        self.frozen = frozenset({1})
        self.dtype, self.device, self.long = torch.float32, torch.device("cpu"), 2**70
        self.optimizer = torch.optim.Adam(self.parameters())
        self(torch.ones(2)).sum().backward()
        self.optimizer.step()
        torch.nn.init.constant_(self.layer.weight, value)
        torch.nn.init.constant_(self.layer.bias, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)

    def sample(self) -> int:
        return 1


class Remembers(Persistence):
    """Keeps a number in a file, and what it was told."""

    def __init__(self, name: str = "number.txt") -> None:
        self.name = name
        self.number = 0.0
        self.told: list[enum.Enum] = []

    def persist(self, event: PersistEvent, world) -> None:
        self.told.append(event)
        if event == PersistEvent.PERSIST_POLICY:
            Path(world.persist_path(self.name)).write_text(str(self.number))

    def restore(self, event: RestoreEvent, world) -> None:
        self.told.append(event)
        if event == RestoreEvent.RESTORE_POLICY:
            self.number = float(Path(world.restore_path(self.name)).read_text())
