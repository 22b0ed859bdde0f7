"""Writing policies: pickles that torch reads, and that `perdure.persistence.reading` reads as data. Knows no files."""

from __future__ import annotations

import copyreg
import pickle
import types
from collections import defaultdict, deque
from operator import getitem
from typing import Any

import torch

from perdure.persistence._compiled import compiled_class


class Pickler(pickle.Pickler):
    """Writes what torch's restricted unpickler can read where the ordinary one would not.

    That unpickler fills lists and plain dictionaries only, but an optimizer's state is a defaultdict. Both
    classes below also take their content as an argument, so any unpickler reads the file. A compiled module is written
    as the module in it.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Reduce the containers that are pickled as empty ones and then filled, and compiled modules."""
        if type(obj) is defaultdict:
            return defaultdict, (obj.default_factory, dict(obj))
        if type(obj) is deque:
            return deque, (list(obj), obj.maxlen)
        if (compiled := compiled_class()) is not None and type(obj) is compiled:
            return getitem, ([obj._orig_mod], 0)
        return NotImplemented


class DataFreePickler(Pickler):
    """Leaves out the tensors' data, as torch.save does; `storages` has it, by the keys in the pickle."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.storages: dict[str, torch.UntypedStorage] = {}

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """What stands for the data of a tensor; None for anything else."""
        if isinstance(obj, torch.TypedStorage):
            memory = obj._untyped_storage
            kind: Any = getattr(torch, obj._pickle_storage_type())  # type: ignore[no-untyped-call]
            count = obj._size()  # type: ignore[no-untyped-call]
        elif isinstance(obj, torch.UntypedStorage):
            memory, kind, count = obj, torch.UntypedStorage, obj.nbytes()
        else:
            return None
        key = str(memory._cdata)
        self.storages[key] = memory
        return "storage", kind, key, str(memory.device), count


class LenientPickler(DataFreePickler):
    """Puts an empty string in the place of what cannot be pickled."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce anything."""
        override = super().reducer_override(obj)
        if override is not NotImplemented:
            return override
        if isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            return NotImplemented if _is_found_by_name(obj) else (str, ())
        try:
            reduce = copyreg.dispatch_table.get(type(obj))
            return obj.__reduce_ex__(2) if reduce is None else reduce(obj)
        except Exception:  # whatever a foreign class raises, it means that this object cannot be pickled
            return str, ()


def _is_found_by_name(obj: Any) -> bool:
    try:
        pickle.dumps(obj)
    except Exception:  # a PicklingError, an AttributeError, whatever a metaclass raises
        return False
    return True
