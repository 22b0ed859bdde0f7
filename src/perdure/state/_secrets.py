"""Which strings are secrets, and are left out of every checkpoint: passwords and keys, by their names, and
copies of the process's environment. Knows no walks and no files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perdure import arguments
from perdure.state._registry import on_change

SECRET = "a secret, by its name (perdure.secrets(allow=[...]) keeps it)"
ENVIRONMENT = "a copy of the process's environment"

#: How the names of secrets end, once they are written in lower case with underscores.
_ENDINGS = re.compile(
    r"(^|_)(((api|access|secret|private|encryption|signing)_?keys?)|((access|auth|api|bearer|refresh|session)_?tokens?)"
    r"|passwords?|passwd|passphrases?|secrets?|credentials?|authorization)$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: A dict with fewer items is no copy of an environment.
_FEWEST = 4
_LONGEST_NAME = 200
_MOST_NAMES = 100_000

_added: set[str] = set()
_allowed: set[str] = set()


class _Names(dict[str, bool]):
    """Whether a string under a name is a secret, for each name that was asked about."""

    def __missing__(self, name: str) -> bool:
        found = _is_secret(name)
        if len(self) < _MOST_NAMES:
            self[name] = found
        return found


_known = _Names()


def secrets(*names: str, allow: Iterable[str] = ()) -> None:
    """Say which strings are secrets: they are left out of every checkpoint, and on resuming the script's own stay.

    By default these are the strings under names such as `api_key`, `access_token`, `password` or `secret`, as
    attributes or as keys of dicts. Only strings and bytes are left out: a tensor named `token_embedding` is weights.

    :param names: further names of attributes or keys, for the whole process (`perdure.secrets("licence")`).
    :param allow: names under which strings are state all the same (`perdure.secrets(allow=["secret"])` for a game of
        guessing words).
    """
    added = arguments.texts(names, "perdure.secrets")
    allowed = arguments.texts([allow] if isinstance(allow, str) else allow, "allow")
    _added.update(map(_plain, added))
    _allowed.update(map(_plain, allowed))
    _known.clear()
    for forget in on_change:
        forget()


#: Whether a string or bytes under a name are a secret. Captures ask it of every string, so no Python runs for a name
#: that is known.
is_secret_name: Callable[[str], bool] = _known.__getitem__


def _is_secret(name: str) -> bool:
    if len(name) > _LONGEST_NAME:
        return False
    plain = _plain(name)
    return plain in _added or (plain not in _allowed and _ENDINGS.search(plain) is not None)


def _plain(name: str) -> str:
    return _HUMP.sub("_", name).replace("-", "_").replace(" ", "_").lower()


_LAST_NAME = re.compile(r"""(?:^|\.)([^.\[\]]+)$|\[(?:b?['"])(.*)['"]\]$""", re.DOTALL)


def is_secret_path(path: str) -> bool:
    """Whether a string at this path, as people write it, is a secret."""
    found = _LAST_NAME.search(path[-_LONGEST_NAME - 10 :])
    return found is not None and is_secret_name(found[1] or found[2])


def is_environment_copy(value: dict[Any, Any]) -> bool:
    """Whether most of a dict is what the process's environment has."""
    if len(value) < _FEWEST or not (dict.__contains__(value, "PATH") or dict.__contains__(value, "HOME")):
        return False
    alike = sum(1 for name, text in os.environ.items() if dict.get(value, name) == text)
    return 2 * alike > len(value)


#: What stands for the value of an option that is a secret, in a list or a text.
HIDDEN = "***"
_OPTION = re.compile(r"(--?([A-Za-z][\w.-]{0,99}))(=|\s{1,9})(\S+)", re.ASCII)
_MOST_VALUES = 100_000


def without_secrets(values: Mapping[str, Any], where: str = "") -> tuple[dict[str, Any], list[str]]:
    """A copy of metrics and the like without the secrets in them, and the paths of those.

    Strings under the names of secrets are left out, at any depth; of the arguments of a command line (`--api-key x`,
    in one text or one by one) the value.

    :param where: what the paths begin with.
    """
    made: dict[str, Any] = {}
    found: list[str] = []
    stack: list[tuple[Any, Any, str]] = [(values, made, where)]
    left = _MOST_VALUES
    while stack:
        source, target, path = stack.pop()
        named = isinstance(source, Mapping)
        hide = False
        for key, value in source.items() if named else enumerate(source):
            at = f"{path}[{key}]" if not named else f"{path}.{key}" if path else str(key)
            left -= 1
            if left < 0:
                return dict(values), []  # far too much for anybody to read, or it contains itself
            text = isinstance(value, str | bytes)
            secret = text and (hide or (named and isinstance(key, str) and is_secret_name(key)))
            if secret:
                found.append(at)
                if not named:
                    target.append(HIDDEN)
            else:
                kept = _copy(value, at, stack, found)
                if named:
                    target[key] = kept
                else:
                    target.append(kept)
            hide = (
                not named
                and isinstance(value, str)
                and value.startswith("-")
                and is_secret_name(value.lstrip("-"))
            )
    return made, found


def _copy(value: Any, path: str, stack: list[tuple[Any, Any, str]], found: list[str]) -> Any:
    if isinstance(value, str):
        kept = _OPTION.sub(_hide, value) if "-" in value else value
        if kept != value:
            found.append(path)
        return kept
    if isinstance(value, Mapping | list | tuple):
        target: Any = {} if isinstance(value, Mapping) else []
        stack.append((value, target, path))
        return target
    return value


def _hide(option: re.Match[str]) -> str:
    return f"{option[1]}{option[3]}{HIDDEN}" if is_secret_name(option[2]) else option[0]
