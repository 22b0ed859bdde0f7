import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def unknown_width(monkeypatch):
    """As in a pipe: nobody says how wide the output may be (a parallel test runner does)."""
    monkeypatch.delenv("COLUMNS", raising=False)
