"""One interpreter from which the trainings of this folder are forked, and tests that have their files to themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prepared_process import Starter

from perdure.outputs import _finding


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    made = Starter(
        "stable_baselines3",
        "torch.utils.tensorboard",
        "pandas",
        "tianshou.trainer",
        "perdure.integrations.sb3",
    )
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_files_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests of this process have left open, such as TensorBoard's writers, would be outputs of this one."""
    files, threads = set(_finding._open_for_writing()), {id(each) for each in threading.enumerate()}
    find = _finding._open_for_writing
    monkeypatch.setattr(_finding, "_open_for_writing", lambda: [each for each in find() if each not in files])
    running = SimpleNamespace(
        enumerate=lambda: [each for each in threading.enumerate() if id(each) not in threads]
    )
    monkeypatch.setattr(_finding, "threading", running)
