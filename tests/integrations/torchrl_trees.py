"""Whether the C++ part of TorchRL is here, without which it has no prioritised samplers. Import this before TorchRL.

A wheel of TorchRL holds it for one version of torch only; `tools/build_torchrl_extension.py` builds it for another, as
`make test` does. Without it the tests of these samplers are skipped.
"""

import importlib
import os

import torch  # noqa: F401  # what the library is linked against

os.environ.setdefault("RL_WARNINGS", "0")
try:
    importlib.import_module("torchrl._torchrl")
    TREES = True
except ImportError:
    TREES = False
