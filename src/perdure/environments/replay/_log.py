"""Logs the actions of an episode and their outcomes in arrays that grow. Knows neither environments nor files.

Actions are kept exactly, with their types. Of their outcomes only digests are kept, enough to notice that a replay
differs.
"""

from __future__ import annotations

import array
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xxhash

from perdure import tree

_MOST_KINDS = 256
_DEEPEST = 16
_PLAIN: dict[type, tuple[str, Any]] = {
    int: ("int", np.int64),
    float: ("float", np.float64),
    bool: ("bool", np.bool_),
}


class Unrecordable(Exception):
    """An action that arrays cannot hold; the message says why."""


class Column:
    """Rows of one type and shape; appending one takes a fraction of a microsecond."""

    __slots__ = ("_content", "append", "dtype", "shape")

    def __init__(
        self, dtype: Any, shape: tuple[int, ...] = (), rows: np.ndarray[Any, Any] | None = None
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        content = b"" if rows is None else rows.tobytes()
        code = _CODES.get(self.dtype.str) if shape == () else None
        self._content: Any = bytearray(content) if code is None else array.array(code, content)
        #: Append a row: a number if rows are numbers, else the bytes of the row.
        self.append: Callable[[Any], None] = self._content.extend if code is None else self._content.append

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """All rows, as a copy."""
        return np.frombuffer(bytes(self._content), self.dtype).reshape(-1, *self.shape).copy()


#: Appending a number is fastest with Python's own arrays.
_CODES = {np.dtype(code).str: code for code in "BqQd"}


class Leaf:
    """Actions that are each one number or one array, all of one type."""

    def __init__(self, of: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.of = of
        self.dtype = dtype
        self.shape = shape
        self.column = Column(dtype, shape)
        self._as_number = shape == () and dtype.str in _CODES

    def fits(self, action: Any) -> bool:
        """Whether an action is of this kind."""
        cls = type(action)
        if cls is np.ndarray:
            return self.of == "array" and action.dtype == self.dtype and action.shape == self.shape
        if isinstance(action, np.generic):
            return self.of == "numpy" and action.dtype == self.dtype
        return cls in _PLAIN and _PLAIN[cls][0] == self.of

    def append(self, action: Any) -> None:
        """Append an action that fits."""
        if self._as_number:
            self.column.append(action)
        elif self.of == "bool":
            self.column.append(b"\1" if action else b"\0")
        else:
            self.column.append(action.tobytes())

    def all(self) -> Iterator[Any]:
        """The actions, in order."""
        for row in self.column.rows:
            yield np.array(row) if self.of == "array" else row if self.of == "numpy" else row.item()

    def spec(self) -> list[Any]:
        """A description from which this kind can be made again, as plain values."""
        return [self.of, tree.numpy_notation(self.dtype), list(self.shape)]

    def leaves(self) -> list[Leaf]:
        """The leaves, in order."""
        return [self]


class Group:
    """Actions that are lists or tuples of other kinds, or dicts of them with the same keys in the same order."""

    def __init__(self, of: str, keys: list[Any], kinds: list[Kind]) -> None:
        self.of = of
        self.keys = keys
        self.kinds = kinds
        self._class = {"list": list, "tuple": tuple, "dict": dict}[of]

    def fits(self, action: Any) -> bool:
        """Whether an action is of this kind."""
        if type(action) is not self._class or len(action) != len(self.kinds):
            return False
        if self.of == "dict" and list(action) != self.keys:
            return False
        return all(kind.fits(part) for kind, part in zip(self.kinds, self._parts(action), strict=True))

    def _parts(self, action: Any) -> Any:
        return action.values() if self.of == "dict" else action

    def append(self, action: Any) -> None:
        """Append an action that fits."""
        for kind, part in zip(self.kinds, self._parts(action), strict=True):
            kind.append(part)

    def all(self) -> Iterator[Any]:
        """The actions, in order."""
        for parts in (
            zip(*(kind.all() for kind in self.kinds), strict=True) if self.kinds else itertools.repeat(())
        ):
            yield dict(zip(self.keys, parts, strict=True)) if self.of == "dict" else self._class(parts)

    def spec(self) -> list[Any]:
        """A description from which this kind can be made again, as plain values."""
        return [self.of, list(self.keys), [kind.spec() for kind in self.kinds]]

    def leaves(self) -> list[Leaf]:
        """The leaves, in order."""
        return [leaf for kind in self.kinds for leaf in kind.leaves()]


class Nothing:
    """No action: None."""

    def fits(self, action: Any) -> bool:
        """Whether an action is of this kind."""
        return action is None

    def append(self, action: Any) -> None:
        """Append an action that fits."""

    def all(self) -> Iterator[Any]:
        """None, as often as it is asked for."""
        return itertools.repeat(None)

    def spec(self) -> list[Any]:
        """A description from which this kind can be made again, as plain values."""
        return ["none", [], []]

    def leaves(self) -> list[Leaf]:
        """None."""
        return []


Kind = Leaf | Group | Nothing


def kind_of(action: Any, depth: int = 0) -> Kind:
    """The kind of an action, still empty.

    :raises Unrecordable: if arrays cannot hold it.
    """
    cls = type(action)
    if action is None:
        return Nothing()
    if cls in _PLAIN:
        of, dtype = _PLAIN[cls]
        return Leaf(of, np.dtype(dtype), ())
    if cls is np.ndarray or isinstance(action, np.generic):
        if action.dtype.kind not in "biufc":
            raise Unrecordable(f"an array of {action.dtype}")
        return Leaf("array" if cls is np.ndarray else "numpy", action.dtype, action.shape)
    if cls in (list, tuple, dict) and depth < _DEEPEST:
        keys = list(action) if cls is dict else []
        if all(type(key) in (str, int) for key in keys):
            parts = action.values() if cls is dict else action
            return Group(cls.__name__, keys, [kind_of(part, depth + 1) for part in parts])
    raise Unrecordable(f"a {cls.__name__}")


class Actions:
    """Actions in the order in which they were taken, of a few different kinds."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        #: The number of each step's kind.
        self.which = Column(np.uint8)
        self._count = 0
        self._last: Kind | None = None
        self._number = 0

    def __len__(self) -> int:
        return self._count

    def append(self, action: Any) -> None:
        """Append an action.

        :raises Unrecordable: if arrays cannot hold it.
        """
        last = self._last
        if last is None or not last.fits(action):
            last = self._find(action)
        try:
            last.append(action)
        except OverflowError:
            raise Unrecordable(f"the number {action!r:.80} is too large") from None
        self.which.append(self._number)
        self._count += 1

    def _find(self, action: Any) -> Kind:
        number = next(
            (number for number, kind in enumerate(self.kinds) if kind.fits(action)), len(self.kinds)
        )
        if number == _MOST_KINDS:
            raise Unrecordable(f"actions of more than {_MOST_KINDS} types and shapes")
        if number == len(self.kinds):
            self.kinds.append(kind_of(action))
        self._last, self._number = self.kinds[number], number
        return self._last

    def __iter__(self) -> Iterator[Any]:
        sources = [kind.all() for kind in self.kinds]
        for number in self.which.rows.tolist():
            yield next(sources[number])

    # -- as plain values -------------------------------------------------------------------------------------

    def written(self) -> dict[str, Any]:
        """The actions as plain values and arrays."""
        return {
            "kinds": [kind.spec() for kind in self.kinds],
            "columns": [leaf.column.rows for kind in self.kinds for leaf in kind.leaves()],
            "which": self.which.rows,
        }

    @classmethod
    def read(cls, written: Any) -> Actions:
        """The actions that `written` returned.

        :raises ValueError: if `written` cannot have returned that.
        """
        made = cls()
        which, specs, columns = (written[name] for name in ("which", "kinds", "columns"))
        _expect_array(which, np.dtype(np.uint8), ())
        made.which, made._count = Column(np.uint8, rows=which), len(which)
        made.kinds = [_kind(spec) for spec in specs]
        leaves = [leaf for kind in made.kinds for leaf in kind.leaves()]
        if len(specs) > _MOST_KINDS or len(leaves) != len(columns):
            raise ValueError(f"expected {len(leaves)} columns of actions, found {len(columns)}")
        if len(which) and which.max() >= len(specs):
            raise ValueError(f"expected kinds of actions below {len(specs)}, found {which.max()}")
        counts = np.bincount(which, minlength=len(specs)).tolist()
        for kind, count in zip(made.kinds, counts, strict=True):
            for leaf in kind.leaves():
                rows = columns.pop(0)
                _expect_array(rows, leaf.dtype, leaf.shape, count)
                leaf.column = Column(leaf.dtype, leaf.shape, rows)
        return made


def _kind(spec: Any, depth: int = 0) -> Kind:
    of, about, more = spec
    if depth > _DEEPEST:
        raise ValueError("expected kinds of actions, found kinds that are nested too deeply")
    if of == "none":
        return Nothing()
    if of in ("list", "tuple", "dict"):
        if not all(type(key) in (str, int) for key in about) or len(about) != (
            len(more) if of == "dict" else 0
        ):
            raise ValueError(f"expected the keys of a {of}, found {about!r:.80}")
        return Group(of, list(about), [_kind(part, depth + 1) for part in more])
    dtype = tree.numpy_dtype(about)
    plain = {name: np.dtype(dtype) for name, dtype in _PLAIN.values()}
    shape = tuple(more)
    if any(type(extent) is not int or extent < 0 for extent in shape) or (of != "array" and shape):
        raise ValueError(f"expected the shape of an action, found {shape!r:.80}")
    if of not in ("array", "numpy", *plain) or plain.get(of, dtype) != dtype or dtype.kind not in "biufc":
        raise ValueError(f"expected a kind of action, found {of!r:.80} of {dtype}")
    return Leaf(of, dtype, shape)


def _expect_array(found: Any, dtype: np.dtype[Any], shape: tuple[int, ...], count: int | None = None) -> None:
    fits = isinstance(found, np.ndarray) and found.dtype == dtype and found.shape[1:] == shape and found.ndim
    if not fits or (count is not None and len(found) != count):
        rows = "some" if count is None else count
        shown = f"{found.dtype}{list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ValueError(f"expected {rows} rows of {dtype}{list(shape)}, found {shown}")


# -- outcomes ------------------------------------------------------------------------------------------------


class Outcomes:
    """For each step a digest of the observation (and whether the episode ended), and the reward."""

    def __init__(self) -> None:
        self.digests = Column(np.uint64)
        self.rewards = Column(np.float64)
        self.count = 0

    def append(self, found: int, reward: float) -> None:
        """Append the outcome of a step."""
        self.digests.append(found)
        self.rewards.append(reward)
        self.count += 1

    def written(self) -> dict[str, Any]:
        """As arrays."""
        return {"digests": self.digests.rows, "rewards": self.rewards.rows}

    @classmethod
    def read(cls, written: Any, count: int) -> Outcomes:
        """What `written` returned.

        :raises ValueError: if these cannot be the outcomes of `count` steps.
        """
        made = cls()
        _expect_array(written["digests"], np.dtype(np.uint64), (), count)
        _expect_array(written["rewards"], np.dtype(np.float64), (), count)
        made.digests = Column(np.uint64, rows=written["digests"])
        made.rewards = Column(np.float64, rows=written["rewards"])
        made.count = count
        return made


def digest(value: Any, seed: int = 0) -> int:
    """A hash of an observation: of an array, a number or a text, or of lists and dicts of these."""
    if type(value) is np.ndarray and value.flags.c_contiguous and not value.dtype.hasobject:
        return int(xxhash.xxh3_64_intdigest(value, seed))  # type: ignore[arg-type]
    found = xxhash.xxh3_64(seed=seed)
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, np.ndarray | np.generic) and not part.dtype.hasobject:
            found.update(np.ascontiguousarray(part))  # type: ignore[arg-type]
        elif isinstance(part, dict):
            todo.extend(part.values())
        elif isinstance(part, list | tuple):
            todo.extend(part)
        elif isinstance(part, bool | int | float | str | None):
            found.update(repr(part).encode("utf-8", "surrogatepass"))
    return found.intdigest()
