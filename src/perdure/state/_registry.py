"""Rules for classes: how their objects are captured, or why they are not. Knows no files.

Rules are looked up along the MRO, the nearest class first, by the class itself or by its dotted name. With dotted
names, rules for a library need not import it.
"""

from __future__ import annotations

import collections
import copyreg
import importlib
import inspect
import re
import types
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from perdure import arguments
from perdure.state._class_names import base_names, dotted_name, in_code, module_of


@dataclass(frozen=True)
class Handler:
    """How objects of a class that cannot be walked are captured and restored.

    :param capture: from the object to plain values, containers of them, arrays and tensors.
    :param restore: writes what `capture` returned into an object that is there.
    :param create: makes an object from what `capture` returned, where none is there; None if that cannot be
        done.
    :param form: what two objects must have in common for the state of one to be written into the other, as text;
        `capture` returns a dict that has it as "form". Where it differs, an object is created.
    :param first: restore before anything else is written, not after it.
    :param makes: the class whose objects `create` makes; it is not used for other classes. By default it makes any.
    :param immutable: whether objects cannot be changed; then another one is always created.
    :param verified: whether an object that was restored is captured again, to see that `restore` put all of it back.
    :param own: the attributes that the class itself sets, which `capture` deals with. If it is given, objects are
        captured with their other attributes too; no checkpoint makes one of a subclass.
    :param shares: whether `capture` returns objects that the object itself goes on using; those of the live object are
        then restored in place.
    """

    capture: Callable[[Any], Any]
    restore: Callable[[Any, Any], None]
    create: Callable[[Any], Any] | None = None
    form: Callable[[Any], str] | None = None
    first: bool = False
    makes: type | None = None
    immutable: bool = False
    verified: bool = False
    own: frozenset[str] | None = None
    shares: bool = False


@dataclass(frozen=True)
class Maker:
    """How an object is made whose fields an adapter names: a copy of a network, say, that was made while running.

    :param blank: makes an object of a class without calling its constructor; no code of the class runs.
    :param why_not: why no object can be made from some saved fields (as nodes), or None if one can; it is given a
        function that finds the class of a recorded name.
    :param provides: fields that are left out of every checkpoint, and that an object gets from its other fields.
    """

    blank: Callable[[type], Any]
    why_not: Callable[[Mapping[str, Any], Callable[[str], type | None]], str | None]
    provides: Container[str] = frozenset()


@dataclass(frozen=True)
class Adapter:
    """How objects whose state is not simply their attributes are walked: by named fields.

    Such objects are part of the program: the script builds them. A checkpoint makes one only if there is a `maker`.

    :param fields: the fields of an object, by name.
    :param assign: sets one of them.
    :param made: the fields whose containers `fields` makes anew at each call; they are assigned even after they were
        filled in place.
    :param check: says which saved fields (as nodes) cannot be assigned, as pairs of a path below the object and a
        detail; for what `fields` does not show. It changes nothing.
    :param covers: the field that replaces whatever cannot be captured below the object, unless it is None.
    :param maker: makes an object that the script has not built; None if only the script can.
    :param optional: fields that some objects of a class have and others have not; where a saved object lacks one, it is
        taken away from the live object.
    :param arrange: prepares an object for saved fields (their names, in order) that are not those it has, or in another
        order, and returns whether all of them have to be assigned. It keeps what the object has.
    :param remove: takes a field away; by default from the object's attributes.
    :param finish: called when all fields are assigned.
    :param becomes: the class that objects of a class turn into by and by, if they do.
    :param missing: makes what an object will need for a field that it has not got yet, like the node that is to be
        restored there and without its content, or None. The object itself it leaves as it is.
    """

    fields: Callable[[Any], Mapping[str, Any]]
    assign: Callable[[Any, str, Any], None]
    made: Container[str] = frozenset()
    check: Callable[[Any, Mapping[str, Any]], list[tuple[str, str]]] | None = None
    covers: str | None = None
    missing: Callable[[Any, str, Any], Any] | None = None
    maker: Maker | None = None
    optional: Container[str] = frozenset()
    arrange: Callable[[Any, list[str]], bool] | None = None
    remove: Callable[[Any, str], None] | None = None
    finish: Callable[[Any], None] | None = None
    becomes: Callable[[type], type | None] = lambda cls: None


@dataclass(frozen=True)
class Reference:
    """A rule: objects are definitions, and recorded by name."""


