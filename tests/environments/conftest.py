import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
# No window, no sound, and no GL library that a machine without a display lacks.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
