"""What holds for all tests, and for the processes they start."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

# Whatever a buffer's cursor says, all of its rows are compared: a wrong one is a warning, which is an error here.
os.environ.setdefault("PERDURE_CHECK_ROWS", "1")
# Tests run side by side, and work on arrays too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tianshou would compile for seconds in each process what runs there for milliseconds.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


class _OfEarlierTests:
    """What other tests of this process have left open, such as TensorBoard's writers: no outputs of this one."""

    def __init__(self) -> None:
        from perdure.outputs import _finding  # once the variables above are set

        self._find = _finding._open_for_writing
        self.look()
        _finding._open_for_writing = lambda: [each for each in self._find() if each not in self._files]
        running = SimpleNamespace(
            enumerate=lambda: [each for each in threading.enumerate() if id(each) not in self._threads]
        )
        _finding.threading = running  # type: ignore[attr-defined]

    def look(self) -> None:
        self._files, self._threads = set(self._find()), {id(each) for each in threading.enumerate()}


_of_earlier_tests = _OfEarlierTests()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _of_earlier_tests.look()


@pytest.fixture(autouse=True)
def forked_workers() -> None:
    """Worker processes are forked, as on any Linux, unless a test asks for something else.

    Importing TorchRL changes that for the whole process: each worker of every other test would be a fresh interpreter,
    which imports torch for seconds.
    """
    if multiprocessing.get_start_method(allow_none=True) not in (None, "fork"):
        multiprocessing.set_start_method("fork", force=True)


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def signals_are_left_alone() -> Iterator[None]:
    """A handler that one test leaves behind must not take the signals of another one.

    A training that an exception ended leaves Perdure's own, and TorchRL one for its memory-mapped files.
    """
    before = [signal.getsignal(each) for each in _SIGNALS]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    for number, handler in zip(_SIGNALS, before, strict=True):
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may enter.

    `tmp_path` is none, whatever its permissions: each pytest that starts on this machine closes the directory above.
    """
    directory = Path(tempfile.mkdtemp(prefix="perdure-public-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
