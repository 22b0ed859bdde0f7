"""Which texts have a secret in them: URLs with a password, command lines, connection strings, headers, and keys of a
well-known form. The same search decides what is left out of a checkpoint and what a message hides. Knows no walks and
no files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from perdure.state._secrets import added_names, holds_text, is_allowed_name, is_secret_name

#: What stands for the value of a secret, in a list or a text.
HIDDEN = "***"
#: Longer texts are not searched, as a capture asks this of every text.
_LONGEST = 2000
_SHORTEST = 6
_LONGEST_NAME = 60
#: The beginning and the end of a value, in a text.
Span: TypeAlias = tuple[int, int]

_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@]{0,200}:([^\s/]{1,500})@")
_NAME = r"[A-Za-z_][\w.-]{0,99}"
#: A name and its value: the option of a command line, an assignment, a pair of JSON, a line of YAML or of headers.
_NAMED = tuple(
    re.compile(pattern, re.ASCII | re.MULTILINE)
    for pattern in (
        rf"(?<![\w-])--?(?P<name>{_NAME})(?:=|\s{{1,9}}(?!-))['\"]?(?P<value>[^\s'\"]+)",
        rf"(?<![\w.-])(?P<name>{_NAME})=['\"]?(?P<value>[^\s'\"&;,]+)",
        rf"['\"](?P<name>{_NAME})['\"]\s{{0,9}}[:,]\s{{0,9}}['\"](?P<value>[^'\"]+)['\"]",
        rf"^[ \t]{{0,40}}(?P<name>{_NAME}):[ \t]{{1,9}}['\"]?(?P<value>[^\s'\"]+(?: [^\s'\"]+)?)['\"]?[ \t]{{0,9}}$",
        r"(?P<name>[Aa]uthorization): {0,9}(?P<value>\S+(?: [^\s'\"]+)?)",
    )
)
_KNOWN_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[\w-]{20,200}|gh[pousr]_[A-Za-z0-9]{30,200}|github_pat_\w{30,200}|hf_[A-Za-z0-9]{30,200}"
    r"|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,200}|AIza[\w-]{35}|glpat-[\w-]{20,200}"
    r"|eyJ[\w-]{10,2000}\.eyJ[\w-]{10,2000}\.[\w-]{1,2000}"
    r"|[Bb]earer[ ]{1,9}(?=[^\s\d]{0,200}\d)[\w.~+/=-]{6,2000})"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*",
    re.ASCII,
)
#: How the names of secrets end, and what follows, in a text in lower case; a text without it is not searched further.
_SEPARATED = re.compile(
    r"(?:key|token|pass|pwd|passw[or]*d|passphrase|passcode|secret|credential|authorization|auth|bearer|jwt|cookie"
    r"|signature|base)s?(?:=|['\"]?\s{0,9}[:,]|\s{1,9}(?!-)\S)",
    re.ASCII,
)
#: How keys of a well-known form begin.
_FORMS: tuple[str, ...] = (
    "sk-",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "hf_",
    "AKIA",
    "xox",
    "AIza",
    "glpat-",
    "eyJ",
)
_FORMS += ("earer ", "-----BEGIN")
#: What stands for a value in the description of a command, or is no text.
_NO_VALUE = re.compile(r"[<\[{$%(].*|\*+|\.+|true|false|none|null|yes|no|on|off", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9.]+%?")


def tells_secret(text: str) -> bool:
    """Whether there is a secret in a text."""
    return next(_secrets_in(text), None) is not None


def _secrets_in(text: str) -> Iterator[Span]:
    """Where the values of secrets are in a text. They may overlap."""
    if not _SHORTEST <= len(text) <= _LONGEST:
        return
    if "@" in text and "://" in text:
        yield from (found.span(1) for found in _LOGIN.finditer(text))
    if any(form in text for form in _FORMS):
        yield from (found.span() for found in _KNOWN_FORMS.finditer(text))
    if "=" in text or ":" in text or "-" in text or "," in text:
        low = text.lower()
        if _SEPARATED.search(low) or any(name in low.replace("-", "_") for name in added_names()):
            yield from _named_secrets_in(text)


def _named_secrets_in(text: str) -> Iterator[Span]:
    for pattern in _NAMED:
        start = 0
        # A name and a value may follow each other: the next search begins where the value does.
        while found := pattern.search(text, start):
            start = found.start("value")
            if _is_secret(found["name"], found["value"]):
                yield found.span("value")
                start = found.end("value")


def _is_secret(name: str, value: str) -> bool:
    """Whether the value under a name in a text is a secret."""
    return is_secret_option(name) and not _stands_for_a_value(name, value)


def is_secret_option(name: str) -> bool:
    """Whether the value of an option is a secret, by its name, with or without dashes (`--api-key`)."""
    last = name.lstrip("-+").rpartition(".")[2]
    return is_secret_name(last) or (last.lower() == "token" and not is_allowed_name(last))


def _stands_for_a_value(name: str, value: str) -> bool:
    """Whether a value is a placeholder, as in the description of a command (`--api-key API_KEY`), a reference to a
    variable, or an answer (`auth=yes`, `pass=12`)."""
    last = name.rpartition(".")[2].lower().replace("-", "_")
    ending = re.split(r"[.\[(]", value.lower().replace("-", "_").rstrip("])"))[-1]
    return (
        ending == last
        or _NO_VALUE.fullmatch(value) is not None
        or (last in ("pass", "auth", "secrets", "cookies", "cookie") and _NUMBER.fullmatch(value) is not None)
    )


def without_secret_texts(text: str) -> str:
    """A text in which the values of secrets are hidden."""
    spans = sorted(_secrets_in(text))
    end = len(text)
    for start, stop in reversed(spans):
        if stop > end:
            stop = end
        if start < stop:
            text = text[:start] + HIDDEN + text[stop:]
            end = start
    return text


# -- lists ------------------------------------------------------------------------------------------------------


def is_secret_command(texts: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list is a command line with a secret in it (`["--api-key", "x"]`, `["--api-key=x"]`), or a name and
    the value of a secret (`("Authorization", "Bearer x")`)."""
    if not {*map(type, texts)} <= {str, np.str_}:
        return False
    if len(texts) == 2 and texts[1] and _is_name_of_secret(texts[0]):
        return True
    options = [place for place, text in enumerate(texts) if text[:1] in ("-", "+")]
    return any(
        tells_secret(str(texts[place]))
        or (place + 1 < len(texts) and _takes_secret(texts[place], texts[place + 1]))
        for place in options
    )


