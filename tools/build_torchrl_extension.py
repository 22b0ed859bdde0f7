"""Builds TorchRL's C++ part, without which it has no prioritised samplers, for the torch that is installed here.

A wheel of TorchRL holds that part for one version of torch only, and brings its sources along. They are compiled once,
and what comes of it takes the place of what does not load. Where it loads, there is nothing to do. Without a compiler
the tests of these samplers are skipped; in CI that is an error.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

HEADERS = sysconfig.get_path("include")


def loads(library: Path) -> bool:
    """Whether a build is one for this torch, asked of a process of its own."""
    script = """import sys, torch, importlib.util as util
util.module_from_spec(util.spec_from_file_location("_torchrl", sys.argv[1]))"""
    return subprocess.run([sys.executable, "-c", script, library], capture_output=True).returncode == 0


def compiled(compiler: str, sources: Path, library: Path) -> bool:
    """Compile all of the sources as one: torch's headers are what takes long, and so are read only once."""
    from torch.utils.cpp_extension import include_paths, library_paths

    code = "".join(f'#include "{path.name}"\n' for path in sorted(sources.glob("*.cpp")))
    # As TorchRL's own builds are, without assertions: these would end the process.
    options = ["-std=c++20", "-O1", "-DNDEBUG", "-w", "-fPIC", "-fvisibility=hidden", "-shared"]
    options += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    options += [f"-I{path}" for path in (sources, *include_paths(), HEADERS)]
    options += [f"{option}{path}" for path in library_paths() for option in ("-L", "-Wl,-rpath,")]
    words = [*options, "-x", "c++", "-", "-lc10", "-ltorch", "-ltorch_cpu", "-ltorch_python", "-o", library]
    return subprocess.run([compiler, *words], input=code, text=True).returncode == 0


def main() -> str | None:
    """Build it if need be; returns what is wrong, if something is."""
    found = importlib.util.find_spec("torchrl")
    if found is None or found.origin is None:
        return "TorchRL is not installed: pip install -c constraints.txt -e '.[torchrl]'"
    package = Path(found.origin).parent
    library = package / f"_torchrl{sysconfig.get_config_var('EXT_SUFFIX')}"
    if loads(library):
        return None
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or not Path(HEADERS, "Python.h").exists():
        lacking = "C++ compiler (g++, or CXX=...)" if compiler is None else "Python.h (python3-dev)"
        message = f"TorchRL's C++ part is one for another torch, and no {lacking} is here to build it"
        print(f"{message}: tests are skipped.", flush=True)
        return "In CI they have to run." if os.environ.get("CI") else None
    print("Building TorchRL's C++ part for this torch, once; it takes about a minute.", flush=True)
    began, new = time.monotonic(), library.with_name(f"{os.getpid()}-{library.name}")
    if not compiled(compiler, package / "csrc", new) or not loads(new):
        new.unlink(missing_ok=True)
        return "TorchRL's C++ part could not be built, or does not load: does this torchrl fit this torch?"
    os.replace(new, library)
    print(f"Built in {time.monotonic() - began:.0f} seconds: {library}")
    return None


if __name__ == "__main__":
    sys.exit(main())
