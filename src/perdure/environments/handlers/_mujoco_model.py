"""The model of a MuJoCo simulation as a few flat arrays, and how its arrays are read and written. See `mujoco`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import xxhash

Names = tuple[str, ...]
_Result = TypeVar("_Result")

#: Arrays with more bytes are captured one by one: textures and meshes are not copied at each checkpoint.
_LARGE = 1 << 16
#: Arrays of integers that hold content and no addresses, of any size.
_CONTENT = ("tex_data", "hfield_data")
#: Integers of a model that may change during training, and the values that they may have.
_SETTINGS: Mapping[str, Callable[[Any], range | tuple[int, ...]]] = {
    "geom_condim": lambda model: (1, 3, 4, 6),
    "geom_matid": lambda model: range(-1, model.nmat),
    "site_matid": lambda model: range(-1, model.nmat),
    "mat_texid": lambda model: range(-1, model.ntex),
    **{
        name: lambda model: range(-(1 << 31), 1 << 31)
        for name in (
            *("geom_contype", "geom_conaffinity", "geom_priority", "geom_group", "site_group", "jnt_group"),
            *("body_contype", "body_conaffinity", "flex_contype", "flex_conaffinity", "flex_group"),
            *("tendon_group", "actuator_group", "skin_group"),
        )
    },
}
#: Integers of the options, and the largest value of each; those that select code have few values.
_OPTIONS = {
    "disableactuator": (1 << 31) - 1,
    "disableflags": (1 << 31) - 1,
    "enableflags": (1 << 31) - 1,
    "iterations": 100_000,
    "ls_iterations": 100_000,
    "noslip_iterations": 100_000,
    "ccd_iterations": 100_000,
    "sdf_iterations": 1_000,
    "sdf_initpoints": 10_000,
    "integrator": 3,
    "cone": 1,
    "jacobian": 2,
    "solver": 2,
}


def layout(parts: Mapping[str, Any]) -> str:
    """A hash of the names, types and shapes of arrays, which differs from that of another model."""
    text = ";".join(f"{name} {array.dtype} {array.shape}" for name, array in parts.items())
    return xxhash.xxh3_64_hexdigest(text.encode())


def joined(arrays: Any, dtype: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([np.empty(0, dtype), *(array.reshape(-1) for array in arrays)])


def spread(flat: np.ndarray[Any, Any], arrays: Any) -> None:
    """Write joined numbers back into the arrays they came from."""
    position = 0
    for array in arrays:
        array[...] = flat[position : position + array.size].reshape(array.shape)
        position += array.size


def expect(flat: Any, dtype: Any, size: int, what: str) -> np.ndarray[Any, Any]:
    if not (isinstance(flat, np.ndarray) and flat.dtype == dtype and flat.shape == (size,)):
        found = f"{flat.dtype} of shape {flat.shape}" if isinstance(flat, np.ndarray) else type(flat).__name__
        raise ValueError(
            f"expected {what}: {size} numbers of type {np.dtype(dtype)}, found {found}. Was the checkpoint "
            "written with another model or another version of MuJoCo?"
        )
    return flat


class _Parts:
    """Which attributes of a model hold which kind of numbers; equal for all models of the same sizes."""

    def __init__(self, model: Any) -> None:
        names = [name for name in dir(type(model)) if not name.startswith("_")]
        arrays = {name: value for name in names if isinstance(value := getattr(model, name), np.ndarray)}
        arrays = {name: value for name, value in arrays.items() if value.size}
        self.layout = layout(arrays)
        kinds: dict[str, list[str]] = {"double": [], "single": [], "switch": [], "setting": [], "address": []}
        self.large: list[str] = []
        for name, value in arrays.items():
            kind = {np.dtype(np.float64): "double", np.dtype(np.float32): "single", np.dtype(bool): "switch"}
            what = kind.get(value.dtype, "setting" if name in _SETTINGS else "address")
            if name in _CONTENT or (value.nbytes > _LARGE and what in ("double", "single")):
                self.large.append(name)
            else:
                kinds[what].append(name)
        self.names: dict[str, Names] = {kind: tuple(found) for kind, found in kinds.items()}
        self._getters = {kind: getter(found) for kind, found in self.names.items()}

    def arrays(self, model: Any, kind: str) -> tuple[np.ndarray[Any, Any], ...]:
        """The arrays of one kind."""
        return self._getters[kind](model)


def getter(names: Names) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda thing: ()
    if len(names) == 1:
        return lambda thing: (getattr(thing, names[0]),)
    return operator.attrgetter(*names)


#: By the model's sizes, which determine its arrays.
_known_parts: dict[tuple[int, ...], _Parts] = {}
_MOST_KNOWN = 256


def remembered(
    known: dict[tuple[int, ...], _Result], sizes: tuple[int, ...], find: Callable[[], _Result]
) -> _Result:
    """The result for a model of these sizes. The oldest is forgotten when a task compiles ever new models."""
    if sizes not in known:
        if len(known) == _MOST_KNOWN:
            del known[next(iter(known))]
        known[sizes] = find()
    return known[sizes]


@functools.cache
def _size_names() -> Names:
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    names = [name for name in dir(type(model)) if name.startswith("n") or name == "signature"]
    return tuple(name for name in names if type(getattr(model, name)) is int)


def sizes(model: Any) -> tuple[int, ...]:
    found: tuple[int, ...] = getter(_size_names())(model)
    return found


def _parts(model: Any) -> _Parts:
    return remembered(_known_parts, sizes(model), lambda: _Parts(model))


_DTYPES: Mapping[str, Any] = {"double": np.float64, "single": np.float32, "switch": bool, "setting": np.int32}


@functools.cache
def _settings() -> tuple[Names, Names]:
    """What the options, statistics and visual settings of a model hold that is in none of its arrays.

    :returns: the paths of numbers and arrays of numbers, and the paths of choices.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    numbers, choices = [], []
    holders = [("opt", model.opt), ("stat", model.stat), ("vis", model.vis)]
    while holders:
        path, holder = holders.pop(0)
        for name in dir(type(holder)):
            value = None if name.startswith("_") else getattr(holder, name)
            if isinstance(value, np.ndarray | float):
                numbers.append(f"{path}.{name}")
            elif type(value) is int and path == "opt" and name in _OPTIONS:
                choices.append(f"{path}.{name}")
            elif type(value).__module__ == type(holder).__module__ and not callable(value):
                holders.append((f"{path}.{name}", value))
    return tuple(numbers), tuple(choices)