def _is_name_of_secret(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and name[:1] not in ("-", "+") and is_secret_name(name)


def _takes_secret(option: str, following: str) -> bool:
    """Whether an argument of a command is an option whose value, the next argument, is a secret."""
    return (
        option[:1] in ("-", "+")
        and "=" not in option
        and following[:1] not in ("", "-")
        and is_secret_option(option)
        and not _stands_for_a_value(option.lstrip("-+"), following)
    )


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
        pair = not named and len(source) == 2 and isinstance(source[0], str) and _is_name_of_secret(source[0])
        before: Any = None
        for key, value in source.items() if named else enumerate(source):
            at = f"{path}[{key}]" if not named else f"{path}.{key}" if path else str(key)
            left -= 1
            if left < 0:
                return dict(values), []  # far too much for anybody to read, or it contains itself
            text = isinstance(value, str | bytes)
            if named:
                secret = isinstance(key, str) and is_secret_name(key) and holds_text(value)
            else:
                secret = text and ((pair and key == 1) or follows_option(before, value))
            before = value
            if secret:
                found.append(at)
                if not named:
                    target.append(HIDDEN)
                continue
            kept = _copy(value, at, stack, found)
            if named:
                target[key] = kept
            else:
                target.append(kept)
    return made, found


def follows_option(before: Any, value: str | bytes) -> bool:
    """Whether a text is a secret because of the option before it in a command line."""
    following = value.decode("latin-1") if isinstance(value, bytes) else value
    return isinstance(before, str) and _takes_secret(before, following)


def _copy(value: Any, path: str, stack: list[tuple[Any, Any, str]], found: list[str]) -> Any:
    if isinstance(value, str):
        kept = without_secret_texts(value)
        if kept != value:
            found.append(path)
        return kept
    if isinstance(value, Mapping | list | tuple):
        target: Any = {} if isinstance(value, Mapping) else []
        stack.append((value, target, path))
        return target
    return value


def without_secret_arguments(arguments: Iterable[str]) -> Iterator[str]:
    """A command line in which the values of secrets are hidden."""
    before: str | None = None
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if follows_option(before, argument):
            yield HIDDEN
        elif equals and _is_secret(name, value):
            yield f"{name}={HIDDEN}"  # all that follows: the value may have spaces in it
        else:
            yield without_secret_texts(argument)
        before = argument
