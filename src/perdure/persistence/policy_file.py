"""Policy files: written so that torch reads them, and read as data, so that nothing of them is run.

A whole-policy file holds a pickle, and unpickling can run anything. Here no unpickler sees it: what it describes is
made by `perdure.persistence.reading`, of the live policy's classes and those that the user trusts.

This module knows files; what is in them it leaves to that package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from perdure import arguments
from perdure.errors import NotPicklableError, RestoreError, UntrustedError
from perdure.persistence import checksums, versions
from perdure.persistence._compiled import module_in
from perdure.persistence._culprit import culprit
from perdure.persistence._pickling import Pickler
from perdure.persistence.reading import (
    Names,
    Trust,
    Trusted,
    read_policy,
    to_evaluation,
)
from perdure.persistence.reading import TDevice as TDevice


def load_policy(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", trust: Iterable[Trusted] = ()
) -> torch.nn.Module:
    """The whole policy in a file, for inference: on `device`, in evaluation mode. Needs no environment.

    :param path: the file, or the directory of a run (or any other) with a `policy.pt` in it.
    :param trust: classes that may be made from the file, and functions that it may refer to: themselves, their dotted
        names, or packages, which stand for every class in those of their modules that are imported
        (``trust=[torch.nn, tianshou]``). An allowed class can be made into objects with any attributes that are no
        methods, and its methods run when your program uses them. While the file is loaded it can do nothing: no
        constructor of it runs, no `__setstate__`, no finalizer, no method, unless you registered that it may.
    :raises UntrustedError: if the file needs anything else. Nothing of it was run.
    :raises DamagedError: if the file is damaged.
    :raises RestoreError: if the file holds no whole policy.
    :raises ValueError: if this machine has no such device.
    """
    check_device(device)
    given = Path(arguments.local_path(path, "path"))
    while True:
        file = _policy_in(given) if given.is_dir() else given
        try:
            policy = load_module(file, device, trust=trust)
            break
        except FileNotFoundError:
            # A better policy was published meanwhile, and the version that was the best one removed.
            if file == given or _policy_in(given) == file:
                raise
    to_evaluation(policy)
    return policy


def _policy_in(directory: Path) -> Path:
    """The file of the whole policy in a directory; one that is not there, if there is none.

    :raises RestoreError: if there is only a state dictionary.
    """
    candidates = [directory / "policy.pt", directory / "best" / "policy.pt"]
    if (best := versions.best(directory)) is not None:
        candidates.insert(0, directory / versions.POLICIES / best / "policy.pt")
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None and (directory / "policy_state_dict.pt").exists():
        raise RestoreError(_no_policy(directory / "policy_state_dict.pt"))
    return found or directory / "policy.pt"


def check_device(device: Any) -> None:
    """Check that tensors can be put on a device here.

    :raises ValueError: if it is none, or this machine does not have it.
    """
    if isinstance(device, Mapping) or (callable(device) and not isinstance(device, type)):
        return  # another form that torch takes
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"device: expected a device such as 'cpu' or 'cuda', found {device!r:.80}"
        ) from error
    missing = ""
    if found.type == "cuda" and not torch.cuda.is_available():
        missing = "torch finds no CUDA device here"
    elif found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        missing = f"torch finds {torch.cuda.device_count()} CUDA devices here, counted from 0"
    elif found.type == "mps" and not torch.backends.mps.is_available():
        missing = "torch finds no MPS device here"
    if missing:
        raise ValueError(f"device: {device!s} cannot be used, because {missing}. Use device='cpu'")


def load_module(
    path: str | os.PathLike[str],
    device: TDevice,
    live: torch.nn.Module | None = None,
    trust: Iterable[Trusted] = (),
) -> torch.nn.Module:
    """The module in a whole-policy file.

    :param live: the policy that is restored into, whose classes are trusted. Functions that it refers to are
        allowed as references; in what is returned, a function that cannot be run stands in their place.
    """
    loaded = _load(path, device, None if live is None else module_in(live), trust)
    kind = type(loaded)
    if issubclass(kind, dict):
        raise RestoreError(_no_policy(path))
    if not issubclass(kind, torch.nn.Module):
        raise RestoreError(
            f"{os.fspath(path)} holds no policy (a torch.nn.Module) but an object of {kind.__name__}."
        )
    return loaded  # type: ignore[no-any-return]


def load_module_state(
    path: str | os.PathLike[str], device: TDevice, live: torch.nn.Module, trust: Iterable[Trusted] = ()
) -> dict[str, Any]:
    """The state dictionary of the module in a whole-policy file, as the classes of the live policy give it."""
    loaded = load_module(path, device, live=live, trust=trust)
    try:
        return loaded.state_dict()
    except RestoreError:
        raise
    except Exception as error:  # the classes' own code runs here
        raise RestoreError(
            f"{os.fspath(path)} could not be restored: its state_dict() failed ({type(error).__name__}: {error}). "
            "If it was written with other versions of its libraries, use those."
        ) from error


def load_state_dict(
    path: str | os.PathLike[str], device: TDevice, trust: Iterable[Trusted] = ()
) -> dict[str, Any]:
    """The state dictionary in a file."""
    try:
        loaded = _load(path, device, None, trust)
    except UntrustedError as error:
        hint = "A state dictionary needs none of these. If this is a whole policy, use Mode.POLICY."
        raise UntrustedError(f"{error}\n{hint}", error.names) from error
    if not issubclass(type(loaded), dict):
        raise RestoreError(
            f"{os.fspath(path)} holds no state dictionary but an object of {type(loaded).__name__}. "
            "If it is a whole policy, use PolicyPersistence(mode=PolicyPersistence.Mode.POLICY)."
        )
    return loaded  # type: ignore[no-any-return]


def save_module(policy: torch.nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the whole policy to a file that :func:`load_module` can read.

    :raises NotPicklableError: naming the attribute, before anything is written.
    """
    policy = module_in(policy)
    fault = culprit(policy, "policy")
    if fault is not None:
        where, value, reason = fault
        name = getattr(value, "__qualname__", None)
        what = f"{name!r}, a {type(value).__name__}" if name else f"an object of {_type_name(value)}"
        raise NotPicklableError(
            f"the policy cannot be saved as a whole: {where} is {what}, and cannot be pickled so that it can "
            f"be restored safely: {reason}. Define functions and classes at the top level of a module (no "
            "lambda, no local function), remove the attribute in __getstate__, or save the state dictionary: "
            "PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT).",
            where,
        )
    torch.save(policy, path, pickle_module=SimpleNamespace(__name__=__name__, Pickler=Pickler))


