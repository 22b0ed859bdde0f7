"""Texts that are more than a place and have places inside: `--log-dir=/out/job1`, `/a:/b`, `saved to /out/job1/a.zip`.
For each place the rule of `_places` decides. Knows no states."""

from __future__ import annotations

import re
from typing import TypeAlias

from perdure.state._places import Places, is_outside, is_remote, is_temporary

#: The beginning and the end of a piece of a text.
Span: TypeAlias = tuple[int, int]

#: A URL, or what stands between the characters that separate arguments, names and values.
_PIECE = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*:/{2,}[^\s'"<>(),;|`]*|[^\s=:,;|'"()\[\]<>@`]+""")
#: An option of one letter, to which its value is attached: `-o/out`.
_LETTER = re.compile(r"-[A-Za-z](?=[/~$.])")
_SPACE = re.compile(r"\s")
#: A text without any of these has no place inside. This is asked of every text of a capture.
_MAY_BEGIN = re.compile(
    r"^(?:[/~$]|file:)|[=:,;|'\"(\[<>@`](?:[/~$]|file:)|^-[A-Za-z][/~$.]|\.\.(?:/|$)", re.IGNORECASE
)


def pieces(text: str) -> list[Span]:
    """The pieces of a text of which each may be a place."""
    found = []
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        if (letter := _LETTER.match(text, start)) is not None and letter.end() < end:
            start = letter.end()
        found.append((start, end))
    return found


def inner_places(text: str) -> list[Span]:
    """Where places outside of the working directory are in a text; none if the text as a whole is one."""
    if "/" not in text and "~" not in text and ".." not in text:
        return []
    found = [(start, end) for start, end in pieces(text) if is_outside(text[start:end])]
    return [] if len(found) == 1 and found[0][0] == 0 and is_outside(text) else found


def _has_remote_place(text: str) -> bool:
    return "://" in text and any(start > 0 and is_remote(text[start:end]) for start, end in pieces(text))


def is_sentence(text: str) -> bool:
    """Whether a text has several words: then what is in it is read by people, and no file is opened by it."""
    return _SPACE.search(text) is not None


def may_be_refused(text: str) -> bool:
    """Whether a text may be a place, or have one inside, for which a checkpoint is refused if the script names no
    directory above it. For texts of captures: in doubt, it may."""
    return _MAY_BEGIN.search(text) is not None and (text[0] in "/~$." or not is_sentence(text))


def option_value(text: str) -> str | None:
    """The place in a text such as `--out=/x`, by which a script names a directory."""
    found = inner_places(text)
    if len(found) != 1 or is_sentence(text):
        return None
    start, end = found[0]
    return text[start:end] if end == len(text) and text[start - 1 : start] != ":" else None


class InnerPlaces:
    """What becomes of a checkpoint's texts with places inside.

    :param places: what becomes of each place.
    """

    def __init__(self, places: Places) -> None:
        self._places = places

    def apply_to(self, saved: str, live: str) -> bool:
        """Whether one of two texts has a place inside."""
        return bool(inner_places(live)) or bool(inner_places(saved)) or _has_remote_place(live)

    def pair(self, saved: str, live: str) -> None:
        """Note where places have moved to; see `Places.pair`."""
        if self._is_whole(live):
            self._places.pair(saved, live)
            return
        if is_sentence(live):
            return
        for old, new in self._pairs(saved, live) or ():
            if is_outside(old) and is_outside(new):
                self._places.pair(old, new)

    def used_at(self, saved: str, live: str) -> str:
        """What is used where the checkpoint has one text and the script another."""
        if self._is_whole(live):
            used = self._places.used_at(saved, live)
            # A list of places begins with one, too.
            return used if not inner_places(used) or self._moved(used)[1] else live
        pairs = self._pairs(saved, live)
        if pairs is not None:
            spans = pieces(saved)
            return _composed(saved, spans, [self._piece_used_at(old, new) for old, new in pairs])
        moved, allowed = self._moved(saved)
        has_place = is_outside(saved) or bool(inner_places(saved))
        if has_place and allowed:
            return moved
        if is_sentence(saved):
            return live if has_place and inner_places(live) else moved
        return saved if is_sentence(live) and not has_place else live

    def used(self, saved: str) -> str | None:
        """What is used of a text for which the script has no counterpart; None if it may not be used."""
        moved, allowed = self._moved(saved)
        return moved if allowed or is_sentence(saved) else None

    def are_temporary(self, saved: str) -> bool:
        """Whether the places in a text that may not be used were made by one process for itself."""
        found = [saved[start:end] for start, end in inner_places(saved)]
        return all(is_temporary(place) for place in found if self._places.used(place) is None)

    def _pairs(self, saved: str, live: str) -> list[tuple[str, str]] | None:
        """The pieces of two texts that differ in nothing else."""
        old, new = pieces(saved), pieces(live)
        if len(old) != len(new) or _between(saved, old) != _between(live, new):
            return None
        return [(saved[a:b], live[c:d]) for (a, b), (c, d) in zip(old, new, strict=True)]

    def _is_whole(self, live: str) -> bool:
        return self._places.names(live, own=True) and not inner_places(live)

    def _piece_used_at(self, saved: str, live: str) -> str:
        if saved == live or not (self._is_place(saved) or self._is_place(live)):
            return saved
        return self._places.used_at(saved, live)

    def _is_place(self, text: str) -> bool:
        # A single word is the name of a directory only where nothing else stands beside it.
        return is_outside(text) or is_remote(text) or ("/" in text and self._places.names(text, own=True))

    def _moved(self, saved: str) -> tuple[str, bool]:
        """A text in which places are called as in this process, and whether all of them may be used."""
        spans = [(0, len(saved))] if is_outside(saved) and not inner_places(saved) else inner_places(saved)
        used = [self._places.used(saved[start:end]) for start, end in spans]
        kept = [
            saved[start:end] if place is None else place
            for (start, end), place in zip(spans, used, strict=True)
        ]
        return _composed(saved, spans, kept), None not in used


def _between(text: str, spans: list[Span]) -> list[str]:
    """What stands before, between and after some pieces of a text."""
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _composed(text: str, spans: list[Span], used: list[str]) -> str:
    """A text with something else in place of some of its pieces."""
    between = _between(text, spans)
    return "".join(part for pair in zip(between, [*used, ""], strict=True) for part in pair)
