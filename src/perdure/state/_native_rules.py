"""What cannot be captured because its state lies outside of Python, each kind in words of its own, and what to do."""

from __future__ import annotations

import re

import numpy as np

from perdure.state._registry import Entry, Refuse, finders, is_native, refuse, skip

_BY_ITSELF = "Keep {keep} in the world, or leave it out: perdure.skip({name!r}, 'reason')"
_ANEW = "Make it anew in the script, and leave it out: perdure.skip({name!r}, 'reason')"

_GRAPH = re.compile(r"\w+Backward\d*|AccumulateGrad")
_STEP = "it is a step of a tensor's graph, which no checkpoint holds"

#: Of each class by its dotted name: what it is, and what to keep instead; None if there is nothing.
_KINDS: tuple[tuple[str, str, str | None], ...] = (
    ("sqlite3.Connection", "it is a connection to a database, whose content lies in a file of its own", None),
    ("sqlite3.Cursor", "it is a position in a database", "the rows that it gives"),
    ("select.poll", "it watches open files of this process", None),
    ("select.epoll", "it watches open files of this process", None),
    ("_ssl._SSLContext", "it belongs to a connection", None),
    ("asyncio.events.AbstractEventLoop", "it runs the tasks of this process", None),
    ("_asyncio.Future", "a task of this process is working on it", "its result"),
    ("mmap.mmap", "it is the memory of a file", "an np.memmap of the file"),
    ("builtins.memoryview", "it shows the memory of another object", "that object"),
    ("zlib.Compress", "where it is within a stream cannot be read", "the data"),
    ("zlib.Decompress", "where it is within a stream cannot be read", "the data"),
    ("_bz2.BZ2Compressor", "where it is within a stream cannot be read", "the data"),
    ("_lzma.LZMACompressor", "where it is within a stream cannot be read", "the data"),
    ("_hashlib.HASH", "what it has read cannot be told from it", "the data that it has read, or its digest"),
    ("_blake2.blake2b", "what it has read cannot be told from it", "the data that it has read, or its digest"),
    ("_csv.reader", "it reads from an open file", "the rows as a list"),
    ("re.Match", "what it was found in is not to be had from it", "what it found: match.groups(), match.span()"),
    ("_struct.Struct", "it is compiled", "its format, made.format"),
    ("decimal.Context", "it belongs to this thread", "context.prec and context.rounding"),
    ("zoneinfo.ZoneInfo", "it is a table of the system", "its name, zone.key"),
    ("xml.etree.ElementTree.Element", "it is a tree in native code", "its text (ElementTree.tostring)"),
    ("_ctypes._SimpleCData", "it is memory of C", "its value, number.value"),
    ("_ctypes.Array", "it is memory of C", "an array, np.ctypeslib.as_array(array).copy()"),
    ("_ctypes.Structure", "it is memory of C", "its fields"),
    ("_ctypes._Pointer", "it is a place in this process's memory", None),
    ("builtins.frame", "it is a function that is running", "its variables"),
    ("multiprocessing.queues.Queue", "it connects processes, and what is in it is on the way between them", None),
    ("multiprocessing.queues.SimpleQueue", "it connects processes, and what is in it is on the way between them", None),
    ("multiprocessing.connection._ConnectionBase", "it connects processes", None),
    ("multiprocessing.managers.BaseManager", "its objects live in another process", None),
    ("multiprocessing.managers.BaseProxy", "what it stands for lives in another process", "a copy of that"),
    ("torch.distributed.distributed_c10d.ProcessGroup", "it connects the processes of a training", None),
    ("torch.distributed.distributed_c10d.Store", "it connects the processes of a training", None),
    ("torch._C._FunctionBase", _STEP, "the tensor without it, tensor.detach()"),
    ("torch.jit._script.ScriptModule", "it is a compiled module, which Python cannot see into",
     "the module that it was compiled from (its parameters are shared with it)"),
    ("torch.cuda.graphs.CUDAGraph", "it is a recording of the GPU's work", None),
)  # fmt: skip
for _name, _what, _keep in _KINDS:
    _remedy = _ANEW if _keep is None else _BY_ITSELF
    refuse(_name, f"{_what}. {_remedy.format(keep=_keep, name=_name)}")
for _name in ("torch.cuda.streams.Stream", "torch.cuda.streams.Event"):
    skip(_name, "a queue of the GPU")


def _find(cls: type) -> Entry | None:
    if _GRAPH.fullmatch(cls.__name__) and is_native(cls):
        return Refuse(f"{_STEP}. Keep the tensor without it, tensor.detach()")
    if not issubclass(cls, np.ndarray) or cls in (np.ndarray, np.memmap):
        return None
    return Refuse(
        "it is a subclass of np.ndarray, with rules of its own. Keep the plain array: np.asarray(array)"
    )


finders.append(_find)
