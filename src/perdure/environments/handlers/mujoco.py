"""MuJoCo: captures a simulation as a few flat arrays, exactly in mid-episode. Knows no environment and no files.

Three things are needed for a simulation to continue exactly, as measurements have shown:

- the state that MuJoCo integrates, including the solver's warm start;
- the quantities derived from it. After `mj_step` they are one step behind, and environments (Ant, Humanoid) read them
  before the next step, so computing them anew would change them;
- the model's numbers, which tasks and users change during training (the target of dm_control's manipulator is there).

What lies in MuJoCo's arena (contacts, constraints) has another size at every moment and is computed anew.

Numbers from a file are written into native memory only if the live arrays have the same shape, and nothing that MuJoCo
uses as an address is ever written.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import xxhash

from perdure.environments.handlers import _camera
from perdure.state import Adapter, Handler, leave_out, register, register_adapter, register_handler, skip

_Names = tuple[str, ...]
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


def _layout(parts: Mapping[str, Any]) -> str:
    """A hash of the names, types and shapes of arrays, which differs from that of another model."""
    text = ";".join(f"{name} {array.dtype} {array.shape}" for name, array in parts.items())
    return xxhash.xxh3_64_hexdigest(text.encode())


def _joined(arrays: Any, dtype: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([np.empty(0, dtype), *(array.reshape(-1) for array in arrays)])


def _spread(flat: np.ndarray[Any, Any], arrays: Any) -> None:
    """Write joined numbers back into the arrays they came from."""
    position = 0
    for array in arrays:
        array[...] = flat[position : position + array.size].reshape(array.shape)
        position += array.size


def _expect(flat: Any, dtype: Any, size: int, what: str) -> np.ndarray[Any, Any]:
    if not (isinstance(flat, np.ndarray) and flat.dtype == dtype and flat.shape == (size,)):
        found = f"{flat.dtype} of shape {flat.shape}" if isinstance(flat, np.ndarray) else type(flat).__name__
        raise ValueError(
            f"expected {what}: {size} numbers of type {np.dtype(dtype)}, found {found}. Was the checkpoint "
            "written with another model or another version of MuJoCo?"
        )
    return flat


# -- the model -----------------------------------------------------------------------------------------------


class _Parts:
    """Which attributes of a model hold which kind of numbers; equal for all models of the same sizes."""

    def __init__(self, model: Any) -> None:
        names = [name for name in dir(type(model)) if not name.startswith("_")]
        arrays = {name: value for name in names if isinstance(value := getattr(model, name), np.ndarray)}
        arrays = {name: value for name, value in arrays.items() if value.size}
        self.layout = _layout(arrays)
        kinds: dict[str, list[str]] = {"double": [], "single": [], "switch": [], "setting": [], "address": []}
        self.large: list[str] = []
        for name, value in arrays.items():
            kind = {np.dtype(np.float64): "double", np.dtype(np.float32): "single", np.dtype(bool): "switch"}
            what = kind.get(value.dtype, "setting" if name in _SETTINGS else "address")
            if name in _CONTENT or (value.nbytes > _LARGE and what in ("double", "single")):
                self.large.append(name)
            else:
                kinds[what].append(name)
        self.names: dict[str, _Names] = {kind: tuple(found) for kind, found in kinds.items()}
        self._getters = {kind: _getter(found) for kind, found in self.names.items()}

    def arrays(self, model: Any, kind: str) -> tuple[np.ndarray[Any, Any], ...]:
        """The arrays of one kind."""
        return self._getters[kind](model)


def _getter(names: _Names) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda thing: ()
    if len(names) == 1:
        return lambda thing: (getattr(thing, names[0]),)
    return operator.attrgetter(*names)


#: By the model's sizes, which determine its arrays.
_known_parts: dict[tuple[int, ...], _Parts] = {}
_MOST_KNOWN = 256


def _remembered(
    known: dict[tuple[int, ...], _Result], sizes: tuple[int, ...], find: Callable[[], _Result]
) -> _Result:
    """The result for a model of these sizes. The oldest is forgotten when a task compiles ever new models."""
    if sizes not in known:
        if len(known) == _MOST_KNOWN:
            del known[next(iter(known))]
        known[sizes] = find()
    return known[sizes]


@functools.cache
def _size_names() -> _Names:
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    names = [name for name in dir(type(model)) if name.startswith("n") or name == "signature"]
    return tuple(name for name in names if type(getattr(model, name)) is int)


def _sizes(model: Any) -> tuple[int, ...]:
    found: tuple[int, ...] = _getter(_size_names())(model)
    return found


def _parts(model: Any) -> _Parts:
    return _remembered(_known_parts, _sizes(model), lambda: _Parts(model))


_DTYPES: Mapping[str, Any] = {"double": np.float64, "single": np.float32, "switch": bool, "setting": np.int32}


@functools.cache
def _settings() -> tuple[_Names, _Names]:
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
            fields[f"{kind} numbers of model {made_of}"] = _joined(arrays, dtype)
    fields["options"] = _options(model)
    fields["choices"] = np.array(_getter(_settings()[1])(model), np.int64)
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
        _expect(value, _DTYPES[kind], sum(array.size for array in arrays), f"the model's {kind} numbers")
        if kind == "setting":
            _check_settings(model, value, parts)
        _spread(value, arrays)
    elif name in parts.large:
        live = getattr(model, name)
        if value is not live:
            _expect(np.reshape(value, -1), live.dtype, live.size, f"the model's {name}")
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
    held = _getter(paths)(model)
    _expect(value, np.float64, sum(np.size(old) for old in held), "the model's options")
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
    _expect(value, np.int64, len(paths), "the model's choices")
    for path, old, new in zip(paths, _getter(paths)(model), value.tolist(), strict=True):
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
    for path, value in zip(paths, _getter(paths)(model), strict=True):
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


# -- the data ------------------------------------------------------------------------------------------------


class Simulation:
    """What changes in an `MjData` from step to step. Created for each walk."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