def model_fields(model: Any) -> dict[str, Any]:
    """A model's numbers under a few names.

    The names depend on the structure of the model, so that the numbers of a different model are found not to fit before
    anything is changed.
    """
    parts = _parts(model)
    structure = xxhash.xxh3_64(parts.layout.encode())
    for array in parts.arrays(model, "address"):
        structure.update(array.data)
    made_of = structure.hexdigest()
    fields: dict[str, Any] = {}
    for kind, dtype in _DTYPES.items():
        arrays = parts.arrays(model, kind)
        if arrays:
            fields[f"{kind} numbers of model {made_of}"] = joined(arrays, dtype)
    fields["options"] = _options(model)
    fields["choices"] = np.array(getter(_settings()[1])(model), np.int64)
    for name in parts.large:
        fields[name] = getattr(model, name)
    return fields


def model_assign(model: Any, name: str, value: Any) -> None:
    """Set one of the fields that `model_fields` returned.

    :raises ValueError: if this model cannot have that value.
    """
    parts = _parts(model)
    kind = name.partition(" ")[0]
    if name == "choices":
        _assign_choices(model, value)
    elif name == "options":
        _assign_options(model, value)
    elif kind in _DTYPES:
        arrays = parts.arrays(model, kind)
        expect(value, _DTYPES[kind], sum(array.size for array in arrays), f"the model's {kind} numbers")
        if kind == "setting":
            _check_settings(model, value, parts)
        spread(value, arrays)
    elif name in parts.large:
        live = getattr(model, name)
        if value is not live:
            expect(np.reshape(value, -1), live.dtype, live.size, f"the model's {name}")
            live[...] = np.reshape(value, live.shape)


def _check_settings(model: Any, flat: np.ndarray[Any, Any], parts: _Parts) -> None:
    position = 0
    for name in parts.names["setting"]:
        size = getattr(model, name).size
        allowed = _SETTINGS[name](model)
        part = flat[position : position + size]
        position += size
        found = next((number for number in set(part.tolist()) if number not in allowed), None)
        if found is not None:
            raise ValueError(f"expected one of {allowed} as {name}, found {found}")


def _assign_options(model: Any, value: Any) -> None:
    paths = _settings()[0]
    held = getter(paths)(model)
    expect(value, np.float64, sum(np.size(old) for old in held), "the model's options")
    position = 0
    for path, old in zip(paths, held, strict=True):
        new = value[position : position + np.size(old)]
        position += np.size(old)
        if isinstance(old, np.ndarray):
            old[...] = new.reshape(old.shape)
        elif float(new[0]) != old:
            _put(model, path, float(new[0]))


def _assign_choices(model: Any, value: Any) -> None:
    paths = _settings()[1]
    expect(value, np.int64, len(paths), "the model's choices")
    for path, old, new in zip(paths, getter(paths)(model), value.tolist(), strict=True):
        most = _OPTIONS[path.removeprefix("opt.")]
        if not 0 <= new <= most:
            raise ValueError(f"expected a number from 0 to {most} as {path}, found {new}")
        if new != old:
            _put(model, path, new)


@functools.cache
def _readers() -> tuple[list[tuple[Callable[[Any], Any], list[tuple[Callable[[Any], Any], Any]]]], int]:
    """How to read all options fast: each holder is fetched once, and all its single numbers with one call.

    :returns: for each holder how to fetch it, and how to read its parts, each with its positions among all options;
        and the number of options.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    paths = _settings()[0]
    grouped: dict[str, tuple[dict[str, int], list[tuple[Callable[[Any], Any], Any]]]] = {}
    position = 0
    for path, value in zip(paths, getter(paths)(model), strict=True):
        holder, _, name = path.rpartition(".")
        single, arrays = grouped.setdefault(holder, ({}, []))
        if isinstance(value, np.ndarray):
            arrays.append((operator.attrgetter(name), slice(position, position + value.size)))
        else:
            single[name] = position
        position += np.size(value)
    readers: list[tuple[Callable[[Any], Any], list[tuple[Callable[[Any], Any], Any]]]] = []
    for holder, (single, arrays) in grouped.items():
        if single:
            arrays.append((operator.attrgetter(*single), list(single.values())))
        readers.append((operator.attrgetter(holder), arrays))
    return readers, position


def _options(model: Any) -> np.ndarray[Any, Any]:
    readers, size = _readers()
    found = np.empty(size, np.float64)
    for reach, parts in readers:
        holder = reach(model)
        for getter, places in parts:
            found[places] = getter(holder)
    return found


def _put(model: Any, path: str, value: Any) -> None:
    holder, _, name = path.rpartition(".")
    setattr(operator.attrgetter(holder)(model), name, value)
