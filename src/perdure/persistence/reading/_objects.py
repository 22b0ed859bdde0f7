"""How objects of the allowed classes are made for a policy file: blank, and then their attributes.

No constructor runs, no `__setstate__` of an object, no property and no `__setattr__`. What a few classes of torch and
Gymnasium do in their `__setstate__` (they add attributes that older versions did not have) is done here instead. A
class that needs its own is one that `perdure.register` knows. Knows no files and no pickles.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import sys
import types
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from perdure.state import Handler, blank, is_native, known, slots, unassignable

Charge: TypeAlias = Callable[[int], None]
"""Asked for so many bytes of memory before they are taken."""

Rule: TypeAlias = Callable[[Any, Charge], None]
"""What a class adds to the attributes in a file."""

ATTRIBUTE_COST = 100
_TABLE_COST = 250


class NotMadeError(Exception):
    """An allowed class that no file may make an object of, or may not give this attribute; `name` is the class."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def dotted(cls: type) -> str:
    """The full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


_Function = TypeVar("_Function", bound=Callable[..., Any])


def by_class(function: _Function) -> _Function:
    """Keep what a function says of a class. By the class's identity: a metaclass may hash in Python."""
    known_ones: dict[tuple[int, Any], tuple[type, Any]] = {}

    @functools.wraps(function)
    def once(cls: type, *more: Any) -> Any:
        found = known_ones.get((id(cls), more))
        if found is None:
            if len(known_ones) >= _MOST_KEPT:
                known_ones.clear()
            found = known_ones[id(cls), more] = cls, function(cls, *more)
        return found[1]

    return once  # type: ignore[return-value]


_MOST_KEPT = 10_000

# -- classes -------------------------------------------------------------------------------------------------

_NEVER = (type, enum.Enum, types.ModuleType, types.FunctionType, torch.Tensor, np.ndarray, np.generic)
_IMMUTABLE = (tuple, int, float, str, bytes, complex, frozenset)


def why_not_made(cls: type) -> str | None:
    """Why no object of an allowed class is made, with the remedy; None if one is."""
    name = cls.__qualname__
    if registered(cls) is not None:
        return None
    if _is_more_than_attributes(cls):
        return (
            f"its objects hold more than attributes. Register how they are made: perdure.register({name}, capture=..., "
            "restore=..., create=...)"
        )
    return why_not_filled(cls)


def why_not_filled(cls: type) -> str | None:
    """Why no object of a class gets what a file says, with the remedy; None if it does."""
    if registered(cls) is not None:
        return None
    if hasattr(cls, "__del__"):
        return (
            "it has a finalizer (__del__), which would act on what the file says. If that is harmless, register it: "
            f"{register_line(cls)}"
        )
    if inspect.isabstract(cls):
        return "it is an abstract class, which has no objects. Use the versions of the libraries that wrote the file"
    if _has_own_setstate(cls):
        return (
            f"it has a __setstate__ of its own, which loading does not run. Register it: {register_line(cls)}"
        )
    return None


def registered(cls: type) -> Handler | None:
    """What was registered for a class that could not be made without; None for one that is made by its attributes."""
    if _is_made_by_attributes(cls):
        return None
    about = known(cls)
    if about.structural and not issubclass(cls, torch.nn.Module):
        return None  # an environment: what is known of it is how to restore one that is there
    return handler_of(cls)


def handler_of(cls: type) -> Handler | None:
    """What was registered for a class. What a class offers itself (`__perdure_restore__`) is code of the class, and
    made for the state in a checkpoint: it has no part in this. Nor has what is known of locks, queues and buffers in
    memory: no policy file has them."""
    entry = known(cls).entry
    return entry if type(entry) is Handler and entry.makes is None else None


@by_class
def _is_made_by_attributes(cls: type) -> bool:
    return not (hasattr(cls, "__del__") or _is_more_than_attributes(cls) or _has_own_setstate(cls))


@by_class
def _is_more_than_attributes(cls: type) -> bool:
    return issubclass(cls, _NEVER) or (is_native(cls) and not issubclass(cls, _IMMUTABLE))


@by_class
def _has_own_setstate(cls: type) -> bool:
    return any("__setstate__" in vars(base) and not _has_rule(base) for base in cls.__mro__)


def _has_rule(base: type) -> bool:
    return dotted(base) in _RULES or dotted(base) in _STATES or _sets_fields(base)


def _sets_fields(cls: type) -> bool:
    """Whether a class sets its state as Python makes a frozen dataclass with slots do it: a list of its fields."""
    return cls.__dict__.get("__setstate__") is _SETS_FIELDS


_SETS_FIELDS: Any = vars(dataclasses)["_dataclass_setstate"]


def register_line(cls: type) -> str:
    """The line that a user needs for a class that sets its own state, or that acts when it is made or is a key."""
    name = cls.__qualname__
    if hasattr(cls, "__setstate__"):
        restore = f"{name}.__setstate__"
    elif slots(cls):
        restore = (
            "lambda obj, state: [setattr(obj, *each) for part in state if part for each in part.items()]"
        )
    else:
        restore = "lambda obj, state: vars(obj).update(state)"
    return f"perdure.register({name}, capture={name}.__getstate__, restore={restore})"


