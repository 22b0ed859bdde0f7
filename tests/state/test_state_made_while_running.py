"""What came about in training is restored into a world that the script has just built: copies of what the script has,
objects of classes that it shows, and structures that have grown, shrunk or been replaced."""

from __future__ import annotations

import collections
import copy
from typing import Any

import pytest
import torch
import torch.nn.utils.prune
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


# -- lazy layers -------------------------------------------------------------------------------------------------------


class OwnLazy(nn.modules.lazy.LazyModuleMixin, nn.Module):
    """A lazy module that stays of its class."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.UninitializedParameter()
        self.mean = nn.UninitializedBuffer()

    def initialize_parameters(self, x: torch.Tensor) -> None:
        if self.has_uninitialized_params():
            self.scale.materialize(x.shape[1:])
            self.mean.materialize(x.shape[1:])
            self.scale.data.fill_(2.0)
            self.mean.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.mean


LAZY: dict[str, tuple[Any, Any]] = {
    "linear": (lambda: nn.LazyLinear(2), (5, 3)),
    "no bias": (lambda: nn.LazyLinear(2, bias=False), (5, 3)),
    "several": (lambda: nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2)), (5, 3)),
    "batch norm": (lambda: nn.LazyBatchNorm1d(), (5, 3)),
    "instance norm": (lambda: nn.LazyInstanceNorm1d(affine=True, track_running_stats=True), (5, 3, 4)),
    "convolution": (lambda: nn.LazyConv1d(2, 2), (5, 3, 4)),
    "transposed convolution": (lambda: nn.LazyConvTranspose2d(2, 2), (5, 3, 4, 4)),
    "in a net": (
        lambda: nn.ModuleDict({"a": nn.Sequential(nn.LazyConv2d(2, 2), nn.Flatten(), nn.LazyLinear(2))}),
        None,
    ),
    "doubles": (lambda: nn.LazyLinear(2, dtype=torch.float64), None),
    "of the user's own": (OwnLazy, (5, 3)),
}


def _used(kind: str, net: Any) -> torch.Tensor:
    if kind == "in a net":
        return net["a"](torch.ones(2, 3, 4, 4))
    return net(
        torch.ones(LAZY[kind][1] or (5, 3), dtype=torch.float64 if kind == "doubles" else torch.float32)
    )


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_take_their_shape_from_the_checkpoint(kind):
    net, fresh = LAZY[kind][0](), {"net": LAZY[kind][0](), "optimizer": None}
    world: dict[str, Any] = {"net": net, "optimizer": None}
    resumed(world, {"net": LAZY[kind][0](), "optimizer": None}, same_script=False)  # nothing has a shape yet
    _used(kind, net)
    world["optimizer"] = torch.optim.Adam(net.parameters(), 1e-2)
    _used(kind, net).sum().backward()
    world["optimizer"].step()
    resumed(world, fresh, same_script=False)
    assert [type(each) for each in net.modules()] == [type(each) for each in fresh["net"].modules()]
    for before, after in zip(net.modules(), fresh["net"].modules(), strict=True):
        assert not after._forward_pre_hooks
        assert not after._load_state_dict_pre_hooks
        assert set(vars(before)) == set(vars(after))
    ids = {id(p) for p in fresh["net"].parameters()}
    assert {id(p) for group in fresh["optimizer"].param_groups for p in group["params"]} == ids
    for each in (world, fresh):
        _used(kind, each["net"]).sum().backward()
        each["optimizer"].step()
    saved = net.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in fresh["net"].state_dict().items())


@pytest.mark.parametrize("kind", LAZY)
def test_lazy_layers_that_have_no_shape_yet_get_it_after_resuming(kind):
    world, fresh = {"net": LAZY[kind][0](), "pool": []}, {"net": LAZY[kind][0](), "pool": []}
    if not any(isinstance(buffer, nn.UninitializedBuffer) for buffer in world["net"].buffers()):
        world["pool"].append(copy.deepcopy(world["net"]))  # torch cannot copy such buffers
    resumed(world, fresh, same_script=False)
    for each in (fresh["net"], *fresh["pool"]):
        torch.manual_seed(3)
        made = _used(kind, each)
        torch.manual_seed(3)
        assert torch.equal(made, _used(kind, LAZY[kind][0]()))


# -- structures that change --------------------------------------------------------------------------------------------


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.heads = nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})
        self.scale = nn.Parameter(torch.ones(3))
        self.target = None
        self.extra = nn.Linear(3, 3)
        self.register_buffer("memory", torch.zeros(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return sum(head(x) for head in self.heads.values()) + (x * self.scale).sum(-1, keepdim=True)


def _wider(net: Growing) -> None:
    """Net2Net: a layer becomes a larger one of the same function."""
    first, second = net.layers
    wide, after = nn.Linear(3, 5), nn.Linear(5, 3)
    wide.weight.data[:3], after.weight.data[:, :3] = first.weight.data, second.weight.data
    net.layers[0], net.layers[1] = wide, after


def _assigned(name: str, value: Any) -> Any:
    return lambda net: setattr(net, name, value())


def _reshaped(net: Growing) -> None:
    net.scale.grad = None
    net.scale.data = torch.full((8, 1), 2.0)


def _pruned(net: Growing) -> None:
    nn.utils.prune.l1_unstructured(net.layers[0], "weight", 0.5)


def _pruned_for_good(net: Growing) -> None:
    _pruned(net)
    nn.utils.prune.remove(net.layers[0], "weight")


def _deleted(net: Growing) -> None:
    del net.extra
    net.heads.pop("a")


def _reordered(net: Growing) -> None:
    weight = net.layers[0].weight
    del net.layers[0].weight
    net.layers[0].weight = nn.Parameter(weight.data.clone())


CHANGES: dict[str, Any] = {
    "a layer more": lambda net: net.layers.append(nn.Linear(3, 3)),
    "a layer in front": lambda net: net.layers.insert(0, nn.Linear(3, 3)),
    "a layer less": lambda net: net.layers.__delitem__(1),
    "other layers": _wider,
    "a wider parameter": _assigned("scale", lambda: nn.Parameter(torch.full((1, 3), 2.0))),
    "a parameter's data of another shape": _reshaped,
    "another number type": lambda net: net.extra.double(),
    "a buffer that has grown": _assigned("memory", lambda: torch.ones(7, 3)),
    "a parameter more": lambda net: net.register_parameter("shift", nn.Parameter(torch.ones(2))),
    "a buffer more": lambda net: net.register_buffer("counts", torch.ones(2)),
    "a parameter that is nothing": lambda net: net.register_parameter("unused", None),
    "a target network": lambda net: setattr(net, "target", copy.deepcopy(net.layers)),
    "a module in the place of another kind": _assigned(
        "extra", lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    ),
    "a module that became nothing": _assigned("extra", lambda: None),
    "modules that were deleted": _deleted,
    "one head more": lambda net: net.heads.update({"c": nn.Linear(3, 1)}),
    "weights that are tied": lambda net: setattr(net.layers[1], "weight", net.layers[0].weight),
    "a mask": _pruned,
    "pruned for good": _pruned_for_good,
    "another order": _reordered,
    "frozen": lambda net: net.extra.requires_grad_(False),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_network_whose_structure_changes_in_training(kind):
    def world() -> dict[str, Any]:
        net = Growing()
        return {"net": net, "optimizer": torch.optim.Adam(net.parameters(), 1e-2)}

    torch.manual_seed(1)
    first, fresh = world(), world()
    trained(first["net"], first["optimizer"])
    CHANGES[kind](first["net"])
    first["optimizer"] = torch.optim.Adam(first["net"].parameters(), 1e-2)
    trained(first["net"], first["optimizer"])
    live = fresh["net"]

    def step(world: dict[str, Any]) -> None:
        trained(world["net"], world["optimizer"])

    goes_on(first, fresh, step)
    assert fresh["net"] is live
    assert shapes(first["net"]) == shapes(fresh["net"])
    assert list(first["net"].state_dict()) == list(fresh["net"].state_dict())
    assert first["net"].__repr__() == fresh["net"].__repr__()
    ids = {id(p) for p in fresh["net"].parameters()}
    assert {id(p) for group in fresh["optimizer"].param_groups for p in group["params"]} == ids


REFUSED_IF_THE_SCRIPT_MAY_BE_ANOTHER = [
    "a layer more", "a layer less", "other layers", "a wider parameter", "a parameter more", "modules that were deleted"
]  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED_IF_THE_SCRIPT_MAY_BE_ANOTHER)
def test_without_knowing_the_script_another_structure_is_an_error(kind):
    net, fresh = Growing(), Growing()
    CHANGES[kind](net)
    before = capture({"net": fresh})
    with pytest.raises(RestoreError, match="net"):
        resumed({"net": net}, {"net": fresh}, same_script=False)
    assert diff(before, capture({"net": fresh}), ignore=()) == []


class Thing:
    def __init__(self) -> None:
        self.a, self.b, self.maybe = 1, [1], None


def _without(thing: Thing, name: str) -> Thing:
    delattr(thing, name)
    return thing


SHRUNK: dict[str, tuple[Any, Any]] = {
    "an attribute": (lambda: {"x": _without(Thing(), "a")}, lambda: {"x": Thing()}),
    "a list's modules": (lambda: {"x": [nn.ReLU()]}, lambda: {"x": [nn.ReLU(), nn.ReLU()]}),
    "a dict's modules": (lambda: {"x": {"a": nn.ReLU()}}, lambda: {"x": {"a": nn.ReLU(), "b": nn.ReLU()}}),
    "an optimizer": (lambda: {"x": {}}, lambda: {"x": {"o": torch.optim.SGD([nn.Parameter(torch.ones(1))])}}),
    "a part": (lambda: {"x": 1}, lambda: {"x": 1, "y": [2]}),
    "a network": (lambda: {"x": None}, lambda: {"x": nn.Linear(1, 1)}),
}


@pytest.mark.parametrize("kind", SHRUNK)
def test_what_was_dropped_in_training_is_dropped_again(kind):
    saved, fresh = (make() for make in SHRUNK[kind])
    resumed(saved, fresh)
    with pytest.raises(RestoreError):
        resumed(saved, SHRUNK[kind][1](), same_script=False)


def test_groups_of_parameters_that_were_added():
    def world() -> dict[str, Any]:
        net = Growing()
        return {"net": net, "optimizer": torch.optim.AdamW(net.layers.parameters(), 1e-2), "schedule": None}

    first, fresh = world(), world()
    trained(first["net"], first["optimizer"])
    first["optimizer"].add_param_group({"params": list(first["net"].heads.parameters()), "lr": 1e-3})
    first["schedule"] = torch.optim.lr_scheduler.StepLR(first["optimizer"], 1)
    trained(first["net"], first["optimizer"])
    goes_on(first, fresh, lambda world: trained(world["net"], world["optimizer"]))