@dataclass(frozen=True)
class Compound:
    """How objects that cannot be changed are captured: by their named parts. To change one, another is made.

    :param parts: the parts of an object, by name. A part may be a node already.
    :param make: makes an object of a class from its parts, and from what the script has in its place (or nothing);
        None if none is made.
    :param check: says why no object can be made of these parts (as nodes), or None.
    :param callable: whether they are called like functions, so that they may take the place of one.
    :param in_place: whether one is only put where the script has one.
    """

    parts: Callable[[Any], Mapping[str, Any]]
    make: Callable[[Any, Mapping[str, Any], Any], Any] | None = None
    check: Callable[[Mapping[str, Any]], str | None] = lambda parts: None
    callable: bool = False
    in_place: bool = False


@dataclass(frozen=True)
class Skip:
    """A rule: objects are left out, and why."""

    reason: str


@dataclass(frozen=True)
class Refuse:
    """A rule: objects cannot be captured, and what to do about it."""

    reason: str


Entry = Handler | Adapter | Reference | Compound | Skip | Refuse


@dataclass
class _Class:
    entry: Entry | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, Callable[[], Any]] = field(default_factory=dict)
    structural: bool = False
    rebuild: bool | None = None
    tensor: bool = False


_classes: dict[type | str, _Class] = {}
_cache: dict[type, _Class] = {}

#: Classes of Python's own whose objects may be made, by their recorded names, which need not be where they are defined.
made_by_name: dict[str, type] = {}

OPAQUE_BEGINS = "its state lies in native code where Python cannot see it"
OPAQUE = (
    f"{OPAQUE_BEGINS}. Register how to take it: "
    "perdure.register({name}, capture=..., restore=...), or, if its objects never change, perdure.register({name}, "
    "capture=..., create=...), or leave it out: perdure.skip({name}, 'reason')"
)
#: What else can be done about something in an environment.
REPLAY = "An environment of this kind can be played again: perdure.environments.EpisodeReplay(env)"
#: Asked for a rule when none is registered for a class.
finders: list[Callable[[type], Entry | None]] = []
#: Asked for what a class offers itself, in its own body or in that of one of its bases (the second argument). The
#: nearest class of the two kinds decides, and a registered rule wins over what the same class offers.
offered: list[Callable[[type, type], Entry | None]] = []
#: Called whenever a rule is registered, because others cache what they know about classes.
on_change: list[Callable[[], None]] = []


_DOTTED = re.compile(r"\w+(\.\w+)+")


def _check_class(cls: Any) -> None:
    if not isinstance(cls, type) and not (isinstance(cls, str) and _DOTTED.fullmatch(cls)):
        raise TypeError(f'expected a class, or its dotted name "package.module.Class", found {cls!r:.80}')


def _slot(cls: type | str) -> _Class:
    _check_class(cls)
    _cache.clear()
    for forget in on_change:
        forget()
    return _classes.setdefault(cls, _Class())


def register(
    cls: type | str,
    *,
    capture: Callable[[Any], Any],
    restore: Callable[[Any, Any], None] | None = None,
    create: Callable[[Any], Any] | None = None,
) -> None:
    """Say how objects of a class (and its subclasses) are captured and restored.

    Needed for objects whose state lies where Python cannot see it, in a native library for example.

        perdure.register(Simulator, capture=Simulator.save, restore=Simulator.load)
        perdure.register(Quaternion, capture=tuple, create=lambda numbers: Quaternion(*numbers))

    :param cls: the class, or its dotted name ("package.module.Class") so that it need not be imported.
    :param capture: `capture(obj)` returns the state as plain values, containers of them, arrays and tensors.
    :param restore: `restore(obj, state)` writes such a state into an object. Leave it out for values that never change:
        then `create` makes another one, also where the script has one.
    :param create: `create(state)` makes an object where the script has not built one; without it such an
        object is an error on restoring.
    :raises TypeError: if there is neither `restore` nor `create`.
    """
    _check_class(cls)
    arguments.function(capture, "capture", "lambda obj: obj.state()")
    if restore is not None:
        arguments.function(restore, "restore", "lambda obj, state: obj.set_state(state)")
    if create is not None:
        arguments.function(create, "create", "lambda state: Thing()")
    if restore is None and create is None:
        name = cls if isinstance(cls, str) else cls.__qualname__
        raise TypeError(
            f"perdure.register({name}): expected restore=..., which writes a state into an object, or create=..., "
            "which makes one; found neither"
        )
    immutable = restore is None
    handler = Handler(capture, restore or not_in_place, create, immutable=immutable, verified=not immutable)
    register_handler(cls, handler)