def create_line(cls: type, arguments: str = "__reduce__()[1]") -> str:
    """The line that a user needs for a class whose objects are made with arguments."""
    name = cls.__qualname__
    make = (
        f"{name}(*arguments)" if arguments.startswith("__reduce__") else f"{name}.__new__({name}, *arguments)"
    )
    return (
        f"perdure.register({name}, capture=lambda obj: obj.{arguments}, restore=lambda obj, arguments: None, "
        f"create=lambda arguments: {make})"
    )


def creator(cls: type) -> Callable[[Any], Any] | None:
    """What the user registered to make objects of a class from arguments."""
    handler = handler_of(cls)
    create = None if handler is None else handler.create
    ours = str(getattr(create, "__module__", "")).startswith("perdure.")
    return None if ours or known(cls).structural else create


def make(cls: type, arguments: tuple[Any, ...]) -> Any:
    """An object of a class without attributes; of an immutable one, with its value.

    :raises NotMadeError: if only the class itself could make it.
    """
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        fields: Any = cls._fields
        if len(fields) == len(arguments):
            return tuple.__new__(cls, arguments)
    for base in _IMMUTABLE:
        if issubclass(cls, base) and len(arguments) == 1 and type(arguments[0]) is base:
            create: Any = base.__new__
            return create(cls, arguments[0])
    makes_itself: Any = cls.__new__
    if arguments and makes_itself is not object.__new__:
        create = creator(cls)
        if create is None:
            raise NotMadeError(
                dotted(cls),
                "it is made with arguments for __new__, which loading does not run. If it may get what a file says, "
                f"register it: {create_line(cls, '__getnewargs__()')}",
            )
        made = create(arguments)
        if type(made) is not cls:
            raise NotMadeError(dotted(cls), f"what is registered for it made a {type(made).__name__}")
        return made
    return blank(cls)


@by_class
def attribute_fault(cls: type, name: str) -> str | None:
    """Why a file may not give an object of a class this attribute, or None if it may."""
    if name in slots(cls) or name in _HARMLESS:
        return None
    if unassignable(cls, name, ()) is not None or _is_code(cls, name):
        return (
            f"the file sets its attribute {name!r}, which is a method of the class or a special attribute. If the "
            "policy is yours, give the attribute another name, or save its state dictionary "
            "(PolicyPersistence.Mode.POLICY_STATE_DICT)"
        )
    return None


#: Special attributes that objects have of their own, and that Python does not act upon.
_HARMLESS = ("__name__", "__qualname__", "__doc__", "__module__", "__orig_class__", "__networkx_cache__")


def _is_code(cls: type, name: str) -> bool:
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    binds = hasattr(type(found), "__get__") and not hasattr(type(found), "__set__")
    wraps = isinstance(found, functools.partialmethod | functools.singledispatchmethod)
    return wraps or (binds and callable(found) and not isinstance(found, type))


# -- attributes ----------------------------------------------------------------------------------------------


def set_state(obj: Any, state: Any, charge: Charge, *, made_by_call: bool = False) -> None:
    """Give an object the state that a pickle has for it: its attributes, or what the user registered.

    :param made_by_call: whether a builder made it: then what it holds beyond its attributes is there already.
    :raises NotMadeError: if it may not have one of them.
    :raises TypeError: if it is no state.
    """
    cls: Any = type(obj)
    handler = registered(cls) if not made_by_call or _has_own_setstate(cls) else None
    if handler is not None:
        handler.restore(obj, state)
        return
    put = _state_of(cls)
    if put is not None:
        put(obj, state, charge)
        return
    own = slots(cls)
    for name, value in _attributes(cls, state, charge):
        if type(name) is not str:
            raise TypeError(f"an attribute's name is a {type(name).__name__}")
        if (fault := attribute_fault(cls, name)) is not None:
            raise NotMadeError(dotted(cls), fault)
        if name in own:
            own[name].__set__(obj, value)
        else:
            attributes_of(obj)[sys.intern(name)] = value
    for rule in _rules_of(cls):
        rule(obj, charge)


@by_class
def _rules_of(cls: type) -> list[Rule]:
    bases = (dotted(base) for base in reversed(cls.__mro__) if "__setstate__" in vars(base))
    return [_RULES[name] for name in bases if name in _RULES]


@by_class
def _state_of(cls: type) -> Callable[[Any, Any, Charge], None] | None:
    return next((_STATES[dotted(base)] for base in cls.__mro__ if dotted(base) in _STATES), None)


def _attributes(cls: type, state: Any, charge: Charge) -> Iterator[tuple[Any, Any]]:
    """The attributes in a state: a dictionary, or a pair of them, the second one for slots; or a dataclass's fields."""
    if type(state) is list and any(_sets_fields(base) for base in cls.__mro__):
        names = [field.name for field in dataclasses.fields(cls)]
        yield from zip(names, state, strict=True)
        return
    halves = state if type(state) is tuple and len(state) == 2 else (state,)
    for half in halves:
        if half is None:
            continue
        if type(half) not in (dict, OrderedDict):
            raise TypeError(f"a state of attributes is a {type(half).__name__}")
        charge(ATTRIBUTE_COST * len(half))
        yield from half.items()


