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
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perdure.environments.handlers import _camera
from perdure.environments.handlers._mujoco_model import (
    Names,
    expect,
    getter,
    joined,
    layout,
    model_assign,
    model_fields,
    remembered,
    sizes,
    spread,
)
from perdure.state import Adapter, Handler, leave_out, register_adapter, register_handler, skip

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
_known_arrays: dict[tuple[int, ...], tuple[Names, str]] = {}


def _address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _derived(data: Any) -> tuple[Names, str]:
    """The names of all arrays of fixed size that hold real numbers, and a hash of their layout."""
    lengths = (int(data.nbuffer), *sizes(data.model))
    return remembered(_known_arrays, lengths, lambda: _find_derived(data))


def _find_derived(data: Any) -> tuple[Names, str]:
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
    return tuple(fixed), layout(fixed)


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
        "derived": joined(getter(names)(data), np.float64),
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
    arrays = getter(_derived(data)[0])(data)
    state = expect(saved["state"], np.float64, mujoco.mj_stateSize(model, signature), "a simulation's state")
    derived = expect(
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
    spread(derived, arrays)


# Which trees of bodies sleep, for how long the others have not moved, and lists of what is awake with their lengths.
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
    saved = expect(saved, np.int32, len(_COUNTS) + sum(sizes.values()), "the lists of sleeping bodies")
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
register_handler(
    "mujoco._structs.MjvCamera", Handler(capture=_camera.capture_camera, restore=_camera.restore_camera)
)
for _name in (
    *("_structs.MjvScene", "_structs.MjvOption", "_structs.MjvPerturb", "_render.MjrContext"),
    *("egl.GLContext", "glfw.GLContext", "osmesa.GLContext", "cgl.GLContext", "renderer.Renderer"),
):
    skip(f"mujoco.{_name}", "something for drawing pictures, made anew when one is drawn")
skip("mujoco._specs.MjSpec", "a description from which models are made")
leave_out("dm_control.mujoco.engine.Physics", ("_named", "_contexts"), "views of the simulation")