def not_in_place(obj: Any, state: Any) -> None:
    """In the place of `restore` for objects that never change."""
    raise TypeError("an immutable value is not restored in place")


def register_handler(cls: type | str, handler: Handler) -> None:
    """Register the handler for objects of a class."""
    _slot(cls).entry = handler


def register_first(
    cls: type | str, *, capture: Callable[[Any], Any], restore: Callable[[Any, Any], None]
) -> None:
    """Like `register`, for objects that act while they are restored.

    They are restored first, because they may change arrays that the world holds too: an environment that steps writes
    into the observation that it returned before.
    """
    _slot(cls).entry = Handler(capture, restore, first=True)


def register_adapter(cls: type | str, adapter: Adapter, *, part_of_program: bool = True) -> None:
    """Register the adapter for objects of a class.

    :param part_of_program: whether only the script builds such objects, unless the adapter has a maker; then a live one
        is never replaced by a plain value.
    """
    slot = _slot(cls)
    slot.entry, slot.structural = adapter, part_of_program


def by_reference(cls: type | str) -> None:
    """Record objects of a class by name."""
    _slot(cls).entry = Reference()


def register_compound(cls: type | str, compound: Compound) -> None:
    """Register how immutable objects of a class are taken apart."""
    _slot(cls).entry = compound


def skip(cls: type | str, reason: str) -> None:
    """Leave objects of a class out of every checkpoint; the report lists them with `reason`."""
    _slot(cls).entry = Skip(reason)


def refuse(cls: type | str, reason: str) -> None:
    """Make capturing an object of a class an error that says `reason`, a remedy included."""
    _slot(cls).entry = Refuse(reason)


def leave_out(
    cls: type | str, attributes: Iterable[str], reason: str, *, fresh: Callable[[], Any] | None = None
) -> None:
    """Leave attributes of a class's objects out of every checkpoint.

    :param fresh: what an object has in their place that is made when a run is resumed. Without it, such an object is
        not made, unless the class has the attributes, as a cached property or a first value.
    """
    attributes = list(attributes)
    _slot(cls).left_out.update(dict.fromkeys(attributes, reason))
    if fresh is not None:
        _slot(cls).fresh.update(dict.fromkeys(attributes, fresh))


def structural(cls: type | str) -> None:
    """Say that a class's objects are part of the program: the script builds them, a checkpoint never does."""
    _slot(cls).structural = True


def rebuildable(cls: type | str) -> None:
    """Say that an object of a class may be made from its attributes alone, without calling its constructor."""
    _slot(cls).rebuild = True


def tensor_like(cls: type | str) -> None:
    """Say that a subclass of `torch.Tensor` has no state but its elements."""
    _slot(cls).tensor = True


_HANDLERS = "perdure.environments.handlers"
#: For environments of any library: each derives from a class of one of the packages that have these.
_ANY_ENVIRONMENT = (f"{_HANDLERS}.get_set_state", f"{_HANDLERS}.native_handles")
#: The modules that register the rules for a package's classes; imported when one of these classes is first met.
_RULES = {
    **dict.fromkeys(("torchrl", "tensordict"), ("perdure.integrations.torchrl",)),
    **dict.fromkeys(("stable_baselines3", "tianshou"), ("perdure.environments.subprocess",)),
    **dict.fromkeys(("dm_env", "gym"), _ANY_ENVIRONMENT),
    "gymnasium": (*_ANY_ENVIRONMENT, f"{_HANDLERS}.gymnasium", "perdure.environments.subprocess"),
    "pettingzoo": (*_ANY_ENVIRONMENT, f"{_HANDLERS}.screens"),
    **dict.fromkeys(("highway_env", "minigrid", "mpe2"), (f"{_HANDLERS}.screens",)),
    **dict.fromkeys(("dm_control", "mujoco"), (f"{_HANDLERS}.mujoco",)),
    **dict.fromkeys(("pybullet_envs", "pybullet_utils"), (f"{_HANDLERS}.native_handles",)),
    "ale_py": (f"{_HANDLERS}.atari",),
    "nle": (f"{_HANDLERS}.nethack",),
    "pandas": ("perdure.state._pandas_rules",),
    "pygame": (f"{_HANDLERS}.pygame",),
}


def _import_rules(package: str) -> None:
    for module in _RULES.pop(package, ()):
        importlib.import_module(module)


