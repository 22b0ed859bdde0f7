"""torch: modules, optimizers, schedulers; training goes on bit for bit."""

from __future__ import annotations

import warnings

import pytest
import torch
from state_support import moved, transported
from torch import nn

from perdure.errors import RestoreError
from perdure.state import capture, diff, restore


class Net(nn.Module):
    def __init__(self, width=4, tied=False, extra=False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 3, bias=False)
        )
        self.head = nn.Linear(3, 3)
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("cache", None)
        self.config = {"width": width}
        self.calls = 0
        self.hidden = None
        if tied:
            self.body[3].weight = self.head.weight
        if extra:
            self.more = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.steps += 1
        self.hidden = self.body(x).detach()
        return self.head(self.body(x) * self.scale)


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-2),
    "AMSGrad": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "plain SGD": lambda p: torch.optim.SGD(p, 1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-2, centered=True, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "capturable": lambda p: torch.optim.NAdam(p, 1e-2),
}
SCHEDULERS = {
    "none": lambda o: None,
    "StepLR": lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 6], 0.5),
    "CosineAnnealing": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "Restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=50, cycle_momentum=False),
    "LambdaLR": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "SequentialLR": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.ConstantLR(o, 0.1, 3), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[3],
    ),
    "Plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1),
}


class Training:
    def __init__(self, seed, optimizer="Adam", scheduler="none", tied=False):
        torch.manual_seed(seed)
        self.net = Net(3 if tied else 4, tied)
        self.target = Net()
        self.optimizer = OPTIMIZERS[optimizer](self.net.parameters())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.scheduler = SCHEDULERS[scheduler](self.optimizer)

    def train(self, steps):
        for _ in range(steps):
            loss = self.net(torch.randn(8, 3)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(loss.item())
            elif self.scheduler is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.scheduler.step()


def goes_on(make, steps=8):
    """Train, capture, train on; the same from a fresh start restored to the capture. Every path must be equal."""
    first = make(1)
    first.train(steps)
    state = transported(capture({"t": first}))
    first.train(steps)
    second = make(2)
    parameters = [id(parameter) for parameter in second.net.parameters()]
    report = restore(state, {"t": second})
    assert report.exact
    assert [id(parameter) for parameter in second.net.parameters()] == parameters
    second.train(steps)
    assert [str(each) for each in diff(capture({"t": first}), capture({"t": second}), ignore=())] == []
    return second


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(optimizer):
    goes_on(lambda seed: Training(seed, optimizer))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedules_go_on(scheduler):
    goes_on(lambda seed: Training(seed, "SGD", scheduler))


def test_tied_weights_stay_tied():
    second = goes_on(lambda seed: Training(seed, tied=True))
    assert second.net.body[3].weight is second.net.head.weight


def test_a_restored_optimizer_trains_the_restored_weights():
    first = Training(1)
    first.train(2)
    second = Training(2)
    restore(transported(capture({"t": first})), {"t": second})
    known = {id(parameter) for parameter in second.net.parameters()}
    assert {id(each) for group in second.optimizer.param_groups for each in group["params"]} == known
    assert {id(each) for each in second.optimizer.state} == known
    assert second.scheduler is None


def test_parameter_groups_and_one_that_was_added_while_running():
    class Grouped(Training):
        def __init__(self, seed, add):
            super().__init__(seed)
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": self.net.body.parameters(), "lr": 1e-3},
                    {"params": [self.net.head.weight], "lr": 1e-1},
                ]
            )
            if add:
                self.add()

        def add(self):
            self.optimizer.add_param_group({"params": [self.net.head.bias], "lr": 5e-2})

    goes_on(lambda seed: Grouped(seed, add=True))
    goes_on(lambda seed: Grouped(seed, add=seed == 1))


def test_a_cleared_optimizer_is_cleared():
    first, second = Training(1), Training(2)
    second.train(2)
    restore(transported(capture({"t": first})), {"t": second})
    assert not second.optimizer.state