def _read(path: str | os.PathLike[str]) -> tuple[str, bytes, str | None]:
    """Where a policy file is, its content, and the checksum that it was written with."""
    while True:
        real = versions.published_file(path)
        try:
            if not os.path.isfile(real):
                raise FileNotFoundError(
                    f"there is no policy file {os.fspath(path)}. Is it the run's directory, or its file?"
                )
            data = Path(real).read_bytes()  # once, so that what is checked is what is loaded
            digest = checksums.read(os.path.dirname(real)).get(os.path.basename(real))
            if digest is not None or os.path.isfile(real):
                return real, data, digest
        except MemoryError:
            raise RestoreError(
                f"{os.fspath(path)} has {os.path.getsize(real):,} bytes, more than fit into this process's memory"
            ) from None
        except FileNotFoundError:
            # A better policy was published meanwhile, and the version that this path showed removed.
            if versions.published_file(path) == real:
                raise


def _load(
    path: str | os.PathLike[str], device: TDevice, live: torch.nn.Module | None, trust: Iterable[Trusted]
) -> Any:
    trusted = Trust(trust)
    real, content, digest = _read(path)
    if digest is not None:
        checksums.compare(real, hashlib.sha256(content).hexdigest(), digest)
    return read_policy(content, os.fspath(path), device, Names(trusted, live))


def _no_policy(path: str | os.PathLike[str]) -> str:
    return (
        f"{os.fspath(path)} holds a state dictionary, no whole policy. Build the policy and restore into it: "
        "PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT).restore(policy, world, device)."
    )


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