def data_fields(data: Any) -> dict[str, Any]:
    """An `MjData` as two parts: the model it belongs to, which must be restored first, and its own numbers."""
    return {"model": data.model, "state": Simulation(data)}


def data_assign(data: Any, name: str, value: Any) -> None:
    """Check that the model is the same: both parts are filled in place."""
    if name == "model" and value is not data.model:
        raise ValueError("expected the model with which the simulation was made, found another one")


_LONGEST_WAKE = -1_000
#: The first arrays of MuJoCo's buffer, in order; some of them may be empty.
_FIRST = ("qpos", "qvel", "act", "mocap_pos", "ctrl", "qfrc_applied", "xfrc_applied", "xpos")
_known_arrays: dict[tuple[int, ...], tuple[_Names, str]] = {}


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _derived(data: Any) -> tuple[_Names, str]:
    """The names of all arrays of fixed size that hold real numbers, and a hash of their layout."""
    sizes = (int(data.nbuffer), *_sizes(data.model))
    return _remembered(_known_arrays, sizes, lambda: _find_derived(data))


def _find_derived(data: Any) -> tuple[_Names, str]:
    start = min(_address(array) for name in _FIRST if (array := getattr(data, name)).size)
    names = [name for name in dir(type(data)) if not name.startswith("_")]
    arrays = {name: value for name in names if isinstance(value := getattr(data, name), np.ndarray)}
    fixed = {
        name: value
        for name, value in arrays.items()
        if value.dtype == np.float64
        and value.size
        and (start <= _address(value) < start + data.nbuffer or name == "energy")
    }
    return tuple(fixed), _layout(fixed)


def simulation_form(simulation: Simulation) -> str:
    """The layout of a simulation's numbers."""
    return f"laid out as {_derived(simulation.data)[1]}"


def capture_simulation(simulation: Simulation) -> dict[str, Any]:
    """The state, the derived quantities and the sleeping trees of bodies, as flat arrays."""
    import mujoco

    data = simulation.data
    model = data.model
    signature = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    state = np.empty(mujoco.mj_stateSize(model, signature), np.float64)
    mujoco.mj_getState(model, data, state, signature)
    names, layout = _derived(data)
    saved: dict[str, Any] = {
        "form": f"laid out as {layout}",
        "state": state,
        "derived": _joined(_getter(names)(data), np.float64),
    }
    if _sleeps(mujoco, model):
        saved["sleep"] = np.concatenate([_awake_counts(data), *(getattr(data, name) for name in _SLEEP)])
    return saved


def restore_simulation(simulation: Simulation, saved: Mapping[str, Any]) -> None:
    """Write what `capture_simulation` returned into a simulation of the same model.

    :raises ValueError: if it was captured from another model or with another version of MuJoCo; nothing was changed.
    """
    import mujoco

    data = simulation.data
    model = data.model
    signature = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    arrays = _getter(_derived(data)[0])(data)
    state = _expect(saved["state"], np.float64, mujoco.mj_stateSize(model, signature), "a simulation's state")
    derived = _expect(
        saved["derived"], np.float64, sum(array.size for array in arrays), "the derived quantities"
    )
    _check_history(model, data, state, signature)
    sleep = _checked_sleep(data, saved.get("sleep")) if _sleeps(mujoco, model) else None
    # The sizes of everything in the arena follow from the state; arrays may be written only after that.
    with _no_callbacks(mujoco):
        if sleep is not None:
            # Nothing is computed for sleeping bodies, so first all are awake, as far as the model allows.
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, state, signature)
            mujoco.mj_step1(model, data)
            _put_to_sleep(data, sleep)
        mujoco.mj_setState(model, data, state, signature)
        mujoco.mj_step1(model, data)
    mujoco.mj_setState(model, data, state, signature)
    if sleep is not None:
        _put_to_sleep(data, sleep)
    _spread(derived, arrays)


# Which trees of bodies sleep, for how long the others have been at rest, and lists of what is awake with their lengths.
_COUNTS = {"body": "nbody_awake", "parent": "nparent_awake", "tree": "ntree_awake", "dof": "nv_awake"}
_SLEEP = ("tree_asleep", "tree_awake", "body_awake", "body_awake_ind", "parent_awake_ind", "dof_awake_ind")


