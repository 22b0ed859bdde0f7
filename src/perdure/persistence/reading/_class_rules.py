"""What a few classes of torch, Gymnasium and others do in their `__setstate__`, done here in their place.

Most of them add attributes that older versions did not have. Importing this module puts the rules into the tables of
`_classes`. Knows no files and no pickles.
"""

from __future__ import annotations

import functools
import inspect
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch

from perdure.persistence.reading._classes import (
    ATTRIBUTE_COST,
    RULES,
    STATES,
    TABLE_COST,
    Charge,
    NotMadeError,
    Rule,
    attribute_fault,
    attributes_of,
    dotted,
)
from perdure.state import blank, slots


def _defaults(**factories: Callable[[], Any]) -> Rule:
    def add(obj: Any, charge: Charge) -> None:
        attributes = attributes_of(obj)
        for name, factory in factories.items():
            if name not in attributes:
                charge(TABLE_COST)
                attributes[name] = factory()

    return add


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


_MODULE = _defaults(
    **dict.fromkeys(
        (
            *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs"),
            *("_forward_hooks_always_called", "_state_dict_hooks", "_state_dict_pre_hooks"),
            *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_backward_pre_hooks"),
        ),
        OrderedDict,
    ),
    _non_persistent_buffers_set=set,
    _is_full_backward_hook=_constant(None),
)
_OPTIMIZER_TABLES = _defaults(
    **dict.fromkeys(
        (
            *("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"),
            *("_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks"),
            *("_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks"),
        ),
        OrderedDict,
    )
)


def _optimizer(optimizer: torch.optim.Optimizer, charge: Charge) -> None:
    _OPTIMIZER_TABLES(optimizer, charge)
    attributes = attributes_of(optimizer)
    groups = attributes["param_groups"]
    for table in (attributes["defaults"], *(groups if type(groups) is list else (groups,))):
        if type(table) is not dict:
            raise TypeError(f"the settings of an optimizer are a {type(table).__name__}")
    attributes["defaults"].setdefault("differentiable", False)
    # A part of torch's constructor: it lets hooks take part in the steps of the class, and writes one name.
    torch.optim.Optimizer._patch_step_function(optimizer)


def _one_optimizer(optimizer: torch.optim.Optimizer, charge: Charge) -> None:
    """Settings that the version of torch that wrote the file did not have."""
    cls: Any = type(optimizer)
    for group in attributes_of(optimizer)["param_groups"]:
        for name, value in _settings(cls).items():
            if name not in group:
                charge(ATTRIBUTE_COST)
                group[name] = value


@functools.lru_cache
def _settings(cls: Hashable) -> dict[str, Any]:
    assert isinstance(cls, type)
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("torch.optim.") and "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            plain = {
                name: each.default for name, each in parameters.items() if each.default is not each.empty
            }
            defaults.update(plain)
    return {name: value for name, value in defaults.items() if type(value) in (bool, type(None), int, float)}


def _recurrent(module: torch.nn.RNNBase, charge: Charge) -> None:
    attributes = attributes_of(module)
    attributes.setdefault("proj_size", 0)
    weights = attributes["_flat_weights"]
    if type(weights) is not list or any(
        not issubclass(type(each), torch.Tensor) for each in weights if each is not None
    ):
        raise TypeError("the weights of a recurrent layer are no list of tensors")
    charge(ATTRIBUTE_COST * len(weights))
    attributes["_flat_weight_refs"] = [None if each is None else weakref.ref(each) for each in weights]


def _hook(hook: Any, charge: Charge) -> None:
    attributes = attributes_of(hook)
    if attributes.get("with_module") is True:
        if not issubclass(type(attributes["module"]), torch.nn.Module):
            raise TypeError("a hook belongs to something that is no module")
        attributes["module"] = weakref.ref(attributes["module"])


def _space(space: Any, charge: Charge) -> None:
    attributes = attributes_of(space)
    for old, new in (("shape", "_shape"), ("np_random", "_np_random")):
        if old in attributes:
            attributes[new] = attributes.pop(old)