def test_modes_buffers_and_plain_attributes():
    first, second = Training(1), Training(2)
    first.train(3)
    first.net.eval()
    first.net.body[0].train()
    first.net.cache = torch.arange(3.0)
    first.net.note = {"late": [1]}
    first.net.latent = torch.ones(2)
    restore(transported(capture({"t": first})), {"t": second})
    net = second.net
    assert [module.training for module in net.modules()] == [
        module.training for module in first.net.modules()
    ]
    assert net.body[1].running_mean.equal(first.net.body[1].running_mean)
    assert (net.calls, net.steps.item(), net.note) == (3, 3, {"late": [1]})
    assert net.hidden.equal(first.net.hidden)
    assert dict(net.named_buffers())["cache"].tolist() == [0, 1, 2]
    assert net.latent.tolist() == [1, 1]
    assert list(net.state_dict()) == list(first.net.state_dict())


def test_requires_grad_and_gradients():
    first, second = Training(1), Training(2)
    first.net.body.requires_grad_(False)
    first.net(torch.randn(4, 3)).sum().backward()
    restore(transported(capture({"t": first})), {"t": second})
    assert [p.requires_grad for p in second.net.parameters()] == [
        p.requires_grad for p in first.net.parameters()
    ]
    assert second.net.head.weight.grad.equal(first.net.head.weight.grad)
    assert second.net.body[0].weight.grad is None


def test_containers_of_modules_and_hooks():
    def make(seed):
        torch.manual_seed(seed)
        net = nn.ModuleDict(
            {
                "a": nn.ModuleList([nn.GRU(2, 3), nn.LSTM(2, 3)]),
                "b": nn.ParameterList([nn.Parameter(torch.randn(2))]),
            }
        )
        net["a"].register_forward_hook(lambda *args: None)
        return net

    first, second = make(1), make(2)
    assert moved(first, second) is second
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert len(second["a"]._forward_hooks) == 1


def test_averaged_models_and_parametrizations():
    def make(seed):
        torch.manual_seed(seed)
        net = nn.Linear(3, 3)
        torch.nn.utils.parametrizations.weight_norm(net)
        averaged = torch.optim.swa_utils.AveragedModel(net)
        averaged.update_parameters(net)
        return nn.ModuleList([net, averaged, torch.nn.utils.spectral_norm(nn.Linear(2, 2))])

    first, second = make(1), make(2)
    for _ in range(3):
        first[2](torch.randn(1, 2))
    moved(first, second)
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_a_scaler_of_gradients():
    first = torch.amp.GradScaler("cpu", init_scale=8.0)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    first.scale(weight.sum() * float("inf")).backward()
    first.step(optimizer)
    first.update()
    second = torch.amp.GradScaler("cpu", init_scale=8.0)
    moved(first, second)
    assert second.get_scale() == first.get_scale() == 4.0


# -- what does not fit ------------------------------------------------------------------------------------------------


def fails(saved, live, match):
    before = capture({"x": live})
    kept = transported(before)
    with pytest.raises(RestoreError, match=match) as raised:
        restore(transported(capture({"x": saved})), {"x": live})
    assert diff(kept, capture({"x": live}), ignore=()) == [], "nothing was changed"
    return raised.value.report


def test_a_layer_of_another_size():
    report = fails(
        Net(8),
        Net(4),
        r"x\.body\.0\.weight: the checkpoint has a parameter float32\[8, 3\], .* float32\[4, 3\]",
    )
    assert {path for path, _ in report.mismatched} >= {
        "x.body.0.weight",
        "x.body.0.bias",
        "x.body.1.running_mean",
    }


def test_a_layer_of_another_kind():
    fails(
        nn.Sequential(nn.ReLU()),
        nn.Sequential(nn.Tanh()),
        r"x\.0: the checkpoint has a ReLU, the script has a Tanh",
    )


