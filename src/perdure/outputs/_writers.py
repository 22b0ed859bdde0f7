"""The writers of files that Perdure knows, each with what it takes to bring it to a checkpoint: which file it is, how
what it still holds gets there, and how it goes on after the file was changed under it. Knows no runs.
"""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from perdure.outputs import _disk


class Writer(Protocol):
    """Something in this process that writes one file from its beginning to its end.

    :param kind: what is compared with the kind in a checkpoint.
    :param path: the absolute path that finds it in a checkpoint: of the file, or of its directory where each process
        gives its files other names.
    :param truncates: whether what the file held was lost when this process opened it.
    """

    kind: str
    path: str
    truncates: bool

    @property
    def file(self) -> str:
        """The path of the file."""
        ...

    def descriptor(self) -> int | None:
        """The descriptor by which this process has the file open; None if it has not."""
        ...

    def flush(self) -> None:
        """Hand everything over to the system."""
        ...

    def go_on(self) -> None:
        """Go on at the end of the file, which was changed."""
        ...

    def move(self, path: str, file: str) -> None:
        """Go on with another file."""
        ...

    def state(self) -> dict[str, Any]:
        """What the writer itself remembers of what it wrote, as JSON."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Remember that."""
        ...


class OpenFile:
    """A file that Python has open for writing. It is held weakly, so that it is closed when the script drops it.

    :param raw: the innermost object.
    :param layers: what lies around it, from the inside out: a buffer, text.
    :param holder: what writes to it and remembers something of it, if that is known.
    """

    kind = "file"

    def __init__(self, raw: io.FileIO, layers: list[Any], holder: Any = None) -> None:
        self._raw = weakref.ref(raw)
        self._layers = [weakref.ref(each) for each in layers]
        self._holder = _nothing if holder is None else weakref.ref(holder)
        self.path = os.path.abspath(os.fsdecode(raw.name)) if isinstance(raw.name, str | bytes) else ""
        mode = getattr(layers[-1] if layers else raw, "mode", "")
        self.truncates = "w" in str(mode) or "x" in raw.mode or "w" in raw.mode
        self._appends = "a" in raw.mode

    @property
    def file(self) -> str:
        return self.path

    @property
    def is_open(self) -> bool:
        raw = self._raw()
        return raw is not None and not raw.closed

    def descriptor(self) -> int | None:
        raw = self._raw()
        return None if raw is None or raw.closed else raw.fileno()

    def flush(self) -> None:
        with suppress(ValueError):  # closed by another thread
            for layer in self._outermost_first():
                layer.flush()

    def go_on(self) -> None:
        # Each layer seeks through those below it.
        for layer in self._outermost_first():
            layer.seek(0, os.SEEK_END)
            break

    def move(self, path: str, file: str) -> None:
        self.flush()
        own = self.descriptor()
        assert own is not None
        appends = os.O_APPEND if self._appends else 0
        with _disk.opened(file, os.O_RDWR | os.O_CREAT | appends) as fd:
            os.dup2(fd, own, os.get_inheritable(own))
        self.path = path

    def state(self) -> dict[str, Any]:
        keys = _columns(self._holder())
        return {} if keys is None else {"keys": list(keys)}

    def set_state(self, state: dict[str, Any]) -> None:
        keys, saved = _columns(self._holder()), state.get("keys")
        if keys is not None and isinstance(saved, list) and all(isinstance(each, str) for each in saved):
            keys[:] = saved

    def _outermost_first(self) -> list[Any]:
        found = [each() for each in (*reversed(self._layers), self._raw)]
        return [each for each in found if each is not None]


def _nothing() -> None:
    return None


def _columns(holder: Any) -> list[str] | None:
    """The columns that a csv writer of Stable-Baselines3 knows its file to have."""
    keys = getattr(holder, "keys", None)
    return keys if isinstance(keys, list) else None


