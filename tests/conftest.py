"""What holds for all tests, and for the processes they start."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Whatever a buffer's cursor says, all of its rows are compared: a wrong one is a warning, which is an error here.
os.environ.setdefault("PERDURE_CHECK_ROWS", "1")
# Tests run side by side, and work on arrays too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tianshou would compile for seconds in each process what runs there for milliseconds.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may enter.

    `tmp_path` is none, whatever its permissions: each pytest that starts on this machine closes the directory above.
    """
    directory = Path(tempfile.mkdtemp(prefix="perdure-public-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