def test_a_parameter_too_few_or_too_many():
    fails(Net(extra=True), Net(), r"x\.more: the checkpoint has a parameter .* nothing")
    fails(Net(), Net(extra=True), r"x\.more: the script has it")
    fails(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), r"x\.bias: the checkpoint has a parameter .* None")
    fails(
        nn.Linear(2, 2, bias=False),
        nn.Linear(2, 2),
        r"x\.bias: the checkpoint has None, the script has a parameter",
    )


def test_a_layer_too_few_or_too_many():
    fails(nn.Sequential(nn.ReLU(), nn.ReLU()), nn.Sequential(nn.ReLU()), r"x\.1")
    fails(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU()), r"x\.1")
    fails({"a": nn.ReLU()}, {"a": nn.ReLU(), "b": nn.ReLU()}, r"x\['b'\]")
    fails([nn.ReLU()], [nn.ReLU(), nn.ReLU()], "2, among them 1 more")


def test_other_dtypes():
    fails(nn.Linear(2, 2).double(), nn.Linear(2, 2), r"x\.weight: .*float64\[2, 2\].*float32")


def test_ties_that_differ():
    fails(Net(3, tied=True), Net(3), r"x\.head\.weight|x\.body\.3\.weight")
    fails(Net(3), Net(3, tied=True), r"x\.head\.weight|x\.body\.3\.weight")


def test_a_module_is_not_replaced_by_a_value():
    fails(
        {"net": "text"}, {"net": nn.ReLU()}, r"x\['net'\]: the checkpoint has 'text', the script has a ReLU"
    )
    fails({"net": [1]}, {"net": nn.ReLU()}, r"x\['net'\]")
    fails({"net": None}, {"net": nn.ReLU()}, r"x\['net'\]")


def test_an_optimizer_of_another_kind_or_for_other_parameters():
    def both(cls, *parameters):
        net = nn.ParameterList(parameters)
        return {"net": net, "o": cls(net.parameters(), 0.1)}

    fails(
        both(torch.optim.SGD, torch.ones(2)), both(torch.optim.Adam, torch.ones(2)), r"x\['o'\]: .*SGD.*Adam"
    )
    fails(
        both(torch.optim.SGD, torch.ones(2), torch.ones(1)),
        both(torch.optim.SGD, torch.ones(2)),
        r"x\['net'\]",
    )


def test_taking_what_fits():
    torch.manual_seed(0)
    saved, live = Net(8), Net(4)
    saved.calls = 9
    before = live.body[0].weight.detach().clone()
    report = restore(transported(capture({"x": saved})), {"x": live}, strict=False)
    assert "x.head.weight" in report.restored
    assert "x.body.0.weight" not in report.restored
    assert torch.equal(live.head.weight, saved.head.weight)
    assert torch.equal(live.body[0].weight, before)
    assert live.calls == 9
    live(torch.randn(2, 3))

    world = {"net": nn.ReLU(), "a": 1}
    net = world["net"]
    restore(transported(capture({"net": "text", "a": 2})), world, strict=False)
    assert world == {"net": net, "a": 2}


@pytest.mark.parametrize(
    "wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel], ids=["compiled", "parallel"]
)
def test_a_module_around_a_module_stays_whole(wrap):
    def built(seed):
        torch.manual_seed(seed)
        return wrap(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))

    trained, live = built(1), built(2)
    tables = {name: set(vars(live)[name]) for name in ("_parameters", "_buffers", "_modules")}
    assert restore(transported(capture({"net": trained})), {"net": live}).exact
    assert {name: set(vars(live)[name]) for name in tables} == tables
    x = torch.ones(4, 2)
    assert torch.equal(live(x), trained(x))
    saved, found = trained.state_dict(), live.state_dict()
    assert list(saved) == list(found)
    assert all(torch.equal(saved[name], found[name]) for name in saved)
