"""Rules for torch's modules and optimizers, which are walked by the names that users know, and how copies of them are
made."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from perdure.state._registry import (
    Adapter,
    Handler,
    Maker,
    blank,
    leave_out,
    register_adapter,
    register_handler,
)
from perdure.tree import Array, Custom, MappingNode, NumberRun, Object, Omitted, RepeatRun, SequenceNode

_TABLES = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
_NEW_MODULE = vars(torch.nn.Module())
_MODULE_HOOKS = tuple(name for name in _NEW_MODULE if name.endswith(_HOOKS))
_MODULE_OWN = frozenset({*_TABLES, *_MODULE_HOOKS})
#: A field that says in which table the names lie that have no value yet, where that is not the parameters' table.
_UNSET = "_perdure_unset"
#: Marks a module whose tables are being filled: what is assigned before `training` belongs in one of them. (A compiled
#: module has no `training` of its own, so its absence tells nothing.)
_FILLING = "_perdure_filling"

#: A recurrent layer has its weights in a list too, with a list of weak references to them.
_FLAT, _FLAT_REFS = "_flat_weights", "_flat_weight_refs"
_LAZY_HOOKS = ("_initialize_hook", "_load_hook")
_NONE = type(None)
Find = Callable[[str], "type | None"]


def _hooks(
    attributes: Mapping[str, Any], names: Iterable[str], without: Container[int] = ()
) -> dict[str, list[Any]]:
    """The hook tables that are not empty, in order. Their keys are numbers that mean nothing in another process: a
    table that says something about hooks (`_forward_hooks_with_kwargs`) has their positions instead.

    :param without: the numbers of hooks that do not count.
    """
    found: dict[str, list[Any]] = {}
    for name in names:
        table = attributes.get(name)
        if not table or not isinstance(table, dict):
            continue
        if name.endswith(_HOOKS[0]):
            entries: list[Any] = [hook for number, hook in table.items() if number not in without]
        else:
            numbers = [number for number in attributes.get(_about(name)) or () if number not in without]
            entries = [position for position, number in enumerate(numbers) if number in table]
        if entries:
            found[name] = entries
    return found


def _about(name: str) -> str:
    """The name of the table of the hooks about which another table says something."""
    return name.removesuffix("_with_kwargs").removesuffix("_always_called")


def _put_hooks(attributes: dict[str, Any], name: str, value: list[Any], without: Container[int] = ()) -> None:
    """Let a table have these hooks. Those that stay keep their keys, by which their handles remove them; the others get
    keys that no other hook of this process has.

    :param without: the numbers of hooks that stay beside them.
    """
    table = attributes[name]
    stay = {number: entry for number, entry in table.items() if number in without}
    if not name.endswith(_HOOKS[0]):
        # Checkpoints of the first kind do not say which hooks it is about; then the script's own stay.
        if all(type(position) is int for position in value):
            numbers = [number for number in attributes[_about(name)] if number not in without]
            table.clear()
            table.update(stay)
            table.update((numbers[position], True) for position in value if 0 <= position < len(numbers))
        return
    left = [(number, hook) for number, hook in table.items() if number not in stay]
    hooks = []
    for hook in value:
        position = next((n for n, (_, own) in enumerate(left) if own is hook), None)
        if position is None:
            hooks.append((torch.utils.hooks.RemovableHandle.next_id, hook))
            torch.utils.hooks.RemovableHandle.next_id += 1
        else:
            hooks.append(left.pop(position))
    table.clear()
    table.update(stay)
    table.update(hooks)


def _length(node: SequenceNode) -> int:
    return sum(child.count if isinstance(child, RepeatRun) else 1 for child in node.items)


# -- modules -----------------------------------------------------------------------------------------------------------


def _module_fields(module: torch.nn.Module) -> Mapping[str, Any]:
    attributes = vars(module)
    fields: dict[str, Any] = {}
    for table in _TABLES:
        fields.update(attributes[table])
    # Where a module is made anew, what comes before `training` lies in one of the tables.
    if "training" in attributes:
        fields["training"] = attributes["training"]
    fields.update({name: value for name, value in attributes.items() if name not in _MODULE_OWN})
    if any(map(attributes.get, _MODULE_HOOKS)):
        fields.update(_hooks(attributes, _MODULE_HOOKS, _lazy_hooks(attributes)))
        for name in _LAZY_HOOKS:
            fields.pop(name, None)
    buffers, modules = attributes["_buffers"], attributes["_modules"]
    if (buffers and _NONE in map(type, buffers.values())) or (
        modules and _NONE in map(type, modules.values())
    ):
        tables = (("_buffers", buffers), ("_modules", modules))
        return {
            _UNSET: {name: table for table, own in tables for name, value in own.items() if value is None},
            **fields,
        }
    return fields


def _lazy_hooks(attributes: Mapping[str, Any]) -> Container[int]:
    """The numbers of the hooks that a lazy module has until its parameters have a shape."""
    return [attributes[name].id for name in _LAZY_HOOKS if name in attributes]


def _module_assign(module: torch.nn.Module, name: str, value: Any) -> None:
    attributes = vars(module)
    if name in _MODULE_OWN:
        if name in _MODULE_HOOKS and isinstance(value, list):
            _put_hooks(attributes, name, value, _lazy_hooks(attributes))
        return
    is_new = _FILLING in attributes
    if name == _UNSET:
        if is_new:
            attributes[_UNSET] = value
        return
    if name == _FLAT and isinstance(module, torch.nn.RNNBase):
        attributes[_FLAT_REFS] = [None if each is None else weakref.ref(each) for each in value]
    for table in _TABLES:
        entries = attributes[table]
        if name in entries:
            entries[name] = value
            return
    if not is_new:
        attributes[name] = value
    elif name != "training":
        unset = attributes.get(_UNSET) or {}
        attributes[unset.get(name, "_parameters") if value is None else _table_of(value)][name] = value
    else:
        attributes.pop(_UNSET, None)
        del attributes[_FILLING]
        attributes[name] = value


def _arrange_module(module: torch.nn.Module, names: list[str]) -> bool:
    """Let a module have in its tables what it had when it was captured, where that is not what the script has built: a
    layer that was added, a parameter that became another thing. The tables are filled anew, in that order."""
    attributes = vars(module)
    if "training" not in names or "training" not in attributes:
        return False
    in_tables = [name for name in names[: names.index("training")] if name != _UNSET]
    present = {name: value for table in _TABLES for name, value in attributes[table].items()}
    if in_tables == list(present):
        return False
    kept = {name: present[name] for name in present if name not in names}
    for table in _TABLES:
        own = attributes[table]
        left = {name: value for name, value in own.items() if name in kept}
        own.clear()
        own.update(left)
    for name in (*in_tables, "training"):
        attributes.pop(name, None)
    attributes[_FILLING] = True
    return True


def _remove_from_module(module: torch.nn.Module, name: str) -> None:
    attributes = vars(module)
    if name in _MODULE_HOOKS:
        attributes[name].clear()
        return
    for table in _TABLES:
        attributes[table].pop(name, None)
    attributes.pop(name, None)


def _finish_module(module: torch.nn.Module) -> None:
    """Let a lazy module be what it is when its parameters have a shape; or what it is before, if it was just made."""
    vars(module).pop(_FILLING, None)
    if not isinstance(module, LazyModuleMixin):
        return
    lazy: Any = module
    is_lazy = any(name in vars(module) for name in _LAZY_HOOKS)
    if lazy.has_uninitialized_params():
        if not is_lazy:
            lazy._load_hook = lazy._register_load_state_dict_pre_hook(lazy._lazy_load_hook)
            lazy._initialize_hook = lazy.register_forward_pre_hook(lazy._infer_parameters, with_kwargs=True)
    elif is_lazy:
        for name in _LAZY_HOOKS:
            vars(module).pop(name).remove()
        if lazy.cls_to_become is not None:
            lazy.__class__ = lazy.cls_to_become


def _becomes(cls: type) -> type | None:
    return cls.cls_to_become if issubclass(cls, LazyModuleMixin) else None


def _capture_uninitialized(tensor: Any) -> dict[str, Any]:
    return {
        "parameter": isinstance(tensor, torch.nn.Parameter),
        "requires_grad": tensor.requires_grad,
        "dtype": tensor.data.dtype,
        "device": str(tensor.data.device),
    }


def _create_uninitialized(saved: Mapping[str, Any]) -> Any:
    cls: Any = UninitializedParameter if saved["parameter"] else UninitializedBuffer
    return cls(bool(saved["requires_grad"]), torch.device(saved["device"]), saved["dtype"])


def _restore_uninitialized(tensor: Any, saved: Mapping[str, Any]) -> None:
    tensor.requires_grad = bool(saved["requires_grad"])


def _table_of(value: Any) -> str:
    if isinstance(value, torch.nn.Parameter):
        return "_parameters"
    return "_modules" if isinstance(value, torch.nn.Module) else "_buffers"


def _blank_module(cls: type) -> Any:
    module = blank(cls)
    vars(module).update({name: type(_NEW_MODULE[name])() for name in _NEW_MODULE if name in _MODULE_OWN})
    vars(module)[_FILLING] = True
    return module


def _why_no_module(fields: Mapping[str, Any], find: Find) -> str | None:
    names = list(fields)
    if (
        "training" not in fields
        or "_non_persistent_buffers_set" not in fields
        or any(map(fields.get, _TABLES))
    ):
        return "what the checkpoint has is no module"
    for name in names[: names.index("training")]:
        child = fields[name]
        cls = find(child.type) if isinstance(child, Object | Custom) else None
        is_module = cls is not None and issubclass(cls, torch.nn.Module | torch.Tensor)
        is_tensor = isinstance(child, Array) and child.framework == "torch"
        if not (is_module or is_tensor or child is None or isinstance(child, Omitted) or name == _UNSET):
            return f"what the checkpoint has as its {name!r:.40} is neither a parameter, nor a buffer, nor a module"
    unset = fields.get(_UNSET)
    if unset is not None and not (
        isinstance(unset, MappingNode)
        and all(type(name) is str and table in _TABLES[1:] for name, table in unset.pairs)
    ):
        return "what the checkpoint has is no module"
    return _why_no_hooks(fields)


def _why_no_hooks(fields: Mapping[str, Any]) -> str | None:
    for name, child in fields.items():
        if name.endswith(_HOOKS[1:]) and name in _MODULE_OWN:
            return f"it has hooks ({name}) whose kind a checkpoint does not tell"
        if name.endswith(_HOOKS[0]) and not isinstance(child, SequenceNode):
            return f"what the checkpoint has as its {name!r:.40} are no hooks"
    return None


# -- optimizers --------------------------------------------------------------------------------------------------------


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_fields(optimizer: torch.optim.Optimizer) -> Mapping[str, Any]:
    attributes = vars(optimizer)
    left = ("state", "param_groups")
    fields = {
        name: value for name, value in attributes.items() if name not in left and not name.endswith(_HOOKS)
    }
    if hasattr(fields.get("step"), "_wrapped_by_lr_sched"):
        # A scheduler notes through it that the optimizer made a step. Copies of the optimizer do without.
        del fields["step"]
    fields.update(_hooks(attributes, [name for name in attributes if name.endswith(_HOOKS)]))
    fields["param_groups"] = optimizer.param_groups
    # By position, not by parameter: the moments of the third parameter are found at `state[2]` in every
    # process.
    fields["state"] = [optimizer.state.get(parameter) for parameter in _parameters(optimizer)]
    return fields


def _optimizer_assign(optimizer: torch.optim.Optimizer, name: str, value: Any) -> None:
    if name.endswith(_HOOKS):
        table = vars(optimizer).get(name)
        if isinstance(table, dict) and isinstance(value, list):
            _put_hooks(vars(optimizer), name, value)
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


def _optimizer_hooks() -> tuple[str, ...]:
    """The names of an optimizer's hook tables.

    No optimizer is constructed to find them: the first one imports torch's compiler, which takes seconds.
    """
    bare = blank(torch.optim.SGD)
    torch.optim.Optimizer.__setstate__(bare, {"defaults": {}})
    return tuple(name for name in vars(bare) if name.endswith(_HOOKS))


_OPTIMIZER_HOOKS = _optimizer_hooks()


def _remove_from_optimizer(optimizer: torch.optim.Optimizer, name: str) -> None:
    attributes = vars(optimizer)
    if name in _OPTIMIZER_HOOKS and isinstance(attributes.get(name), dict):
        attributes[name].clear()
    else:
        attributes.pop(name, None)


def _blank_optimizer(cls: type) -> Any:
    optimizer = blank(cls)
    tables: dict[str, Any] = {name: collections.OrderedDict() for name in _OPTIMIZER_HOOKS}
    vars(optimizer).update(tables, state=collections.defaultdict(dict))
    # torch's own: it lets the class's `step` call hooks, as the first optimizer of a class does.
    torch.optim.Optimizer._patch_step_function(optimizer)
    return optimizer


def _why_no_optimizer(fields: Mapping[str, Any], find: Find) -> str | None:
    groups, state = fields.get("param_groups"), fields.get("state")
    if not (isinstance(groups, SequenceNode) and isinstance(state, SequenceNode)):
        return "what the checkpoint has is no optimizer"
    count = 0
    for group in groups.items:
        params = dict(group.pairs).get("params") if isinstance(group, MappingNode) else None
        if not isinstance(params, SequenceNode) or not all(
            (isinstance(each, Array) and each.framework == "torch") or isinstance(each, Custom)
            for each in params.items
        ):
            return "what the checkpoint has are no groups of parameters"
        count += len(params.items)
    if _length(state) != count or any(isinstance(each, NumberRun) for each in state.items):
        return f"the checkpoint has {count} parameters and the state of {_length(state)}"
    return _why_no_hooks(fields)


leave_out(torch.nn.RNNBase, [_FLAT_REFS], "weak references to its weights")
register_adapter(
    torch.nn.Module,
    Adapter(
        _module_fields,
        _module_assign,
        made=frozenset({*_MODULE_HOOKS, _FLAT}),
        maker=Maker(_blank_module, _why_no_module, frozenset({_FLAT_REFS})),
        optional=frozenset({_UNSET, *_MODULE_HOOKS}),
        arrange=_arrange_module,
        remove=_remove_from_module,
        finish=_finish_module,
        becomes=_becomes,
    ),
)
register_handler(
    "torch.nn.parameter.UninitializedTensorMixin",
    Handler(_capture_uninitialized, _restore_uninitialized, _create_uninitialized),
)
register_adapter(
    torch.optim.Optimizer,
    Adapter(
        _optimizer_fields,
        _optimizer_assign,
        made=frozenset({*_OPTIMIZER_HOOKS, "state"}),
        maker=Maker(_blank_optimizer, _why_no_optimizer),
        # What Adam notes about a warning, copies of it have not got.
        optional=frozenset({"_warned_capturable_if_run_uncaptured", *_OPTIMIZER_HOOKS}),
        remove=_remove_from_optimizer,
    ),
)
