"""What the store's tests share: children to run things in, and arrays to commit."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from perdure.store import Store
from perdure.tree import Array, Object, State

Arrays = dict[str, np.ndarray[Any, Any]]


def state_of(arrays: Arrays) -> State:
    """A state that consists of arrays."""
    nodes = {name: array_node(f"world.{name}", array) for name, array in arrays.items()}
    return State(Object("World", dict(nodes)), list(nodes.values()))


def array_node(name: str, array: np.ndarray[Any, Any]) -> Array:
    return Array("numpy", array.dtype.str, array.shape, tuple(range(array.ndim)), array, name=name)


def arrays_of(state: State) -> Arrays:
    """The arrays that a state consists of, read from wherever they are."""
    result = {}
    for name, node in state.root.fields.items():
        content = bytearray(node.data.nbytes)
        node.data.read_into(memoryview(content))
        result[name] = np.frombuffer(content, node.dtype).reshape(node.shape)
    return result


def commit(store: Store, arrays: Arrays, step: int = 0, **more: Any) -> int:
    """Commit `arrays`; the number of the checkpoint."""
    return store.commit(state_of(arrays), step=step, **more).info.number


def same(found: Arrays, expected: Arrays) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


def files_of(root: Path) -> list[Path]:
    """The files that a run consists of; the lock is none of them."""
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))


def in_child(function: Callable[[], str]) -> str:
    """What `function` returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            result = function()
        except BaseException:
            result = traceback.format_exc()
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        result = file.read().decode()
    os.waitpid(pid, 0)
    return result


def as_nobody(function: Callable[[], str]) -> str:
    """What `function` returns in a child without root's rights; as whoever runs the tests, if not as root."""

    def run() -> str:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return function()

    return in_child(run)


class Child:
    """A forked child that runs `function(ready)`, which writes to `ready` once it is; killed at the end."""

    def __init__(self, function: Callable[[int], None]) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                function(write)
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        os.close(write)
        assert os.read(read, 1) == b"x", "the child failed; its error is above"
        os.close(read)
        self._ended = False

    def kill(self) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended = True

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def killed_at(step: int, function: Callable[[], object], calls: Sequence[str]) -> bool:
    """Run `function` in a child that SIGKILLs itself at the `step`-th (from 1) of its system calls that are
    in `calls`.

    Half of a write is done before the kill. Whether it was killed: False if there were fewer calls.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _patch(step, calls)
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed; its error is above"
    return False


def _patch(step: int, calls: Sequence[str]) -> None:
    count = 0

    def patched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                if name == "writev" and args[1]:
                    real(args[0], [args[1][0][: args[1][0].nbytes // 2]])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in calls:
        setattr(os, name, patched(name, getattr(os, name)))