def _sleeps(mujoco: Any, model: Any) -> bool:
    flag = int(getattr(mujoco.mjtEnableBit, "mjENBL_SLEEP", 0))
    return bool(model.opt.enableflags & flag) and model.ntree > 0


def _awake_counts(data: Any) -> np.ndarray[Any, Any]:
    return np.array([getattr(data, name) for name in _COUNTS.values()], np.int32)


def _checked_sleep(data: Any, saved: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The saved lists by name, after checking that with them MuJoCo reads only its own memory."""
    sizes = {name: getattr(data, name).size for name in _SLEEP}
    saved = _expect(saved, np.int32, len(_COUNTS) + sum(sizes.values()), "the lists of sleeping bodies")
    bounds = np.cumsum([len(_COUNTS), *sizes.values()])[:-1]
    counts, *lists = np.split(saved, bounds)
    found = dict(zip(_SLEEP, lists, strict=True))
    limits = [sizes[name] for name in ("body_awake_ind", "parent_awake_ind", "tree_awake", "dof_awake_ind")]
    asleep = found["tree_asleep"]
    # A sleeping tree names the next one of its cycle.
    fine = sorted(asleep[asleep >= 0].tolist()) == np.flatnonzero(asleep >= 0).tolist()
    fine &= bool(asleep.min() >= _LONGEST_WAKE and (counts >= 0).all() and (counts <= limits).all())
    fine &= set(found["tree_awake"].tolist()) <= {0, 1} and set(found["body_awake"].tolist()) <= {-1, 0, 1}
    for name, count in zip(
        ("body_awake_ind", "parent_awake_ind", "dof_awake_ind"), counts[[0, 1, 3]], strict=True
    ):
        inside = found[name][:count]
        fine &= bool(((inside >= 0) & (inside < sizes[name])).all())
        found[name][count:] = 0
    if not fine:
        raise ValueError("expected lists of what sleeps and what is awake, found impossible numbers")
    return {**found, "": counts}


def _put_to_sleep(data: Any, sleep: Mapping[str, np.ndarray[Any, Any]]) -> None:
    for name in _SLEEP:
        getattr(data, name)[...] = sleep[name]
    for name, count in zip(_COUNTS.values(), sleep[""].tolist(), strict=True):
        setattr(data, name, count)


def _check_history(model: Any, data: Any, state: np.ndarray[Any, Any], signature: int) -> None:
    """Check the positions in ring buffers of delayed signals, at which MuJoCo reads its memory."""
    import mujoco

    if not getattr(model, "nhistory", 0):
        return
    size = mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_HISTORY))
    assert size == model.nhistory
    before = sum(
        mujoco.mj_stateSize(model, 1 << bit)
        for bit in range(int(mujoco.mjtState.mjSTATE_HISTORY).bit_length() - 1)
        if signature & 1 << bit
    )
    history = state[before : before + size]
    for buffers, addresses in (
        (model.actuator_history, model.actuator_historyadr),
        (model.sensor_history, model.sensor_historyadr),
    ):
        for length, address in zip(buffers[:, 0].tolist(), addresses.tolist(), strict=True):
            if length > 0 and address >= 0 and history[address + 1] not in range(length):
                raise ValueError(
                    f"expected a position from 0 to {length - 1} in a buffer of delayed signals, "
                    f"found {history[address + 1]}"
                )


@contextlib.contextmanager
def _no_callbacks(mujoco: Any) -> Iterator[None]:
    """While entered, the user's callbacks are off: they may count or draw random numbers, and this is no step."""
    names = [
        name for name in ("control", "passive", "sensor") if getattr(mujoco, f"get_mjcb_{name}")() is not None
    ]
    callbacks = {name: getattr(mujoco, f"get_mjcb_{name}")() for name in names}
    try:
        for name in names:
            getattr(mujoco, f"set_mjcb_{name}")(None)
        yield
    finally:
        for name, callback in callbacks.items():
            getattr(mujoco, f"set_mjcb_{name}")(callback)


# -- rules ---------------------------------------------------------------------------------------------------


class _AllNames:
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


register_adapter("mujoco._structs.MjModel", Adapter(model_fields, model_assign, _AllNames()))
register_adapter("mujoco._structs.MjData", Adapter(data_fields, data_assign))
register_handler(Simulation, Handler(capture_simulation, restore_simulation, form=simulation_form))
register("mujoco._structs.MjvCamera", capture=_camera.capture_camera, restore=_camera.restore_camera)
for _name in (
    *("_structs.MjvScene", "_structs.MjvOption", "_structs.MjvPerturb", "_render.MjrContext"),
    *("egl.GLContext", "glfw.GLContext", "osmesa.GLContext", "cgl.GLContext", "renderer.Renderer"),
):
    skip(f"mujoco.{_name}", "something for drawing pictures, made anew when one is drawn")
skip("mujoco._specs.MjSpec", "a description from which models are made")
leave_out("dm_control.mujoco.engine.Physics", ("_named", "_contexts"), "views of the simulation")