def _box(space: Any, charge: Charge) -> None:
    attributes = attributes_of(space)
    for name in ("low", "high"):
        bound = attributes.get(name)
        if f"{name}_repr" not in attributes and type(bound) is np.ndarray and bound.dtype.kind in "fiub":
            alike = bound.size > 0 and bool((bound == bound.flat[0]).all())
            attributes[f"{name}_repr"] = str(bound.flat[0]) if alike else str(bound)


def _multi_discrete(space: Any, charge: Charge) -> None:
    attributes = attributes_of(space)
    if "start" not in attributes and type(attributes.get("nvec")) is np.ndarray:
        charge(int(attributes["nvec"].nbytes))
        attributes["start"] = np.zeros_like(attributes["nvec"])


def _uuid(made: Any, charge: Charge) -> None:
    number = made.int
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise TypeError("a UUID is no number of 128 bits")
    safety = getattr(made, "is_safe", None)
    found = uuid.SafeUUID._value2member_map_.get(safety if type(safety) is int else None)
    slots(uuid.UUID)["is_safe"].__set__(made, found or uuid.SafeUUID.unknown)


def _batch(batch: Any, charge: Charge) -> None:
    """Tianshou writes batches in a batch as dictionaries."""
    cls: Any = type(batch)
    pending = [attributes_of(batch)]
    while pending:
        attributes = pending.pop()
        for name, value in attributes.items():
            if type(value) is dict:
                charge(ATTRIBUTE_COST * (1 + len(value)))
                attributes[name] = blank(cls)
                for key, each in value.items():
                    if type(key) is not str or attribute_fault(cls, key) is not None:
                        raise TypeError(f"a batch has the key {key!r:.40}")
                    attributes_of(attributes[name])[key] = each
                pending.append(attributes_of(attributes[name]))


def _tensor_dict_module(module: Any, charge: Charge) -> None:
    if "module" in attributes_of(module):
        raise NotMadeError(
            dotted(type(module)),
            "it holds a function as a pickle of its own, which nobody can look into. Give it a torch.nn.Module, or "
            "save the policy's state dictionary",
        )


def _tensor_dict(made: Any, charge: Charge) -> None:
    attributes = attributes_of(made)
    attributes["_cache"] = attributes["_last_op"] = None
    if not attributes.get("_is_locked"):
        return
    content = attributes.get("_tensordict")
    if (
        dotted(type(made)) != "tensordict._td.TensorDict"
        or type(content) is not dict
        or not all(type(each) in (torch.Tensor, torch.nn.Parameter, type(made)) for each in content.values())
    ):
        raise NotMadeError(
            dotted(type(made)),
            "it is locked, and holds more than tensors. Unlock it before you save it (.unlock_())",
        )
    charge(TABLE_COST * (1 + len(content)))
    attributes["_is_locked"] = False
    made.lock_()  # notes in each dictionary below which ones hold it


def _unlocked(made: Any, charge: Charge) -> None:
    if attributes_of(made).get("_is_locked"):
        raise NotMadeError(dotted(type(made)), "it is locked. Unlock it before you save it (.unlock_())")


def _settings_of_rmsprop(optimizer: torch.optim.Optimizer, charge: Charge) -> None:
    for group in attributes_of(optimizer)["param_groups"]:
        charge(2 * ATTRIBUTE_COST)
        group.setdefault("momentum", 0)
        group.setdefault("centered", False)


def _handle(handle: Any, state: Any, charge: Charge) -> None:
    """A handle refers to the table that its hook is in."""
    hooks, number, *more = state if type(state) is tuple else (None,)
    others = more[0] if more and more[0] is not None else ()
    if type(number) is not int or not 0 <= number < 1 << 31 or type(others) not in (tuple, list):
        raise TypeError("a handle of a hook has no number")
    attributes = attributes_of(handle)
    tables = [OrderedDict() if hooks is None else hooks, *others]
    if any(type(each) is not OrderedDict for each in tables):
        raise TypeError("a handle of a hook belongs to no table of hooks")
    charge(ATTRIBUTE_COST * len(tables))
    attributes["hooks_dict_ref"] = weakref.ref(tables[0])
    attributes["id"] = number
    attributes["extra_dict_ref"] = tuple(weakref.ref(each) for each in tables[1:])
    # So that the next hook that is registered does not get the same number.
    torch.utils.hooks.RemovableHandle.next_id = max(torch.utils.hooks.RemovableHandle.next_id, number + 1)


