"""Copies from an accelerator: in which order things are asked of it. (There is none where these tests run: the copies
are real, the streams are recorded.)"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure.snapshot import _cuda, _stager
from perdure.state import capture, diff
from perdure.store import Store

# Their loops take checkpoints, and no test goes on with what a loop carries.
pytestmark = pytest.mark.filterwarnings("ignore:the loop carries state")


class Recorded:
    """A device module that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def current_stream(self, device: torch.device) -> Any:
        return self.Stream(device, "training")

    def Stream(self, device: torch.device, name: str = "copies") -> Any:
        recorded = self

        class Stream:
            def wait_stream(self, other: Any) -> None:
                recorded.asked.append(f"{name} wait for {other.name}")

        Stream.name = name  # type: ignore[attr-defined]
        return Stream()

    def Event(self) -> Any:
        recorded = self

        class Event:
            def record(self, stream: Any) -> None:
                recorded.asked.append(f"note on {stream.name}")

            def synchronize(self) -> None:
                recorded.asked.append("waited")

        return Event()

    @contextmanager
    def stream(self, stream: Any) -> Any:
        self.asked.append(f"begin {stream.name}")
        yield
        self.asked.append(f"end {stream.name}")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    made = Recorded()
    monkeypatch.setattr(torch, "get_device_module", lambda device: made)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: made.asked.append("kept"))
    monkeypatch.setattr(_stager, "_streams", lambda live: live.numel() > 2)
    monkeypatch.setattr(_cuda, "pinned", lambda nbytes: np.empty(nbytes, np.uint8))
    return made


def test_the_copies_lie_between_what_was_asked_before_and_what_is_asked_next(recorded: Recorded) -> None:
    tensor, target = torch.arange(12, dtype=torch.float32).reshape(3, 4).t(), np.empty(48, np.uint8)
    wait = _cuda.begin([(tensor, (1, 0), target)])
    assert recorded.asked == [
        "copies wait for training",
        "begin copies",
        "kept",
        "note on copies",
        "end copies",
        "training wait for copies",
    ]
    wait()
    assert recorded.asked[-1] == "waited"
    assert target.view(np.float32).tolist() == list(range(12))


def test_a_checkpoint_of_tensors_on_a_device(tmp_path: Path, recorded: Recorded) -> None:
    def world() -> perdure.World:
        return perdure.World(
            odd=torch.arange(3, dtype=torch.uint8),
            half=torch.arange(30, dtype=torch.bfloat16).reshape(5, 6),
            turned=torch.arange(12.0, dtype=torch.float64).reshape(3, 4).t(),
            here=torch.arange(2),
            array=np.arange(5),
            empty=torch.empty(0),
        )

    live = world()
    with perdure.Run(tmp_path / "run") as run:
        for step in range(1, 4):
            live.half += 1
            run.checkpoint(live, step, wait=False)
            twin = capture(live)
            run.flush()
            assert recorded.asked[-1] == "waited"
            with Store.open(tmp_path / "run") as store:
                found = store.latest()
                assert found is not None
                assert diff(found.state, twin, ignore=("run*",)) == []
