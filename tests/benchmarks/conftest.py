import sys
from pathlib import Path

# The benchmarks are part of the repository, not of the package: they are run from its root.
sys.path.insert(0, str(Path(__file__).parents[2]))
