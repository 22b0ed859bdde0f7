"""Runs a script as `python SCRIPT ARGS` does, or as `perdure run OPTIONS SCRIPT ARGS` does, in a prepared process.

Set by environment variables: KILL_AFTER (seconds of CPU after which this process dies as by SIGKILL), CPU (a file that
is told at the end how many seconds of CPU the process took).
"""

import atexit
import os
import signal
import sys
import time
from types import ModuleType

began = time.process_time()
if path := os.environ.get("CPU"):

    @atexit.register
    def _report():
        with open(path, "w") as file:
            file.write(str(time.process_time() - began))


if after := os.environ.get("KILL_AFTER"):
    # Its default action ends the process as SIGKILL does: nothing of it runs any more. It counts what the process
    # computes, however busy the machine is.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, float(after))

if sys.argv[1] == "plain":
    script = sys.argv[2]
    sys.argv[:] = sys.argv[2:]
    sys.path[0] = os.path.dirname(script)
    with open(script) as file:
        code = compile(file.read(), script, "exec")
    sys.modules["__main__"] = main = ModuleType("__main__")
    main.__file__ = script
    exec(code, vars(main))
else:
    from perdure.cli import main

    sys.path.pop(0)
    sys.argv[:] = ["perdure", "run", *sys.argv[2:]]
    main()
