"""Rules for objects that Python's runtime keeps beside the training: locks, events, queues in C, text in memory, data
of a thread or a context, progress bars. Knows no walks and no files.

Who waits for a lock, and who holds it, is the business of this process's threads: a lock is left alone, and where the
script has none it is made open.
"""

from __future__ import annotations

import collections
import contextvars
import io
import itertools
import queue
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from perdure.state._attributes import attributes_of
from perdure.state._class_names import class_name
from perdure.state._registry import (
    Adapter,
    Handler,
    Maker,
    blank,
    made_by_name,
    rebuildable,
    register_adapter,
    register_handler,
    slots,
)
from perdure.tree import Custom

# -- locks, events, semaphores -------------------------------------------------------------------------------------


def _nothing(live: Any) -> None:
    return None


def _leave_alone(live: Any, saved: Any) -> None:
    pass


def _open_lock(make: Callable[[], Any], saved: Any) -> Any:
    return make()


_LOCKS: Any = ((threading.Lock, type(threading.Lock())), (threading.RLock, type(threading.RLock())))
for _make, _cls in _LOCKS:
    made_by_name[class_name(_cls)] = _cls
    register_handler(_cls, Handler(_nothing, _leave_alone, partial(_open_lock, _make), makes=_cls))


for _made in (threading.Barrier, queue.Queue, queue.LifoQueue, queue.PriorityQueue):
    rebuildable(_made)


def _event_state(event: threading.Event) -> dict[str, Any]:
    return {name: each for name, each in attributes_of(event).items() if name != "_cond"}


def _restore_event(event: threading.Event, saved: dict[str, Any]) -> None:
    own = {name: each for name, each in saved.items() if name != "_flag"}
    vars(event).update(own)
    # Whoever waits for it goes on.
    (threading.Event.set if saved["_flag"] else threading.Event.clear)(event)


def _create_event(saved: dict[str, Any]) -> threading.Event:
    made = threading.Event()
    _restore_event(made, saved)
    return made


def _restore_semaphore(semaphore: threading.Semaphore, saved: dict[str, Any]) -> None:
    with semaphore._cond:  # type: ignore[attr-defined]
        vars(semaphore).update(saved)
        semaphore._cond.notify_all()  # type: ignore[attr-defined]


def _create_semaphore(saved: dict[str, Any]) -> threading.Semaphore:
    made = threading.Semaphore()
    _restore_semaphore(made, saved)
    return made


def _create_bounded(saved: dict[str, Any]) -> threading.BoundedSemaphore:
    made = threading.BoundedSemaphore()
    _restore_semaphore(made, saved)
    return made


register_handler(threading.Event, Handler(_event_state, _restore_event, _create_event, makes=threading.Event))
register_handler(
    threading.Semaphore,
    Handler(_event_state, _restore_semaphore, _create_semaphore, makes=threading.Semaphore),
)
register_handler(
    threading.BoundedSemaphore,
    Handler(_event_state, _restore_semaphore, _create_bounded, makes=threading.BoundedSemaphore),
)


_CONDITION = frozenset(vars(threading.Condition()))


def _condition_fields(condition: threading.Condition) -> Mapping[str, Any]:
    own = {name: each for name, each in attributes_of(condition).items() if name not in _CONDITION}
    return {"_lock": condition._lock, **own}  # type: ignore[attr-defined]


def _assign_condition(condition: threading.Condition, name: str, value: Any) -> None:
    if name == "_lock":
        # What else it has is made of its lock.
        threading.Condition.__init__(condition, value)
    elif name in slots(type(condition)):
        slots(type(condition))[name].__set__(condition, value)
    elif name not in _CONDITION:
        vars(condition)[name] = value


def _why_no_condition(fields: Mapping[str, Any], find: Callable[[str], type | None]) -> str | None:
    return None if isinstance(fields.get("_lock"), Custom) else "it has no lock"


made_by_name[class_name(threading.Condition)] = threading.Condition
register_adapter(
    threading.Condition,
    Adapter(_condition_fields, _assign_condition, maker=Maker(blank, _why_no_condition)),
    part_of_program=False,
)


# -- queues ------------------------------------------------------------------------------------------------------------


def _queue_state(live: Any) -> list[Any]:
    # Taken out and put back in one call of C, so that no other thread sees a queue that lacks something.
    taken = itertools.starmap(live.get_nowait, itertools.repeat((), live.qsize()))
    put, kept = itertools.tee(taken)
    collections.deque(map(live.put, put), maxlen=0)
    return list(kept)


