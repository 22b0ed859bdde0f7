"""Files with a policy in them: written so that they can be read safely, and read without trusting them.

A whole-policy file is a pickle. Before any of it runs, everything it names, makes and calls is compared with
what is allowed: the classes of the policy that is restored into, what the user trusts, and a short list of
harmless helpers. What passes is loaded by torch's restricted unpickler, with just these as its safe globals.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from perdure.errors import DamagedError, NotPicklableError, RestoreError, UntrustedError
from perdure.persistence import checksums
from perdure.persistence._allowlist import Allowed, Trust, Trusted
from perdure.persistence._pickle_scan import ForgedError, How, Name, UnreadableError, uses
from perdure.persistence._pickling import Pickler, culprit, uses_of

TDevice: TypeAlias = str | torch.device | dict[str, str] | Callable[[Any, str], Any] | None
"""Where tensors are loaded to: whatever :func:`torch.load` accepts as `map_location`."""

# torch keeps its safe globals in a global variable; two threads that restore would take away each other's.
_lock = threading.Lock()


def load_policy(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", trust: Iterable[Trusted] = ()
) -> torch.nn.Module:
    """The whole policy in a file, for inference: on `device`, in evaluation mode. Needs no environment.

    :param path: the file, or the directory of a run (or any other) with a `policy.pt` in it.
    :param trust: what the file may use: classes and functions, their dotted names, or packages, which stand
        for every class defined in them (``trust=[torch.nn, tianshou]``). Trust only what you know it needs.
    :raises UntrustedError: if the file uses anything else. Nothing of it was run.
    :raises DamagedError: if the file is damaged.
    :raises RestoreError: if the file holds no whole policy.
    """
    file = Path(path)
    if file.is_dir():
        candidates = [file / "policy.pt", file / "best" / "policy.pt"]
        if (
            not any(candidate.exists() for candidate in candidates)
            and (file / "policy_state_dict.pt").exists()
        ):
            raise RestoreError(_no_policy(file / "policy_state_dict.pt"))
        file = next((candidate for candidate in candidates if candidate.exists()), candidates[0])
    return load_module(file, device, trust=trust).eval()


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
    loaded = _load(path, device, live, trust)
    if isinstance(loaded, dict):
        raise RestoreError(_no_policy(path))
    if not isinstance(loaded, torch.nn.Module):
        found = type(loaded).__name__
        raise RestoreError(f"{os.fspath(path)} holds no policy (a torch.nn.Module) but an object of {found}.")
    return loaded


def load_state_dict(
    path: str | os.PathLike[str], device: TDevice, trust: Iterable[Trusted] = ()
) -> dict[str, Any]:
    """The state dictionary in a file."""
    try:
        loaded = _load(path, device, None, trust)
    except UntrustedError as error:
        hint = "A state dictionary needs none of these. If this is a whole policy, use Mode.POLICY."
        raise UntrustedError(f"{error}\n{hint}", error.names) from error
    if not isinstance(loaded, dict):
        raise RestoreError(
            f"{os.fspath(path)} holds no state dictionary but an object of {type(loaded).__name__}. "
            "If it is a whole policy, use PolicyPersistence(mode=PolicyPersistence.Mode.POLICY)."
        )
    return loaded


def save_module(policy: torch.nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the whole policy to a file that :func:`load_module` can read.

    :raises NotPicklableError: naming the attribute, before anything is written.
    """
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
        real = os.path.realpath(path)
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
            # A better policy was published meanwhile, and the version that this link led to removed.
            if os.path.realpath(path) == real:
                raise


def _load(
    path: str | os.PathLike[str], device: TDevice, live: torch.nn.Module | None, trust: Iterable[Trusted]
) -> Any:
    trusted = Trust(trust)
    real, data, digest = _read(path)
    if digest is not None:
        checksums.compare(real, hashlib.sha256(data).hexdigest(), digest)
    _check_records(data, os.fspath(path))
    allowed = _check(data, os.fspath(path), live, trusted)
    with _lock:
        # safe_globals takes away on leaving also what was allowed before: only add what was not.
        existing = get_safe_globals()
        with safe_globals([entry for entry in allowed if entry not in existing]):
            try:
                return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
            except RuntimeError as error:
                if not any(words in str(error) for words in ("PytorchStreamReader", "record size")):
                    raise  # for instance a device that is not there; torch says what to do
                raise DamagedError(f"{os.fspath(path)} is damaged: {error}. {checksums.REMEDY}") from error
            except Exception as error:  # the classes' own code runs here
                raise RestoreError(
                    f"{os.fspath(path)} could not be restored: {type(error).__name__}: {error}. If it was "
                    "written with other versions of its libraries, use those."
                ) from error


