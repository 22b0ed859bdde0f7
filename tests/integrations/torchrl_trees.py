"""The C++ part of TorchRL, without which it has no prioritised samplers. Import this before TorchRL.

A wheel of TorchRL holds it for one version of torch only. Where that is another one, it can be built from the sources
that the wheel brings along: `python torchrl_trees.py DIRECTORY`, which takes minutes; with TORCHRL_TREES=DIRECTORY in
the environment the tests use it. Without it the tests of these samplers are skipped.
"""

import importlib.util
import os
import sys
from pathlib import Path

_built = Path(os.environ.get("TORCHRL_TREES", "none")) / "_torchrl.so"


def _load() -> bool:
    import torch  # noqa: F401  # what the library is linked against

    try:
        if _built.exists():
            spec = importlib.util.spec_from_file_location("torchrl._torchrl", _built)
            assert spec is not None
            assert spec.loader is not None
            sys.modules["torchrl._torchrl"] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        importlib.import_module("torchrl._torchrl")
    except ImportError:
        return False
    return True


def build(directory: str) -> None:
    from torch.utils import cpp_extension

    sources = Path(importlib.util.find_spec("torchrl").origin).parent / "csrc"
    Path(directory).mkdir(parents=True, exist_ok=True)
    cpp_extension.load(
        "_torchrl",
        [str(sources / name) for name in ("pybind.cpp", "utils.cpp")],
        build_directory=directory,
        extra_cflags=["-O1"],
        is_python_module=True,
    )


if __name__ == "__main__":
    build(sys.argv[1])
else:
    os.environ.setdefault("RL_WARNINGS", "0")
    TREES = _load()
