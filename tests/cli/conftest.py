import pytest


@pytest.fixture(autouse=True)
def unknown_width(monkeypatch):
    """As in a pipe: nobody says how wide the output may be (a parallel test runner does)."""
    monkeypatch.delenv("COLUMNS", raising=False)
