"""What came about in training is restored into a world that the script has just built: copies of what the script has,
objects of classes that it shows, and structures that have grown, shrunk or been replaced."""

from __future__ import annotations

import collections
import copy
from typing import Any

import pytest
import torch
from state_support import transported
from torch import nn

from perdure.errors import RestoreError
from perdure.state import Report, capture, diff, prepare, walk_live


def resumed(trained: dict[str, Any], fresh: dict[str, Any], *, same_script: bool = True) -> Report:
    """Restore what was trained into what the script has built anew, and compare every path."""
    state = transported(capture(trained))
    live = walk_live(fresh)
    live.unchanged = lambda path: same_script
    report = prepare(state, fresh, live).apply().report
    assert report.exact
    assert [str(each) for each in diff(state, capture(fresh), ignore=())] == []
    return report


def shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    named = [*module.named_parameters(), *module.named_buffers()]
    return [(name, tuple(tensor.shape)) for name, tensor in named]


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh())
        self.head = nn.Linear(width, 2, bias=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", None)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.body(x))


def trained(net: nn.Module, optimizer: Any, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()


def goes_on(trained_world: dict[str, Any], fresh: dict[str, Any], step: Any) -> None:
    """Both worlds go on alike."""
    resumed(trained_world, fresh)
    for world in (trained_world, fresh):
        torch.manual_seed(5)
        step(world)
    assert [str(each) for each in diff(capture(trained_world), capture(fresh), ignore=())] == []


# -- copies ------------------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.again = self.a

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.again(x))


class Late(nn.Module):
    """One whose parts begin as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)
        self.register_parameter("scale", None)
        self.register_buffer("mask", None)
        self.register_module("extra", None)
        self.plain = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * self.plain


def _dropped(net: nn.Module) -> nn.Module:
    net.head = None
    return net


NETS: dict[str, Any] = {
    "a net": Net,
    "tied weights": Tied,
    "parts that are nothing": Late,
    "recurrent": lambda: nn.LSTM(3, 2),
    "a list": lambda: nn.ModuleList([nn.Linear(3, 2), nn.Conv1d(1, 2, 3)]),
    "a dict": lambda: nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Identity()}),
    "bare parameters": lambda: nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]),
    "embeddings": lambda: nn.EmbeddingBag(5, 3),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(3, 2)),
    "frozen statistics": lambda: nn.BatchNorm1d(3, track_running_stats=False),
    "a part that was dropped": lambda: _dropped(Net()),
    "another type of number": lambda: Net().double(),
}


@pytest.mark.parametrize("kind", NETS)
def test_copies_of_a_network_in_a_pool(kind):
    torch.manual_seed(1)
    net = NETS[kind]()
    pool = [copy.deepcopy(net).requires_grad_(False), copy.deepcopy(net)]
    for member in pool:
        for tensor in {id(p): p for p in member.parameters()}.values():
            tensor.data.normal_()
    fresh = {"net": NETS[kind](), "pool": []}
    resumed({"net": net, "pool": pool}, fresh, same_script=False)
    for before, after in zip(pool, fresh["pool"], strict=True):
        assert type(after) is type(before)
        assert list(vars(before)) == list(vars(after)) or set(vars(before)) == set(vars(after))
        for table in ("_parameters", "_buffers", "_modules"):
            assert [list(vars(each)[table]) for each in before.modules()] == [
                list(vars(each)[table]) for each in after.modules()
            ]
        assert shapes(before) == shapes(after)
        saved = before.state_dict()
        assert list(saved) == list(after.state_dict())
        assert all(torch.equal(tensor, saved[name]) for name, tensor in after.state_dict().items())
        assert [p.requires_grad for p in before.parameters()] == [p.requires_grad for p in after.parameters()]
        after.load_state_dict(saved)
        copy.deepcopy(after).train().eval()
    if kind == "tied weights":
        assert all(each.b.weight is each.a.weight and each.again is each.a for each in fresh["pool"])


def test_a_copied_network_is_used_as_the_original_is():
    net, made = Net(), {"net": Net(), "pool": collections.deque(maxlen=3)}
    pool = collections.deque([copy.deepcopy(net)], maxlen=3)
    resumed({"net": net, "pool": pool}, made, same_script=False)
    for each in (pool[0], made["pool"][0]):
        each.cache = torch.ones(2)  # a buffer that had no value
        assert "cache" in dict(each.named_buffers())
        each.extra = nn.Linear(1, 1)
        each.register_forward_hook(lambda module, inputs, output: output + 1)
        torch.manual_seed(0)
    x = torch.randn(4, 3)
    assert torch.equal(pool[0](x), made["pool"][0](x))


OPTIMIZERS: dict[str, Any] = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-2),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    "plain SGD": lambda p: torch.optim.SGD(p, 1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-2, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
    "NAdam": lambda p: torch.optim.NAdam(p),
    "RAdam": lambda p: torch.optim.RAdam(p),
    "Adamax": lambda p: torch.optim.Adamax(p),
    "ASGD": lambda p: torch.optim.ASGD(p),
    "Rprop": lambda p: torch.optim.Rprop(p),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_population_of_networks_with_their_optimizers(kind):
    def world() -> dict[str, Any]:
        net = Net()
        return {"members": [(net, OPTIMIZERS[kind](net.parameters()))]}

    torch.manual_seed(1)
    first = world()
    trained(*first["members"][0])
    first["members"].append(copy.deepcopy(first["members"][0]))
    trained(*first["members"][1])
    fresh = world()
    resumed(first, fresh, same_script=False)
    net, optimizer = fresh["members"][1]
    ids = [id(p) for p in net.parameters()]
    assert [id(p) for group in optimizer.param_groups for p in group["params"]] == ids
    assert {id(p) for p in optimizer.state} <= set(ids)

    def step(world: dict[str, Any]) -> None:
        for member in world["members"]:
            trained(*member, 2)

    goes_on(first, fresh, step)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_is_replaced_by_one_of_another_kind(kind):
    def world() -> dict[str, Any]:
        net = Net()
        return {"net": net, "optimizer": torch.optim.SGD(net.parameters(), 1e-2, momentum=0.5)}

    torch.manual_seed(1)
    first, fresh = world(), world()
    trained(first["net"], first["optimizer"])
    first["optimizer"] = OPTIMIZERS[kind](first["net"].parameters())
    trained(first["net"], first["optimizer"])
    goes_on(first, fresh, lambda world: trained(world["net"], world["optimizer"]))
    if not kind.endswith("SGD"):
        with pytest.raises(RestoreError, match="optimizer"):
            resumed(first, world(), same_script=False)
