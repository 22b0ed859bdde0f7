"""What holds for all tests, and for the processes they start."""

import os

# Whatever a buffer's cursor says, all of its rows are compared: a wrong one is a warning, which is an error here.
os.environ.setdefault("PERDURE_CHECK_ROWS", "1")
# Tests run side by side, and work on arrays too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tianshou would compile for seconds in each process what runs there for milliseconds.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
