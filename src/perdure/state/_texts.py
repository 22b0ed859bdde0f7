"""What a capture has to know of each text that it meets: whether there is a secret in it, and whether it may be
refused as a place when it is restored. It is found out once for each text."""

from __future__ import annotations

from collections.abc import Callable

from perdure.state._inner_places import may_be_refused
from perdure.state._registry import on_change
from perdure.state._secret_texts import tells_secret
from perdure.state._secrets import holds_text, is_secret_name

#: The sorts of texts.
PLAIN, TELLS_SECRET, MAY_BE_REFUSED = 0, 1, 2

#: How many characters the texts may have together of which it is known.
_MOST_KNOWN = 1 << 24
_LONGEST = 4096


class _Known(dict[str, int]):
    """The sorts of texts, for each text that was asked about."""

    left = _MOST_KNOWN

    def __missing__(self, text: str) -> int:
        found = TELLS_SECRET if tells_secret(text) else MAY_BE_REFUSED if may_be_refused(text) else PLAIN
        length = len(text)
        if length <= _LONGEST:
            self.left -= length + 50
            if self.left < 0:
                self.forget()
            self[text] = found
        return found

    def forget(self) -> None:
        self.clear()
        self.left = _MOST_KNOWN


_known = _Known()
on_change.append(_known.forget)

#: The sort of a text. No Python runs for one that is known.
sort_of_text: Callable[[str], int] = _known.__getitem__


def is_secret_entry(name: object, value: object) -> bool:
    """Whether an attribute, or an entry of a dict, is left out as a secret: then the script's own stays."""
    if type(name) is str and (
        (is_secret_name(name) and holds_text(value)) or sort_of_text(name) == TELLS_SECRET
    ):
        return True
    return type(value) is str and sort_of_text(value) == TELLS_SECRET
