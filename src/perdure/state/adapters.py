"""torch's modules and optimizers: walked by the names their users know, built by the script alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from perdure.state.registry import Adapter, register_adapter

_TABLES = ("_parameters", "_buffers", "_modules")


def _module_fields(module: torch.nn.Module) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    for table in _TABLES:
        fields.update(getattr(module, table))
    fields.update((name, value) for name, value in vars(module).items() if name not in _TABLES)
    return fields


def _module_assign(module: torch.nn.Module, name: str, value: Any) -> None:
    for table in _TABLES:
        entries = getattr(module, table)
        if name in entries:
            entries[name] = value
            return
    object.__setattr__(module, name, value)


def _module_remove(module: torch.nn.Module, name: str) -> None:
    vars(module).pop(name, None)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_fields(optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    fields = {name: value for name, value in vars(optimizer).items() if name not in ("state", "param_groups")}
    fields["param_groups"] = optimizer.param_groups
    # By position, not by parameter: the moments of the third parameter are found at `state[2]` in every process.
    fields["state"] = [optimizer.state.get(parameter) for parameter in _parameters(optimizer)]
    return fields


def _optimizer_assign(optimizer: torch.optim.Optimizer, name: str, value: Any) -> None:
    if name != "state":
        vars(optimizer)[name] = value
        return
    parameters = _parameters(optimizer)
    if len(value) != len(parameters):
        raise ValueError(f"expected the state of {len(parameters)} parameters, found that of {len(value)}")
    for parameter, entry in zip(parameters, value, strict=True):
        if entry is None:
            optimizer.state.pop(parameter, None)
        else:
            optimizer.state[parameter] = entry


def _optimizer_remove(optimizer: torch.optim.Optimizer, name: str) -> None:
    vars(optimizer).pop(name, None)


register_adapter(torch.nn.Module, Adapter(_module_fields, _module_assign, _module_remove))
register_adapter(torch.optim.Optimizer, Adapter(_optimizer_fields, _optimizer_assign, _optimizer_remove))
