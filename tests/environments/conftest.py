import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# No window, no sound, and no GL library that a machine without a display lacks.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


@pytest.fixture(scope="session")
def starter():
    from prepared import Starter

    starter = Starter()
    yield starter
    starter.close()


@pytest.fixture
def prepared(starter, monkeypatch):
    """Lets checks fork their processes, which spares each the import of torch."""
    from perdure.check_env import _subprocesses

    monkeypatch.setattr(_subprocesses, "subprocess", starter)
    monkeypatch.setattr(_subprocesses, "_wait", lambda process, timeout: True)