def _restore_queue(live: Any, saved: list[Any]) -> None:
    while live.qsize():
        live.get_nowait()
    for each in saved:
        live.put(each)


def _create_queue(saved: list[Any]) -> Any:
    made: Any = queue.SimpleQueue()
    _restore_queue(made, saved)
    return made


register_handler(
    queue.SimpleQueue,
    Handler(_queue_state, _restore_queue, _create_queue, makes=queue.SimpleQueue, own=frozenset()),
)


# -- text and bytes in memory ----------------------------------------------------------------------------------------


def _buffer_state(live: Any) -> dict[str, Any]:
    if live.closed:
        return {"closed": True}
    # As bytes: what a program wrote for people names no place that a checkpoint could open.
    content = live.getvalue()
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return {"content": np.frombuffer(content, np.uint8), "position": live.tell()}


def _restore_buffer(live: Any, saved: dict[str, Any]) -> None:
    if "content" not in saved:
        live.close()
        return
    if live.closed:
        raise ValueError("the checkpoint has one that is open, the script has closed it")
    content = saved["content"].tobytes()
    if isinstance(live, io.BytesIO):
        io.BytesIO.__setstate__(live, (content, saved["position"], None))  # type: ignore[attr-defined]
        return
    # The newlines are as they are in the text already; how it writes further ones stays its own.
    text, newline = content.decode("utf-8", "surrogatepass"), io.StringIO.__getstate__(live)[1]  # type: ignore[index]
    io.StringIO.__setstate__(live, (text, newline, saved["position"], None))  # type: ignore[attr-defined]


def _create_text(saved: dict[str, Any]) -> io.StringIO:
    made = io.StringIO()
    _restore_buffer(made, saved)
    return made


def _create_bytes(saved: dict[str, Any]) -> io.BytesIO:
    made = io.BytesIO()
    _restore_buffer(made, saved)
    return made


register_handler(
    io.StringIO, Handler(_buffer_state, _restore_buffer, _create_text, makes=io.StringIO, own=frozenset())
)
register_handler(
    io.BytesIO, Handler(_buffer_state, _restore_buffer, _create_bytes, makes=io.BytesIO, own=frozenset())
)


# -- a thread's and a context's own ------------------------------------------------------------------------------------


def _local_fields(local: Any) -> Mapping[str, Any]:
    return dict(local.__dict__)


def _assign_local(local: Any, name: str, value: Any) -> None:
    local.__dict__[name] = value


register_adapter(threading.local, Adapter(_local_fields, _assign_local))


def _variable_fields(variable: contextvars.ContextVar[Any]) -> Mapping[str, Any]:
    try:
        return {"value": variable.get()}
    except LookupError:
        return {}


def _assign_variable(variable: contextvars.ContextVar[Any], name: str, value: Any) -> None:
    if name != "value":
        raise ValueError(f"expected its value, found {name!r:.40}")
    variable.set(value)


register_adapter(contextvars.ContextVar, Adapter(_variable_fields, _assign_variable))


# -- progress bars -----------------------------------------------------------------------------------------------------

BARS = ("tqdm.", "rich.progress:")
"""How the recorded names of progress bars begin. A bar that the script has not made yet is its own to make."""


def is_bar(name: str) -> bool:
    """Whether this is the recorded name of a class of progress bars."""
    return name.startswith(BARS)


def _bar_fields(bar: Any) -> Mapping[str, Any]:
    return {name: vars(bar).get(name) for name in ("n", "total")}


def _assign_bar(bar: Any, name: str, value: Any) -> None:
    vars(bar)[name] = value
    if name == "n":
        # It counts on from here, and so does its speed.
        vars(bar).update(dict.fromkeys({"initial", "last_print_n"} & vars(bar).keys(), value))


def _tasks(progress: Any) -> list[Any]:
    return [task for _, task in sorted(progress._tasks.items())]


def _progress_fields(progress: Any) -> Mapping[str, Any]:
    return {f"task {task.id}": (task.completed, task.total) for task in _tasks(progress)}


def _assign_progress(progress: Any, name: str, value: Any) -> None:
    for task in _tasks(progress):
        if name == f"task {task.id}":
            task.completed, task.total = value


register_adapter("tqdm.std.tqdm", Adapter(_bar_fields, _assign_bar))
register_adapter("rich.progress.Progress", Adapter(_progress_fields, _assign_progress))