def _check_records(data: bytes, path: str) -> None:
    """Check the checksums inside the file. torch writes them and does not look at them; a file that was copied
    without the list of checksums that lies beside it has no others.
    """
    if not data.startswith(b"PK"):
        return  # no archive: an old file, or none of torch's; what reads it says so
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            packed = [
                each.filename for each in archive.infolist() if each.compress_type != zipfile.ZIP_STORED
            ]
            # torch never compresses; a few kilobytes that become gigabytes are made to fill the memory.
            record = None if packed else archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, zlib.error) as error:
        raise DamagedError(f"{path} is damaged or cut off: {error}. {checksums.REMEDY}") from error
    if packed:
        raise DamagedError(
            f"{path} is refused: its record {packed[0]} is compressed, which torch never does."
        )
    if record is not None:
        raise DamagedError(
            f"{path} is damaged: its record {record} is not what was written. {checksums.REMEDY}"
        )


def _check(data: bytes, path: str, live: torch.nn.Module | None, trusted: Trust) -> list[tuple[Any, str]]:
    """What to allow torch's unpickler for this file, if all of it may be allowed."""
    problem: Exception | None = None
    try:
        stream = torch._C.PyTorchFileReader(io.BytesIO(data)).get_record("data.pkl")
        unsafe = set(get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    except (RuntimeError, EOFError, ValueError) as error:
        raise DamagedError(
            f"{path} is damaged, cut off, or not a file that torch.save wrote: {error}. {checksums.REMEDY}"
        ) from error
    except pickle.UnpicklingError as error:
        unsafe, problem = set(), error
    try:
        found = set(uses(stream))
    except UnreadableError as error:
        found, problem = set(error.found), error
    safe = {use.what.dotted for use in found if use.how is How.NAMED} - unsafe
    hows: dict[Name, set[How]] = defaultdict(set)
    for use in found:
        if use.what.dotted not in safe:
            hows[use.what].add(use.how)
    allowed = Allowed(set() if live is None else uses_of(live), trusted)
    refused = {what.dotted: hows[what] for what in hows if not allowed.add(what, hows[what])}
    refused |= {name: set() for name in unsafe - {what.dotted for what in hows}}
    if refused:
        raise UntrustedError(_refusal(path, refused, live is not None), sorted(refused))
    if isinstance(problem, ForgedError):
        raise UntrustedError(
            f"{path} is refused: {problem}. No pickler writes that: the file is damaged or forged. "
            "Nothing of it was run."
        )
    if problem is not None:
        raise RestoreError(
            f"{path} cannot be restored safely: {problem}. Nothing of it was run. If you wrote it yourself, "
            "load it once with torch.load(..., weights_only=False) and save its state dictionary."
        )
    return allowed.entries


def _refusal(path: str, refused: dict[str, set[How]], restoring: bool) -> str:
    lines = []
    for name, hows in sorted(refused.items()):
        does = sorted(how.value for how in hows - {How.NAMED}) or ["named"]
        lines.append(f"  {name} ({', '.join(does)})")
    known = ", beyond the classes of the policy that it is restored into" if restoring else ""
    parts = [f"{path} uses what was not trusted{known}; nothing of it was run:", *lines]
    if hostile := sorted(name for name in refused if _acts_on_the_machine(name)):
        parts.append(
            f"No policy needs {', '.join(hostile)}: the file was probably made to harm whoever loads it. "
            "Do not trust it."
        )
        return "\n".join(parts)
    scripted = [name.partition(".")[2] for name in sorted(refused) if name.startswith("__main__.")]
    others = [repr(name) for name in sorted(refused) if not name.startswith("__main__.")]
    parts += [
        "If you know where the file comes from and why it needs each of these, trust them by name:",
        f"  trust=[{', '.join(scripted + others)}]",
        "in PolicyPersistence(...) or load_policy(...). A package stands for its classes: trust=[torch.nn].",
    ]
    if scripted:
        parts.append(
            f"{', '.join(scripted)}: defined in the script that wrote the file. Import it from there (a script that "
            "trains only under `if __name__ == '__main__'` can be imported), and name the class itself."
        )
    return "\n".join(parts)


# Whose functions act on the machine or run what they are given; `commands` and `__builtin__` are names that old
# pickles give to subprocess and builtins.
_NEVER_NEEDED = (
    *(
        "os",
        "posix",
        "nt",
        "subprocess",
        "commands",
        "sys",
        "shutil",
        "socket",
        "importlib",
        "runpy",
        "ctypes",
    ),
    *(
        "pty",
        "signal",
        "io",
        "pickle",
        "_pickle",
        "marshal",
        "code",
        "tempfile",
        "multiprocessing",
        "threading",
    ),
    *(
        "asyncio",
        "urllib",
        "http",
        "webbrowser",
        "torch.serialization",
        "torch.hub",
        "torch.utils.cpp_extension",
    ),
    *(
        f"builtins.{name}"
        for name in ("eval", "exec", "compile", "__import__", "open", "map", "filter", "breakpoint")
    ),
    *("builtins.setattr", "builtins.input", "__builtin__"),
)


def _acts_on_the_machine(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in _NEVER_NEEDED)


def _no_policy(path: str | os.PathLike[str]) -> str:
    return (
        f"{os.fspath(path)} holds a state dictionary, no whole policy. Build the policy and restore into it: "
        "PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT).restore(policy, world, device)."
    )


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