def attributes_of(obj: Any) -> dict[str, Any]:
    """The dictionary of an object's attributes itself."""
    found: dict[str, Any] = object.__getattribute__(obj, "__dict__")
    return found


# -- what the classes of torch and Gymnasium do in __setstate__ -----------------------------------------------


def _defaults(**factories: Callable[[], Any]) -> Rule:
    def add(obj: Any, charge: Charge) -> None:
        attributes = attributes_of(obj)
        for name, factory in factories.items():
            if name not in attributes:
                charge(_TABLE_COST)
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
    _unlocked(made, charge)


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


#: Classes whose state is none of attributes.
_STATES: dict[str, Callable[[Any, Any, Charge], None]] = {"torch.utils.hooks.RemovableHandle": _handle}

_LAYERS = "torch.nn.modules"
_RULES: dict[str, Rule] = {
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


# -- whole policies ------------------------------------------------------------------------------------------

_DEEPEST = 200
_VISITS = 1_000
_BYTES_A_VISIT = 20


def check_modules(modules: Iterable[torch.nn.Module], length: int) -> None:
    """See that modules are such as torch makes: their tables hold parameters, tensors and modules, and modules do not
    hold each other in circles, too deep, or so often that going through them takes long.

    :param length: of the pickle, in bytes.
    :raises TypeError: if they are not.
    """
    modules = list(modules)
    checked: set[int] = set()
    for module in modules:
        tables = attributes_of(module)
        for name, kinds in (
            ("_parameters", (torch.nn.Parameter, type(None))),
            ("_buffers", (torch.Tensor, type(None))),
            ("_modules", (torch.nn.Module, type(None))),
        ):
            table = tables.get(name)
            if name in tables and id(table) not in checked:
                _check_table(module, name, table, kinds)
                checked.add(id(table))
        for name, table in tables.items():
            if name.endswith(_HOOKS) and type(table) not in (dict, OrderedDict, type(None)):
                raise TypeError(f"{name} of a {type(module).__name__} is a {type(table).__name__}")
    visits = _Visits(_VISITS + length // _BYTES_A_VISIT, _VISITS + length)
    for module in modules:
        visits.count(module)


def _check_table(module: torch.nn.Module, name: str, table: Any, kinds: Any) -> None:
    if type(table) not in (dict, OrderedDict):
        raise TypeError(f"{name} of a {type(module).__name__} is a {type(table).__name__}")
    for key, value in table.items():
        if type(key) is not str or not issubclass(type(value), kinds):
            raise TypeError(f"{name} of a {type(module).__name__} has a {type(value).__name__}")


def _table(module: torch.nn.Module, name: str) -> dict[str, Any]:
    found: dict[str, Any] = attributes_of(module).get(name, {})
    return found


class _Visits:
    """Counts what one meets who goes through a module and all modules in it, as torch does.

    :param most: how often a module may be met in one such walk.
    :param work: how many entries of tables may be looked at while counting.
    """

    def __init__(self, most: int, work: int) -> None:
        self._most = most
        self._work = work
        self._counted: dict[int, tuple[int, int]] = {}

    def count(self, root: torch.nn.Module) -> None:
        stack, waiting = [root], set()
        while stack:
            module = stack[-1]
            if id(module) in self._counted:
                stack.pop()
                continue
            children = [each for each in _table(module, "_modules").values() if each is not None]
            self._work -= 1 + len(children)
            if self._work < 0:
                raise TypeError("modules hold each other far too often for a file of this size")
            ahead = [each for each in children if id(each) not in self._counted]
            if not ahead:
                stack.pop()
                self._add(module, children)
            elif id(module) in waiting:
                raise TypeError("a module holds itself")
            else:
                waiting.add(id(module))
                stack.extend(ahead)

    def _add(self, module: torch.nn.Module, children: list[torch.nn.Module]) -> None:
        own = 1 + (len(_table(module, "_parameters")) + len(_table(module, "_buffers"))) // 4
        below = [self._counted[id(each)] for each in children]
        count = own + sum(visits for visits, _ in below)
        depth = 1 + max((depth for _, depth in below), default=0)
        if count > self._most or depth > _DEEPEST:
            raise TypeError("modules hold each other too deep, or far too often for a file of this size")
        self._counted[id(module)] = count, depth


_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")


def drop_hooks(obj: torch.nn.Module | torch.optim.Optimizer) -> None:
    """Take away the hooks that a file brings along, so that no method of the object runs one."""
    attributes = attributes_of(obj)
    for name in attributes:
        if name.endswith(_HOOKS):
            attributes[name] = OrderedDict()


def to_evaluation(root: torch.nn.Module) -> None:
    """Set evaluation mode on a module and all modules in it, as `eval()` does; no overridden `train` runs."""
    stack, seen = [root], {id(root)}
    while stack:
        module = stack.pop()
        attributes_of(module)["training"] = False
        for child in _table(module, "_modules").values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                stack.append(child)
