"""What is said of a policy file that is refused: what it needs, and what to do. Knows no files and no pickles."""

from __future__ import annotations

from perdure.persistence.reading._making import Refusals


def refusal(path: str, refusals: Refusals, restoring: bool) -> str:
    """All that prevents a file from being loaded, at once.

    :param restoring: whether it was to be restored into a live policy, whose classes are allowed.
    """
    names = sorted([*refusals.missing, *refusals.faults])
    known = ", beyond the classes of the policy that it is restored into" if restoring else ""
    parts = [f"{path} uses what was not trusted{known}; nothing of it was run:"]
    parts += [
        f"  {name}: {refusals.faults[name]}" if name in refusals.faults else f"  {name}" for name in names
    ]
    if hostile := [name for name in names if _acts_on_the_machine(name)]:
        parts.append(
            f"No policy needs {', '.join(hostile)}: the file was probably made to harm whoever loads it. "
            "Do not trust it."
        )
        return "\n".join(parts)
    if refusals.missing:
        parts += _line_to_paste(sorted(refusals.missing))
    if refusals.faults:
        parts.append(
            "To trust what has a reason beside it does not help. If the file is yours, do what the reason says, or "
            "save the policy's state dictionary: PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT)."
        )
    return "\n".join(parts)


def _line_to_paste(missing: list[str]) -> list[str]:
    scripted = [name.partition(".")[2] for name in missing if name.startswith("__main__.")]
    others = [repr(name) for name in missing if not name.startswith("__main__.")]
    parts = [
        "If you know where the file comes from and why it needs each of these, trust them by name:",
        f"  trust=[{', '.join(scripted + others)}]",
        "in PolicyPersistence(...) or load_policy(...). A package stands for its classes: trust=[torch.nn].",
    ]
    if scripted:
        parts.append(
            f"{', '.join(scripted)}: defined in the script that wrote the file. Import it from there (a script that "
            "trains only under `if __name__ == '__main__'` can be imported), and name the class itself."
        )
    return parts


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
