"""Virtual environments for packages that conflict with others; made once, under `.cache`.

Each has its own packages and, after them, those of the interpreter that runs this.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "environments"
#: The packages of each. "main" is the interpreter that runs this.
PACKAGES: dict[str, tuple[str, ...]] = {
    "dm_control": ("dm_control==1.0.50", "mujoco==3.17.0"),
    "ray": ("ray==2.60.0",),
    "nle": ("nle==1.3.0", "gymnasium==1.2.0"),
}
_MINUTES = 15


def python(name: str) -> str:
    """The interpreter of one of them, which is created if necessary.

    :raises subprocess.SubprocessError: if its packages cannot be installed.
    """
    if name == "main":
        return sys.executable
    place = CACHE / name
    found = place / "bin" / "python"
    ready = place / ".ready"
    wanted = " ".join(PACKAGES[name])
    if not (ready.exists() and ready.read_text() == wanted):
        venv.create(place, clear=True, with_pip=False)
        packages = next((place / "lib").glob("python3*")) / "site-packages"
        (packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run(
            [found, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True, timeout=_MINUTES * 60
        )
        ready.write_text(wanted)
    return str(found)
