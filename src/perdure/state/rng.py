"""Random generators: those of the process, which every library draws from, and those that objects hold.

The process's generators are captured before anything else can draw, and restored after everything else (a technique
known from torchsnapshot's tests). So nothing that happens while capturing or restoring shifts their streams.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from perdure.errors import RestoreError
from perdure.state import _numba_generators
from perdure.state._class_names import class_name
from perdure.state._registry import Handler, register_handler, skip
from perdure.state._values import Unsupported
from perdure.tree import Object

#: The name of the process's generators beside the world's parts.
PART = "rng"


class Generators:
    """The process's generators, as attributes: `python`, `numpy`, `torch`, `cuda` (one per device), `numba` (two)."""

    #: Checkpoints have it only where numba was in use.
    numba: Any = None

    def __init__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def name_beside(parts: Mapping[str, Any]) -> str:
    """The name of the generators' part: `PART`, or a longer one where the world has a part of that name."""
    name = PART
    while name in parts:
        name = f"{name} of the process"
    return name


def is_process(node: Any) -> bool:
    """Whether a part of a state is that of the process's generators."""
    return isinstance(node, Object) and node.type == class_name(Generators)


def training_begins() -> None:
    """Say that a training begins in this process: generators that nobody uses from now on are no state."""
    _numba_generators.training_begins()


def get_state() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and torch, and of those of CUDA and numba if these are in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    found = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if in_use else None,
    }
    if (compiled := _numba_generators.get_state()) is not None:
        found["numba"] = compiled
    return found


