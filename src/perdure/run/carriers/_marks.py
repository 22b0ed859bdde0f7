"""What something was like, so that a change is seen fast and nothing is copied but references.

A container is what its elements are: they are compared by identity, and looked into where they can change themselves.
Arrays are compared by a hash, random generators and the like by their state. Looking never raises and changes nothing.
"""

from __future__ import annotations

import collections
import functools
import operator
import random
import sys
import types
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
import xxhash

from perdure.run._outputs import is_output
from perdure.state import attributes_of, fingerprint, is_by_attributes, is_installed_file, is_left_out
from perdure.tree import PLAIN_TYPES

_CONTAINERS: Any = (list, tuple, collections.deque, set, frozenset)
_FUNCTIONS = (
    type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial,
    functools._lru_cache_wrapper,
)  # fmt: skip
_FIXED = (
    *PLAIN_TYPES, *_FUNCTIONS, bytes, complex, types.ModuleType, np.generic, torch.dtype, torch.device, np.dtype,
    property, staticmethod, classmethod,
)  # fmt: skip
#: Their state is read fast.
_FAST = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random, bytearray)
#: How many things are looked into below one, and how many elements of one container are remembered.
_MOST = 20_000
_ENDS = 1_000
#: Larger arrays are hashed only where time allows, still larger ones in part.
_SMALL = 1 << 12
_LARGE = 1 << 28
_BLOCK = 1 << 20


