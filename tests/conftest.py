"""What holds for all tests, and for the processes they start."""

import os

# Whatever a buffer's cursor says, all of its rows are compared: a wrong one is a warning, which is an error here.
os.environ.setdefault("PERDURE_CHECK_ROWS", "1")
