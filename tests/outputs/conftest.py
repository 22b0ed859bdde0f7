"""One interpreter from which the trainings of this folder are forked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prepared_process import Starter


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
