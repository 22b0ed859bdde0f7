"""Which values are secrets by their names, and are left out of every checkpoint: passwords and keys, and copies of the
process's environment. Knows no walks and no files."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from perdure import arguments
from perdure.state._registry import Skip, finders, on_change

SECRET = "a secret, by its name or in its text (perdure.secrets(allow=[name]) keeps it)"
ENVIRONMENT = "a copy of the process's environment"

#: How the names of secrets end, once they are written in lower case with underscores.
_SERVICES = (
    "anthropic|aws|azure|clearml|comet|deploy|discord|gcp|gh|github|gitlab|google|hf|hub|huggingface|kaggle|mlflow|neptune|"
    "npm|openai|pypi|slack|ssh|telegram|vault|wandb"
)
_ENDINGS = re.compile(
    rf"(^|_)((api|access|secret|private|encryption|signing|account|{_SERVICES})_?keys?"
    rf"|(access|auth|api|bearer|refresh|session|secret|security|csrf|oauth2?|{_SERVICES})_?(bot_?)?tokens?"
    r"|(db|database|user|smtp|ftp|mysql|postgres|redis|proxy|admin|root)_?(pass|pwd)|secret_key_base"
    r"|(sas|shared_access)_(key|token|signature)|passwords?|passwd|passcodes?|passphrases?|secrets?|credentials?"
    r"|authorization|auth|bearer|jwt|cookies?)$"
    # These are parts of ordinary names too: `forward_pass`.
    r"|^(pass|pwd)$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN = re.compile(r"[-. ]")
#: A dict with fewer items is no copy of an environment, and no part of one.
_FEWEST = 3
_LOOKED_AT = 5
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

    A list, a tuple, a set, a dict or an array of nothing but strings counts as one. So do texts that show a secret
    (URLs with a password, `--api-key=x`, `Authorization: Bearer x`), and objects that hide a value themselves (with a
    method `get_secret_value`).

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


def is_allowed_name(name: str) -> bool:
    """Whether the user said that a string under a name is none."""
    return _plain(name) in _allowed


def added_names() -> Iterable[str]:
    """The names that the user added, in lower case with underscores."""
    return _added


def _plain(name: str) -> str:
    return _BETWEEN.sub("_", _HUMP.sub("_", name)).lower().rstrip("_")


_LAST_NAME = re.compile(r"""(?:^|\.)([^.\[\]]+)$|\[(?:b?['"])(.*)['"]\]$""", re.DOTALL)


def is_secret_path(path: str) -> bool:
    """Whether a string at this path, as people write it, is a secret."""
    found = _LAST_NAME.search(path[-_LONGEST_NAME - 10 :])
    return found is not None and is_secret_name(found[1] or found[2])


def is_environment_copy(value: dict[Any, Any]) -> bool:
    """Whether most of a dict is what the process's environment has. The first items of most dicts tell already that it
    is not."""
    if len(value) < _FEWEST or not any(
        type(name) is str and type(text) is str and os.environ.get(name) == text
        for name, text in itertools.islice(dict.items(value), _LOOKED_AT)
    ):
        return False
    alike = sum(1 for name, text in os.environ.items() if dict.get(value, name) == text)
    return 2 * alike > len(value)


_TEXTS = (str, bytes, bytearray, np.str_, np.bytes_)
_CONTAINERS: dict[type, Callable[[Any], Iterable[Any]]] = {
    **dict.fromkeys((list, tuple, set, frozenset), iter),
    dict: dict.values,
}
_MOST_TEXTS = 100


def holds_text(value: Any) -> bool:
    """Whether a value is a text, or consists of texts: a user's name and a password, say. So it may be a secret."""
    if type(value) in _TEXTS or (type(value) is np.ndarray and value.dtype.kind in "SU"):
        return True
    parts = _CONTAINERS.get(type(value))
    if parts is None or not 0 < len(value) <= _MOST_TEXTS:
        return False
    return all(type(each) in _TEXTS for each in parts(value))


def has_secret_field(value: Any) -> bool:
    """Whether a named tuple has a field that is a secret."""
    names = getattr(type(value), "_fields", ())
    return (
        isinstance(value, tuple)
        and len(names) == len(value)
        and any(is_secret_name(name) and holds_text(each) for name, each in zip(names, value, strict=True))
    )


def _hides_itself(cls: type) -> Skip | None:
    """Objects of classes that hide a value until it is asked for, such as pydantic's `SecretStr`."""
    return Skip(SECRET) if any("get_secret_value" in vars(base) for base in cls.__mro__) else None


finders.append(_hides_itself)