def set_state(state: Mapping[str, Any]) -> None:
    """Put the process's generators into a state that `get_state` returned.

    :raises RestoreError: if it is no such state, or is for another number of CUDA devices.
    """
    try:
        random.setstate(_python_state(state["python"]))
        _check_bits(state["numpy"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise RestoreError(f"{PART}: expected the states of the random generators: {error}") from error
    if (compiled := state.get("numba")) is not None:
        try:
            _numba_generators.set_state(compiled)
        except (TypeError, ValueError, KeyError) as error:
            raise RestoreError(f"{PART}.numba: expected the states of numba's generators: {error}") from error
    devices = state.get("cuda")
    if not (
        devices is None
        or (isinstance(devices, list) and all(isinstance(each, torch.Tensor) for each in devices))
    ):
        raise RestoreError(f"{PART}.cuda: expected a list of tensors, one for each CUDA device")
    if devices and torch.cuda.is_available():
        if len(devices) != torch.cuda.device_count():
            raise RestoreError(
                f"{PART}.cuda: the checkpoint holds generators of {len(devices)} CUDA device(s), "
                f"this machine shows {torch.cuda.device_count()}. Make as many visible (CUDA_VISIBLE_DEVICES)"
            )
        try:
            torch.cuda.set_rng_state_all(devices)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise RestoreError(f"{PART}.cuda: expected the states of CUDA's generators: {error}") from error


# -- Python's ------------------------------------------------------------------------------------------------


def _python_state(saved: Any) -> tuple[Any, ...]:
    version, internal, gauss = saved
    if gauss is not None and type(gauss) is not float:
        raise TypeError(f"expected a number or None as the next Gaussian, found a {type(gauss).__name__}")
    return version, tuple(internal), gauss


def _restore_python(generator: random.Random, saved: Any) -> None:
    generator.setstate(_python_state(saved))


def _create_python(saved: Any) -> random.Random:
    generator = random.Random(0)
    _restore_python(generator, saved)
    return generator


register_handler(
    random.Random,
    Handler(random.Random.getstate, _restore_python, _create_python, own=frozenset({"gauss_next"})),
)
skip(random.SystemRandom, "the operating system's random numbers")


# -- NumPy's -------------------------------------------------------------------------------------------------

_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
#: NumPy does not check the position in a state and would read beyond its array: the largest valid one.
_POSITIONS = {"MT19937": 624, "Philox": 4}


def _check_bits(state: Any) -> None:
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(
            f"expected one of NumPy's generators ({', '.join(_BIT_GENERATORS)}), found {name!r:.80}"
        )
    if name in _POSITIONS:
        position = state["state"]["pos"] if name == "MT19937" else state["buffer_pos"]
        if type(position) is not int or not 0 <= position <= _POSITIONS[name]:
            raise ValueError(f"expected a position from 0 to {_POSITIONS[name]}, found {position!r:.80}")


def _parts_of(sequence: Any) -> dict[str, Any]:
    return {
        "entropy": sequence.entropy,
        "spawn_key": tuple(sequence.spawn_key),
        "pool_size": sequence.pool_size,
        "n_children_spawned": sequence.n_children_spawned,
    }


def _check_seed(saved: Any) -> None:
    sizes = (saved["pool_size"], saved["n_children_spawned"])
    if (
        any(type(size) is not int for size in sizes)
        or not 0 < sizes[0] <= 1024
        or not 0 <= sizes[1] < 1 << 32
    ):
        raise ValueError(f"expected the state of a seed sequence, found {saved!r:.80}")


def _restore_seed(sequence: np.random.SeedSequence, saved: dict[str, Any]) -> None:
    _check_seed(saved)
    # Its attributes are read-only; NumPy sets them only in the initializer.
    np.random.SeedSequence.__init__(sequence, **saved)


def _create_seed(saved: dict[str, Any]) -> np.random.SeedSequence:
    _check_seed(saved)
    return np.random.SeedSequence(**saved)


def _capture_bits(bits: np.random.BitGenerator) -> dict[str, Any]:
    if type(bits).__name__ not in _BIT_GENERATORS:
        raise Unsupported(
            f"only NumPy's own generators are supported ({', '.join(_BIT_GENERATORS)}). Use one of these, or "
            f"perdure.register({type(bits).__qualname__}, capture=..., restore=...)"
        )
    # The seed sequence counts the children that it spawned, which is not part of the generator's state.
    seed = bits.seed_seq
    return {"state": bits.state, "seed": seed if type(seed) is np.random.SeedSequence else None}


def _restore_bits(bits: np.random.BitGenerator, saved: dict[str, Any]) -> None:
    state, seed = saved["state"], saved["seed"]
    _check_bits(state)
    name = type(bits).__name__
    if state["bit_generator"] != name:
        raise ValueError(f"expected a {state['bit_generator']}, found a {name}")
    own = bits.seed_seq
    if isinstance(seed, dict):  # of the first kind of checkpoints, which do not share it
        alike = type(own) is np.random.SeedSequence and seed == _parts_of(own)
        seed = own if alike else _create_seed(seed)
    if not (seed is None or isinstance(seed, np.random.SeedSequence)):
        raise ValueError(f"expected a seed sequence, found a {type(seed).__name__}")
    if seed is not None and seed is not own:
        # Its seed sequence is read-only; only the initializer sets it (and, since NumPy 2, `__setstate__`).
        getattr(np.random, name).__init__(bits, seed)
    bits.state = state


def _create_bits(saved: dict[str, Any]) -> np.random.BitGenerator:
    _check_bits(saved["state"])
    bits: np.random.BitGenerator = getattr(np.random, saved["state"]["bit_generator"])(0)
    _restore_bits(bits, saved)
    return bits


def _restore_generator(generator: np.random.Generator, saved: dict[str, Any]) -> None:
    bits = saved["bits"]
    if not isinstance(bits, np.random.BitGenerator):
        raise TypeError(f"expected the bits of a generator, found a {type(bits).__name__}")
    if bits is not generator.bit_generator:
        np.random.Generator.__init__(generator, bits)


def _restore_legacy(generator: np.random.RandomState, saved: dict[str, Any]) -> None:
    _check_bits(saved)
    kind = getattr(np.random, saved["bit_generator"])
    if type(generator._bit_generator) is not kind:
        np.random.RandomState.__init__(generator, kind(0))
    generator.set_state(saved)


def _create_legacy(saved: dict[str, Any]) -> np.random.RandomState:
    _check_bits(saved)
    generator = np.random.RandomState(getattr(np.random, saved["bit_generator"])(0))
    generator.set_state(saved)
    return generator


# By reference, so that two generators that draw from the same bits go on doing so, and the sequence that they were
# seeded by goes on to count what is spawned from it.
register_handler(
    np.random.Generator,
    Handler(
        capture=lambda generator: {"bits": generator.bit_generator},
        restore=_restore_generator,
        create=lambda saved: np.random.Generator(saved["bits"]),
        own=frozenset(),
        shares=True,
    ),
)
register_handler(
    np.random.BitGenerator,
    Handler(capture=_capture_bits, restore=_restore_bits, create=_create_bits, shares=True),
)
register_handler(
    np.random.RandomState,
    Handler(
        capture=lambda generator: dict(generator.get_state(legacy=False)),
        restore=_restore_legacy,
        create=_create_legacy,
        own=frozenset(),
    ),
)
register_handler(
    np.random.SeedSequence,
    Handler(capture=_parts_of, restore=_restore_seed, create=_create_seed, own=frozenset()),
)


# -- torch's -------------------------------------------------------------------------------------------------


def _create_torch(saved: dict[str, Any]) -> torch.Generator:
    generator = torch.Generator(device=saved["device"])
    generator.set_state(saved["state"])
    return generator


register_handler(
    torch.Generator,
    Handler(
        capture=lambda generator: {"device": str(generator.device), "state": generator.get_state()},
        restore=lambda generator, saved: generator.set_state(saved["state"]),
        create=_create_torch,
        own=frozenset(),
    ),
)