class Appended:
    """A file that the script opens to append to, and closes again, each time that it writes."""

    kind = "appended"
    truncates = False

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def file(self) -> str:
        return self.path

    def descriptor(self) -> int | None:
        return None

    def flush(self) -> None:
        pass

    def go_on(self) -> None:
        pass

    def move(self, path: str, file: str) -> None:
        raise NotImplementedError("a file that is opened anew each time is where the script opens it")

    def state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


class Registered(Appended):
    """A file that a writer of the user's writes.

    :param flush: hands everything over to the system.
    :param go_on: called after the file was changed.
    """

    kind = "registered"

    def __init__(
        self,
        path: str,
        flush: Callable[[], object] | None,
        go_on: Callable[[], object] | None,
        *,
        truncates: bool,
    ) -> None:
        super().__init__(path)
        self._flush = flush
        self._go_on = go_on
        self.truncates = truncates

    def flush(self) -> None:
        if self._flush is not None:
            self._flush()

    def go_on(self) -> None:
        if self._go_on is not None:
            self._go_on()


class Events:
    """A file of events that `torch.utils.tensorboard` writes, in a thread of its own. It opens the file for each write.

    :param thread: that writes it.
    :param file: TensorBoard's own object for a file.
    """

    kind = "events"
    truncates = True

    def __init__(self, thread: threading.Thread, file: Any) -> None:
        self._thread: Any = thread
        self._file = file
        self.path = os.path.dirname(self.file)

    @property
    def file(self) -> str:
        return os.path.abspath(os.fsdecode(self._file.filename))

    @property
    def is_open(self) -> bool:
        return bool(self._thread.is_alive()) and not self._file.closed

    def descriptor(self) -> int | None:
        return None

    def flush(self) -> None:
        if self._thread.exception is None:
            self._thread._queue.join()
            self._thread._record_writer.flush()

    def go_on(self) -> None:
        # Otherwise its next write would be its first, which empties the file.
        self._file.write_started = True

    def move(self, path: str, file: str) -> None:
        self.flush()
        self._file.filename = os.fsencode(file)
        self._file.write_started = True
        self.path = path

    def state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass


class EventsX(Events):
    """A file of events that tensorboardX writes, in a thread that gets them through a queue of another kind.

    :param thread: that writes it.
    :param writer: tensorboardX's object for the file, which `thread` writes to.
    """

    def __init__(self, thread: Any, writer: Any) -> None:
        self._thread = thread
        self._writer = writer
        # Another run of this process may have put one there.
        self._marks = writer if isinstance(writer, _Marked) else _Marked(writer)
        thread._record_writer = self._marks
        self.path = os.path.dirname(self.file)

    @property
    def file(self) -> str:
        return str(os.path.abspath(self._writer._py_recordio_writer.path))

    @property
    def is_open(self) -> bool:
        return bool(self._thread.is_alive()) and not self._writer._py_recordio_writer._writer.closed

    def descriptor(self) -> int | None:
        return int(self._writer._py_recordio_writer._writer.fileno())

    def flush(self) -> None:
        if self._thread.is_alive():
            self._thread._queue.put(_MARK)
            self._marks.passed.wait(60)
            self._marks.passed.clear()
        self._writer.flush()

    def go_on(self) -> None:
        self._writer._py_recordio_writer._writer.seek(0, os.SEEK_END)

    def move(self, path: str, file: str) -> None:
        self.flush()
        own = self.descriptor()
        assert own is not None
        with _disk.opened(file, os.O_RDWR) as fd:
            os.dup2(fd, own, inheritable=False)
        self._writer._py_recordio_writer.path = file
        self.path = path


_MARK = "perdure: everything before this is written"


class _Marked:
    """Stands before a writer of events, and notices a mark among them."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.passed = threading.Event()

    def write_event(self, event: Any) -> None:
        if isinstance(event, str) and event == _MARK:
            self.passed.set()
        else:
            self._writer.write_event(event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)