def known(cls: type) -> _Class:
    """All rules for a class, including those of its bases."""
    found = _cache.get(cls)
    if found is None:
        for base in cls.__mro__:
            _import_rules(module_of(base).partition(".")[0])
        found = _Class()
        for base in cls.__mro__:
            for key in (base, dotted_name(base)):
                about = _classes.get(key)
                if about is None:
                    continue
                if found.entry is None and about.entry is not None:
                    found.entry = _with_attributes(about.entry, cls, base)
                found.left_out = {**about.left_out, **found.left_out}
                found.fresh = {**about.fresh, **found.fresh}
                found.structural = found.structural or about.structural
                found.rebuild = about.rebuild if found.rebuild is None else found.rebuild
                found.tensor = found.tensor or about.tensor
            if found.entry is None:
                found.entry = next(
                    (entry for find in offered if (entry := find(cls, base)) is not None), None
                )
        if found.entry is None:
            found.entry = next((entry for find in finders if (entry := find(cls)) is not None), None)
        if found.entry is None and is_native(cls):
            found.entry = Refuse(OPAQUE.format(name=in_code(cls)))
        _cache[cls] = found
    return found


def _with_attributes(entry: Entry, cls: type, base: type) -> Entry:
    """The rule for objects of a class, where a base of it (or itself) has this rule: with the attributes that the base
    does not set itself."""
    if not isinstance(entry, Handler) or entry.own is None or not (cls.__dictoffset__ or cls is not base):
        return entry
    own, make = entry.own, entry.create

    def capture(obj: Any) -> Any:
        attributes = object.__getattribute__(obj, "__dict__") if type(obj).__dictoffset__ else {}
        more = {
            name: each
            for name, each in attributes.items()
            if name not in own and type(name) is str and _is_data(type(obj), name)
        }
        more |= {name: slot.__get__(obj) for name, slot in slots(type(obj)).items() if hasattr(obj, name)}
        state = entry.capture(obj)
        if not more:
            return state
        form = {"form": entry.form(obj)} if entry.form else {}
        return {**form, "state": state, "attributes": more}

    def parted(saved: Any) -> tuple[Any, dict[str, Any]]:
        if type(saved) is dict and saved.keys() - {"form"} == {"state", "attributes"}:
            return saved["state"], saved["attributes"]
        return saved, {}

    def restore(obj: Any, saved: Any) -> None:
        state, more = parted(saved)
        entry.restore(obj, state)
        assign(obj, more)

    def create(saved: Any) -> Any:
        state, more = parted(saved)
        assert make is not None
        obj = make(state)
        assign(obj, more)
        return obj

    def assign(obj: Any, more: dict[str, Any]) -> None:
        for name, each in more.items():
            if name in slots(type(obj)):
                slots(type(obj))[name].__set__(obj, each)
            elif _is_data(type(obj), name):
                object.__getattribute__(obj, "__dict__")[name] = each
            else:
                raise ValueError(f"{name!r:.80} is no attribute that a {type(obj).__qualname__} may get")

    # What a walk knows of the function that captures depends on where that is defined.
    capture.__module__ = str(getattr(entry.capture, "__module__", None))
    can_create = make is not None and cls is base
    return replace(entry, capture=capture, restore=restore, create=create if can_create else None)


def _is_data(cls: type, name: str) -> bool:
    """Whether an attribute of an object has no meaning for Python, and hides no code of its class."""
    found = (vars(base)[name] for base in cls.__mro__ if name in vars(base))
    return not (name.startswith("__") and name.endswith("__")) and not any(map(callable, found))


def is_part_of_program(value: Any) -> bool:
    """Whether only the script builds a live object: it is never made, and never replaced by a plain value."""
    about = known(type(value))
    if isinstance(value, UninitializedParameter | UninitializedBuffer):
        return False  # it is there to be replaced
    return about.structural or isinstance(about.entry, Skip) or isinstance(value, torch.nn.Parameter)


def cannot_make(cls: type) -> str | None:
    """Why no object of this class may be made without its constructor, or None if one may.

    Not if its constructor does something for the process (parts of the program, native state), and not if it has a
    finalizer, which would act on attributes that come from a file.
    """
    about = known(cls)
    if about.rebuild:
        return None
    has_maker = isinstance(about.entry, Adapter) and about.entry.maker is not None
    if about.rebuild is False or (about.structural and not has_maker):
        return "only the script can build it"
    if about.entry is not None and not has_maker:
        return "it is not captured by its attributes"
    if cls is object:
        return "it means nothing but itself"
    return {"finalizer": "its class has a finalizer", "abstract": "its class is abstract"}.get(hindrance(cls))


