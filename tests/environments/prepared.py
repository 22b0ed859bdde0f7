"""Processes for checks that have imported already what takes longest: forked from one that has done nothing else.

What such processes share (the seed of hashes, where things lie in memory) is what `check` must be able to tell apart,
so whatever is about that takes real ones.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace


class Starter:
    """Stands for the module `subprocess` where a check starts its processes."""

    DEVNULL, STDOUT, TimeoutExpired = subprocess.DEVNULL, subprocess.STDOUT, subprocess.TimeoutExpired

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip

    def Popen(self, command, *, stdout, env, **others):
        order = {"job": command[-1], "log": stdout.name, "environment": env}
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return SimpleNamespace(pid=0, returncode=code, wait=lambda timeout=None: code)

    def close(self):
        self.server.stdin.close()
        self.server.wait(20)


def _serve():
    import gymnasium  # noqa: F401
    import torch  # noqa: F401

    import perdure.state
    import perdure.store  # noqa: F401
    from perdure.check_env import _child, _driver, _outputs, _untracked_state  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order, _child._main)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(order, main):
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environment"])
        sys.argv = ["child", order["job"]]
        main()
        code = 0
    except SystemExit as reason:
        code = reason.code
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