class Mark:
    """What something was like when this was made.

    :param value: it.
    :param without: the ids of objects that do not count, because the world holds them.
    """

    def __init__(self, value: Any, without: Collection[int]) -> None:
        #: Containers and objects, each with what it held.
        self._held: list[tuple[Any, int, list[Any]]] = []
        #: Arrays, each with a hash; what is compared fast comes first.
        self._small: list[tuple[Any, Any]] = []
        self._large: list[tuple[Any, Any, Any]] = []
        self._states: list[tuple[Any, int | None]] = []
        self._slow: list[tuple[Any, int | None]] = []
        self._paused: list[tuple[Any, int, list[Any]]] = []
        self._look_into(value, without)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that could change."""
        return not (self._held or self._small or self._large or self._states or self._slow or self._paused)

    def same(self, met: Collection[int], *, thoroughly: bool) -> bool:
        """Whether it is still like that.

        :param met: the ids of all objects that the world holds. What has come into the world is changed: a resumed run
            has to find it at both places.
        :param thoroughly: whether to look at what takes time too: large arrays, networks, optimizers.
        """
        for value, length, held in self._held:
            now = _inside(value)
            if id(value) in met or now is None or len(now) != length:
                return False
            if not all(map(operator.is_, _ends(now), held)):
                return False
        if not all(_hash(array) == seen and id(array) not in met for array, seen in self._small):
            return False
        for generator, position, held in self._paused:
            at, variables = _position(generator)
            if at != position or len(variables) != len(held) or not all(map(operator.is_, variables, held)):
                return False
        for value, seen in self._states:
            if id(value) in met or fingerprint(value, without=()) != seen:
                return False
        for value, seen in self._slow:
            if id(value) in met or (thoroughly and fingerprint(value, without=met) != seen):
                return False
        for array, version, seen in self._large:
            if id(array) in met or version != _version(array) or (thoroughly and _hash(array) != seen):
                return False
        return True

    def _look_into(self, value: Any, without: Collection[int]) -> None:
        todo = [value]
        seen: set[int] = set()
        while todo and len(seen) < _MOST:
            value = todo.pop()
            if isinstance(value, _FIXED) or id(value) in seen or id(value) in without:
                continue
            seen.add(id(value))
            if isinstance(value, torch.Tensor) or (
                isinstance(value, np.ndarray) and not value.dtype.hasobject
            ):
                self._note_array(value)
                if isinstance(value, torch.Tensor):
                    attributes = list(attributes_of(value).values())
                    self._held.append((value, len(attributes), _ends(attributes)))
                    todo += attributes
            elif isinstance(value, types.GeneratorType):
                position, variables = _position(value)
                self._paused.append((value, position, variables))
                todo += variables
            elif isinstance(value, _FAST):
                self._note_state(self._states, value, ())
            elif (children := _inside(value)) is not None:
                if type(value) not in (tuple, frozenset):  # these cannot change themselves
                    self._held.append((value, len(children), _ends(children)))
                todo += children[:_MOST]
            elif not is_ignored(value):
                self._note_state(self._slow, value, without)

    def _note_array(self, value: Any) -> None:
        if (seen := _hash(value)) is None:
            return
        if isinstance(value, np.ndarray) and value.nbytes <= _SMALL:
            self._small.append((value, seen))
        else:
            self._large.append((value, _version(value), seen))

    def _note_state(self, noted: list[tuple[Any, int | None]], value: Any, without: Collection[int]) -> None:
        if (seen := fingerprint(value, without=without)) is not None:
            noted.append((value, seen))


def is_ignored(value: Any) -> bool:
    """Whether an object has no state that a run depends on: it shows the run, belongs to Perdure, is left out of every
    checkpoint, or is code that a library has made (a compiled function, say)."""
    cls: Any = type(value)
    if isinstance(value, _FUNCTIONS):
        return False
    return _is_ignored(cls) or (callable(value) and _is_code(cls))


@functools.lru_cache(maxsize=4096)
def _is_ignored(cls: type) -> bool:
    return is_output(cls) or f"{cls.__module__}.".startswith("perdure.") or is_left_out(cls)


@functools.lru_cache(maxsize=4096)
def _is_code(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    own = module is None or cls.__module__ == "__main__" or (file is not None and not is_installed_file(file))
    return not own and not issubclass(cls, torch.nn.Module)


def _inside(value: Any) -> list[Any] | None:
    """What a container or an object of plain attributes holds, and what was set on a tensor; None of anything else."""
    if isinstance(value, torch.Tensor):
        return list(attributes_of(value).values())
    if isinstance(value, dict):
        return [*dict.keys(value), *dict.values(value)]
    if isinstance(value, _CONTAINERS):
        base = next(base for base in _CONTAINERS if isinstance(value, base))
        return list(base.__iter__(value))
    if isinstance(value, np.ndarray):
        found: list[Any] = value.ravel().tolist()
        return found
    if is_by_attributes(type(value)) and not is_ignored(value):
        return list(attributes_of(value).values())
    return None


def _ends(inside: list[Any]) -> list[Any]:
    """The elements that are remembered: all, or of very many the first and the last, and some between."""
    if len(inside) <= _MOST:
        return inside
    return inside[:_ENDS] + inside[_ENDS : -_ENDS : len(inside) // _ENDS] + inside[-_ENDS:]


def _position(generator: types.GeneratorType[Any, Any, Any]) -> tuple[int, list[Any]]:
    """Where a generator is paused, and its variables."""
    frame = generator.gi_frame
    return (-1, []) if frame is None else (frame.f_lasti, list(frame.f_locals.values()))


def _version(array: Any) -> Any:
    """What changes whenever torch itself changes a tensor, and when another memory takes its place; cheap."""
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0], array.shape
    try:
        return array.data_ptr(), array._version, array.shape
    except RuntimeError:  # in inference mode it has no version
        return None


def _hash(array: Any) -> Any:
    """A hash of an array's numbers; of a very large one, of a part of them. None if it cannot be had."""
    try:
        if isinstance(array, torch.Tensor):
            if not array.is_cpu or array.layout is not torch.strided:
                return _version(array)
            array = (
                array.detach().resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8).numpy()
            )
        elif array.dtype.hasobject:
            return None
        octets = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None
    if octets.nbytes <= _LARGE:
        return xxhash.xxh3_64_intdigest(octets.data)
    blocks = range(0, octets.nbytes - _BLOCK, octets.nbytes // (_LARGE // _BLOCK))
    starts = (*blocks, octets.nbytes - _BLOCK)
    return tuple(xxhash.xxh3_64_intdigest(octets[at : at + _BLOCK].data) for at in starts)
