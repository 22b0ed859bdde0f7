"""Random generators: those of the process, which every library draws from, and those that objects hold.

The process's are captured before anything else can draw and restored after everything else (a technique that
torchsnapshot's tests made known): nothing that happens while capturing or restoring can shift their streams.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from perdure.errors import RestoreError
from perdure.state.registry import register

#: The name under which the process's generators stand beside the world's parts.
PART = "rng"


class Process:
    """The process's generators, as attributes to be walked: `python`, `numpy`, `torch` and `cuda` (one per device)."""

    def __init__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def get_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's process-wide generators, CUDA's only where CUDA is in use."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None,
    }


def set_state(state: dict[str, Any]) -> None:
    """Put the process's generators into a state that `get_state` returned.

    :raises RestoreError: if the state is not one, or names CUDA devices that are not there.
    """
    try:
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise RestoreError(f"{PART}: expected the states of the random generators: {error}") from error
    devices = state.get("cuda")
    if devices and torch.cuda.is_available():
        if len(devices) != torch.cuda.device_count():
            raise RestoreError(
                f"{PART}.cuda: the checkpoint holds generators of {len(devices)} CUDA device(s), "
                f"this machine shows {torch.cuda.device_count()}. Make as many visible (CUDA_VISIBLE_DEVICES)"
            )
        torch.cuda.set_rng_state_all(devices)


_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def _seed(sequence: Any) -> dict[str, Any] | None:
    if type(sequence) is not np.random.SeedSequence:
        return None
    return {
        "entropy": sequence.entropy,
        "spawn_key": tuple(sequence.spawn_key),
        "pool_size": sequence.pool_size,
        "n_children_spawned": sequence.n_children_spawned,
    }


def _capture_bits(bits: np.random.BitGenerator) -> dict[str, Any]:
    # The seed sequence counts the children it spawned, and no generator's state tells of it.
    return {"state": bits.state, "seed": _seed(bits.seed_seq)}


def _restore_bits(bits: np.random.BitGenerator, saved: dict[str, Any]) -> None:
    state = saved["state"]
    if state["bit_generator"] != type(bits).__name__:
        raise ValueError(f"expected a {state['bit_generator']}, found a {type(bits).__name__}")
    seed = saved["seed"]
    if seed is not None and seed != _seed(bits.seed_seq):
        bits.__setstate__((state, np.random.SeedSequence(**seed)))
    bits.state = state


def _create_bits(saved: dict[str, Any]) -> np.random.BitGenerator:
    name = saved["state"]["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"expected one of NumPy's generators ({', '.join(_BIT_GENERATORS)}), found {name!r}")
    bits: np.random.BitGenerator = getattr(np.random, name)(0)
    _restore_bits(bits, saved)
    return bits


def _capture_legacy(generator: np.random.RandomState) -> dict[str, Any]:
    return dict(generator.get_state(legacy=False))


def _create_legacy(saved: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState(0)
    generator.set_state(saved)
    return generator


def _restore_python(generator: random.Random, saved: Any) -> None:
    version, internal, gauss = saved
    generator.setstate((version, tuple(internal), gauss))


def _create_python(saved: Any) -> random.Random:
    generator = random.Random(0)
    _restore_python(generator, saved)
    return generator


def _create_torch(saved: dict[str, Any]) -> torch.Generator:
    generator = torch.Generator(device=saved["device"])
    generator.set_state(saved["state"])
    return generator


register(
    np.random.Generator,
    capture=lambda generator: _capture_bits(generator.bit_generator),
    restore=lambda generator, saved: _restore_bits(generator.bit_generator, saved),
    create=lambda saved: np.random.Generator(_create_bits(saved)),
)
register(np.random.BitGenerator, capture=_capture_bits, restore=_restore_bits, create=_create_bits)
register(
    np.random.RandomState,
    capture=_capture_legacy,
    restore=lambda generator, saved: generator.set_state(saved),
    create=_create_legacy,
)
register(
    np.random.SeedSequence,
    capture=_seed,
    restore=lambda sequence, saved: sequence.spawn(saved["n_children_spawned"] - sequence.n_children_spawned),
    create=lambda saved: np.random.SeedSequence(**saved),
)
register(random.Random, capture=random.Random.getstate, restore=_restore_python, create=_create_python)
register(
    torch.Generator,
    capture=lambda generator: {"device": str(generator.device), "state": generator.get_state()},
    restore=lambda generator, saved: generator.set_state(saved["state"]),
    create=_create_torch,
)
