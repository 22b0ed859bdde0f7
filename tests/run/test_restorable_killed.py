"""Real processes: what could not be restored stops at the first checkpoint.

With the remedy that the error names, or with what is registered for the class, the run is killed and ends as the whole
one.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prepared_process import Starter

from perdure.store import Store

SCRIPT = Path(__file__).with_name("unrestorable_training.py")
#: For each kind, the words of the error that name its remedy.
KINDS = {
    "finalizer": "perdure.register(Handle, capture=..., restore=..., create=...)",
    "native": "register a handler with create=...",
    "matrix": "perdure.state.rebuildable(csr_matrix)",
    "parametrization": "Let the script register it before the run is resumed",
    "script module": "perdure.skip(torch.jit.ScriptModule, 'it shares the parameters of a module of the world')",
    "value": "it is compiled. Keep its format",
    "structure": "it is memory of C. Keep its fields",
    "environment": "Let the script build it",
    "sentinel": "Let the script build it, or use a member of an Enum",
    "imported late": "perdure.state.rebuildable(Late)",
    "skipped": "agent.rows[0], agent.rows[1]",
}


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter("gymnasium", "torch._dynamo")
    yield starter
    starter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_stops_at_once_and_the_remedy_makes_it_exact(kind: str, starter: Starter, tmp_path: Path) -> None:
    started = starter.start(SCRIPT, tmp_path / "bare", kind, 0, 20, -1, where=tmp_path)
    assert started.wait() == 1
    assert (
        "CaptureError" if kind in ("value", "structure", "script module") else "NotRestorableError"
    ) in started.errors
    assert KINDS[kind] in started.errors
    assert Store.open(tmp_path / "bare/run").checkpoints() == []

    whole = starter.start(SCRIPT, tmp_path / "whole", kind, 1, 20, -1, where=tmp_path)
    assert whole.wait() == 0, whole.errors
    expected = whole.output.splitlines()[-1]
    for kill, code in ((7, -signal.SIGKILL), (13, -signal.SIGKILL), (-1, 0)):
        started = starter.start(SCRIPT, tmp_path / "killed", kind, 1, 20, kill, where=tmp_path)
        assert started.wait() == code, started.errors
    assert started.output.splitlines()[-1] == expected
