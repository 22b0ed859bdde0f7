"""Rules for torch's modules and optimizers, which are walked by the names that users know; for hindsight buffers,
without the dicts that they never fill; for bytearrays; and for values that processes share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from perdure.state._attributes import attributes_of
from perdure.state._registry import Adapter, register, register_adapter, skip

_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
_MODULE_HOOKS = tuple(name for name in vars(torch.nn.Module()) if name.endswith(_HOOKS))
_MODULE_OWN = frozenset({*_TABLES, *_MODULE_HOOKS})


def _hooks(attributes: Mapping[str, Any], names: Iterable[str]) -> dict[str, list[Any]]:
    """The hook tables that are not empty, in order. Their keys are numbers that mean nothing in another process."""
    tables = ((name, attributes.get(name)) for name in names)
    return {name: list(table.values()) for name, table in tables if table and isinstance(table, dict)}


def _module_fields(module: torch.nn.Module) -> Mapping[str, Any]:
    attributes = vars(module)
    fields: dict[str, Any] = {}
    for table in _TABLES:
        fields.update(attributes[table])
    fields.update({name: value for name, value in attributes.items() if name not in _MODULE_OWN})
    if any(map(attributes.get, _MODULE_HOOKS)):
        fields.update(_hooks(attributes, _MODULE_HOOKS))
    return fields


def _module_assign(module: torch.nn.Module, name: str, value: Any) -> None:
    if name in _MODULE_OWN:
        return
    for table in _TABLES:
        entries = vars(module)[table]
        if name in entries:
            entries[name] = value
            return
    vars(module)[name] = value


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_fields(optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    attributes = vars(optimizer)
    left = ("state", "param_groups")
    fields = {
        name: value for name, value in attributes.items() if name not in left and not name.endswith(_HOOKS)
    }
    fields.update(_hooks(attributes, [name for name in attributes if name.endswith(_HOOKS)]))
    fields["param_groups"] = optimizer.param_groups
    # By position, not by parameter: the moments of the third parameter are found at `state[2]` in every
    # process.
    fields["state"] = [optimizer.state.get(parameter) for parameter in _parameters(optimizer)]
    return fields


def _optimizer_assign(optimizer: torch.optim.Optimizer, name: str, value: Any) -> None:
    if name.endswith(_HOOKS):
        return
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


register_adapter(torch.nn.Module, Adapter(_module_fields, _module_assign))
register_adapter(torch.optim.Optimizer, Adapter(_optimizer_fields, _optimizer_assign, frozenset({"state"})))


class Unwritten:
    """Replaces, in a walk, what is never written."""


def _hindsight_fields(buffer: Any) -> Mapping[str, Any]:
    fields = attributes_of(buffer)
    if not fields.get("copy_info_dict", True):
        # An empty dict for each of its rows, a million of them perhaps.
        fields["infos"] = Unwritten()
    return fields


def _assign(holder: Any, name: str, value: Any) -> None:
    vars(holder)[name] = value


skip(Unwritten, "nothing writes it")
register_adapter(
    "stable_baselines3.her.her_replay_buffer.HerReplayBuffer", Adapter(_hindsight_fields, _assign)
)


def _restore_bytes(live: bytearray, saved: np.ndarray[Any, Any]) -> None:
    live[:] = saved.tobytes()


register(
    bytearray,
    capture=lambda live: np.frombuffer(bytes(live), np.uint8),
    restore=_restore_bytes,
    create=lambda saved: bytearray(saved.tobytes()),
)


def _capture_shared(live: Any) -> dict[str, Any]:
    return {"type": live.get_obj()._type_, "value": live.value}


def _restore_shared(live: Any, saved: dict[str, Any]) -> None:
    live.value = saved["value"]


def _create_shared(saved: dict[str, Any]) -> Any:
    if saved["type"] not in tuple("?cbBhHiIlLqQfd"):
        raise ValueError(f"expected the type of a number, found {saved['type']!r:.20}")
    return multiprocessing.Value(saved["type"], saved["value"])


def _restore_event(live: Any, saved: bool) -> None:
    (live.set if saved else live.clear)()


register(
    "multiprocessing.sharedctypes.Synchronized",
    capture=_capture_shared,
    restore=_restore_shared,
    create=_create_shared,
)
register("multiprocessing.synchronize.Event", capture=lambda live: live.is_set(), restore=_restore_event)