def _non_tensor_data(made: Any, state: Any, charge: Charge) -> None:
    """What a TensorDict keeps that is no tensor."""
    if type(state) is not dict or state.keys() != {"tensordict", "non_tensordict"}:
        raise TypeError("what is no tensor in a TensorDict has another state")
    content, others = state["tensordict"], state["non_tensordict"]
    if type(others) is not dict or dotted(type(content)) != "tensordict._td.TensorDict":
        raise TypeError("what is no tensor in a TensorDict has another state")
    charge(3 * ATTRIBUTE_COST)
    attributes_of(made).update(_tensordict=content, _non_tensordict=others)


STATES["tensordict.tensorclass.NonTensorDataBase"] = STATES["tensordict.tensorclass.NonTensorData"] = (
    _non_tensor_data
)
STATES["torch.utils.hooks.RemovableHandle"] = _handle

_LAYERS = "torch.nn.modules"
_OWN_RULES: dict[str, Rule] = {
    f"{_LAYERS}.module.Module": _MODULE,
    f"{_LAYERS}.module._WrappedHook": _hook,
    f"{_LAYERS}.activation.MultiheadAttention": _defaults(_qkv_same_embed_dim=_constant(True)),
    **dict.fromkeys(
        (f"{_LAYERS}.activation.{name}" for name in ("Softmin", "Softmax", "LogSoftmax")),
        _defaults(dim=_constant(None)),
    ),
    f"{_LAYERS}.conv._ConvNd": _defaults(padding_mode=_constant("zeros")),
    f"{_LAYERS}.pooling.AvgPool3d": _defaults(
        padding=_constant(0), ceil_mode=_constant(False), count_include_pad=_constant(True)
    ),
    f"{_LAYERS}.rnn.RNNBase": _recurrent,
    **dict.fromkeys(
        (f"{_LAYERS}.transformer.Transformer{name}Layer" for name in ("Encoder", "Decoder")),
        _defaults(activation=_constant(torch.nn.functional.relu)),
    ),
    f"{_LAYERS}.upsampling.Upsample": _defaults(recompute_scale_factor=_constant(True)),
    "torch.optim.optimizer.Optimizer": _optimizer,
    **{
        dotted(cls): _one_optimizer
        for cls in vars(torch.optim).values()
        if isinstance(cls, type)
        and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    },
    "gymnasium.spaces.space.Space": _space,
    "gymnasium.spaces.box.Box": _box,
    "gymnasium.spaces.discrete.Discrete": _defaults(start=_constant(np.int64(0))),
    "gymnasium.spaces.multi_discrete.MultiDiscrete": _multi_discrete,
    "tianshou.utils.net.continuous.ContinuousCritic": _defaults(
        apply_preprocess_net_to_obs_only=_constant(False)
    ),
    "tianshou.data.batch.Batch": _batch,
    "tianshou.data.buffer.buffer_base.ReplayBuffer": _defaults(
        _random_state=lambda: np.random.RandomState(42)
    ),
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike": _settings_of_rmsprop,
    "tensordict.nn.common.TensorDictModule": _tensor_dict_module,
    "tensordict.base.TensorDictBase": _tensor_dict,
    "torchrl.data.tensor_specs.Composite": _unlocked,
    "torch.amp.grad_scaler.GradScaler": _defaults(),
    "numpy.polynomial._polybase.ABCPolyBase": _defaults(),
    **dict.fromkeys(("builtins.BaseException", "torch.Tensor", "numpy.ndarray"), _defaults()),
    "uuid.UUID": _uuid,
}
RULES.update(_OWN_RULES)
