import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def intact(tmp_path_factory):
    """A run as `Run` makes it, with three checkpoints and a best policy; not to be changed."""
    from damage_support import small_run

    return small_run(tmp_path_factory.mktemp("intact") / "run")


@pytest.fixture
def root(intact, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(intact, tmp_path / "run", symlinks=True))


@pytest.fixture(autouse=True)
def unknown_width(monkeypatch):
    """As in a pipe: nobody says how wide the output may be (a parallel test runner does)."""
    monkeypatch.delenv("COLUMNS", raising=False)
