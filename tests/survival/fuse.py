"""An environment wrapper that kills its process: with SIGKILL, at the n-th step that this process takes.

Set by environment variables: FUSE (the step), FUSE_SIGNAL (another signal, sent once), FUSE_SYNC (kill at the n-th
fsync instead, in the middle of a commit), FUSE_COUNT (a file that is told at the end how many steps were taken).
"""

import atexit
import os
import signal

import gymnasium as gym

from perdure.state import skip

_at = int(os.environ.get("FUSE", "0"))
_signal = signal.Signals[os.environ.get("FUSE_SIGNAL", "SIGKILL")]
_sync_at = int(os.environ.get("FUSE_SYNC", "0"))


class _Counts:
    """What this process has done. A variable of a module would be state of the run, and go on in the next process."""

    def __init__(self):
        self.taken = self.synced = 0


skip(_Counts, "of the process")
_counts = _Counts()


def burn():
    """Count a step that this process takes, and kill it if that was the one."""
    _counts.taken += 1
    if _counts.taken == _at:
        os.kill(os.getpid(), _signal)


class Fuse(gym.Wrapper):
    def step(self, action):
        burn()
        return self.env.step(action)


def make(env_id):
    return lambda: Fuse(gym.make(env_id))


gym.register("FusedCartPole-v1", entry_point=lambda render_mode=None: Fuse(gym.make("CartPole-v1")))


def _sync(fd, original=os.fsync):
    _counts.synced += 1
    if _counts.synced == _sync_at:
        os.kill(os.getpid(), signal.SIGKILL)
    original(fd)


if _sync_at:
    os.fsync = _sync

if path := os.environ.get("FUSE_COUNT"):

    @atexit.register
    def _report():
        with open(path, "w") as file:
            file.write(str(_counts.taken))