def hindrance(cls: type) -> Literal["finalizer", "abstract", "native", ""]:
    """What keeps an object of a class from being made blank and given the attributes that a file says: a finalizer,
    which would act on them, abstract methods, or memory that is no attribute; nothing if it may be made.

    The one rule for checkpoints and policy files; each says it in its own words.
    """
    if hasattr(cls, "__del__"):
        return "finalizer"
    if inspect.isabstract(cls):
        return "abstract"
    return "native" if is_native(cls) else ""


def is_left_out(cls: type) -> bool:
    """Whether objects of a class are left out of every checkpoint."""
    return isinstance(known(cls).entry, Skip)


def is_by_attributes(cls: type) -> bool:
    """Whether objects of a class are captured by their attributes, and no rule says otherwise."""
    return known(cls).entry is None


def makeable() -> list[type]:
    """The classes that were registered by themselves, not by name, as such that objects of them may be made."""
    rules = ((cls, rule) for cls, rule in _classes.items() if isinstance(cls, type))
    return [cls for cls, rule in rules if rule.rebuild or getattr(rule.entry, "create", None) is not None]


def blank(cls: type) -> Any:
    """An object of a class, made without its constructor; no code of the class runs."""
    # As in `copyreg`, the nearest base that is not a heap type makes the object.
    base = next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)
    make: Any = base.__new__
    return make(cls)


_HEAP_TYPE = 1 << 9
_MANAGED_DICT = 1 << 4
_CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
_slots: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()


def slots(cls: type) -> dict[str, Any]:
    """The descriptors of all `__slots__` of a class and its bases, by name, mangled where they are private."""
    found = _slots.get(cls)
    if found is None:
        found = {}
        for name in copyreg._slotnames(cls):  # type: ignore[attr-defined]
            owners = (vars(base)[name] for base in cls.__mro__ if name in vars(base))
            descriptor = next((each for each in owners if isinstance(each, types.MemberDescriptorType)), None)
            if descriptor is not None:
                found[name] = descriptor
        _slots[cls] = found
    return found


_SPACE = "gymnasium.spaces.space.Space"
_shared_spaces: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()


def shared_spaces(cls: type) -> dict[str, Any]:
    """The spaces that a class keeps for all its objects, by name (`action_space = Discrete(3)` in the class's body).

    They have random generators, so they belong to the state of an environment.
    """
    found = _shared_spaces.get(cls)
    if found is None:
        defined = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
        found = _shared_spaces[cls] = {
            name: value for name, value in defined.items() if _SPACE in base_names(type(value))
        }
    return found


def is_native(cls: type) -> bool:
    """Whether instances hold memory beyond their attributes, as CPython finds out before it pickles by
    attributes."""
    if issubclass(cls, _CONTAINERS):
        return False
    size = object.__basicsize__
    if cls.__dictoffset__ != 0 and not cls.__flags__ & _MANAGED_DICT:
        size += 8
    if cls.__weakrefoffset__ > 0:
        size += 8
    heap = (base for base in cls.__mro__ if base.__flags__ & _HEAP_TYPE)
    members = (member for base in heap for member in vars(base).values())
    size += 8 * sum(isinstance(member, types.MemberDescriptorType) for member in members)
    return cls.__basicsize__ > size or cls.__itemsize__ != 0


#: The base classes of environments, and those of wrappers.
ENVIRONMENTS = frozenset(
    (
        "gymnasium.core.Env",
        "gym.core.Env",
        "pettingzoo.utils.env.AECEnv",
        "pettingzoo.utils.env.ParallelEnv",
        "dm_env._environment.Environment",
    )
)
_WRAPPERS = frozenset(
    (
        "gymnasium.core.Wrapper",
        "gym.core.Wrapper",
        "pettingzoo.utils.wrappers.base.BaseWrapper",
        "pettingzoo.utils.wrappers.base_parallel.BaseParallelWrapper",
        "pettingzoo.utils.conversions.aec_to_parallel_wrapper",
        "pettingzoo.utils.conversions.turn_based_aec_to_parallel_wrapper",
        "pettingzoo.utils.conversions.parallel_to_aec_wrapper",
    )
)


def is_environment(cls: type) -> bool:
    """Whether objects of a class are environments, and not wrappers around one."""
    own, *names = base_names(cls)
    return not ENVIRONMENTS.isdisjoint(names) and _WRAPPERS.isdisjoint((own, *names))
