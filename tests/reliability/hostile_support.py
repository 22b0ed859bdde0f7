"""What the tests of hostile files share: a child with bounded time and memory, and all that can be done to a run."""

from __future__ import annotations

import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from click.testing import CliRunner
from damage_support import make_world, train

import perdure
from perdure.cli import main
from perdure.errors import PerdureError, PerdureWarning
from perdure.store import Store


def bounded(function: Callable[[], str], seconds: int = 60, more_memory: int | None = None) -> str:
    """What `function` returns in a forked child, which is killed after `seconds` ("hung").

    :param more_memory: bytes of address space that it may take beyond what this process has.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # instead of the handler of a test runner's own timeout
        signal.alarm(seconds)
        if more_memory is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + more_memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            result = function()
        except BaseException:
            result = traceback.format_exc()
        os.write(write, result.encode()[-60_000:])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        result = file.read().decode()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "hung" if number == signal.SIGALRM else f"killed by {signal.Signals(number).name}"
    return result


@contextmanager
def peak(found: dict[str, int], name: str) -> Iterator[None]:
    """Note how many bytes of memory what is done inside takes at its peak; 0 where nobody counts them."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
    except OSError:
        before = 0
    yield
    found[name] = max(_memory("VmHWM") - before, 0) if before else 0


def _memory(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(which))


def everything(root: Path) -> list[str]:
    """Do all that can be done to a run; the errors, each of which has to be one that says what is wrong."""
    said: list[str] = []
    policy_is_missing = FileNotFoundError  # what load_policy says where there is none

    def attempt(what: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerdureWarning)
            try:
                what()
            except (PerdureError, policy_is_missing) as error:
                said.append(str(error))

    def command(*arguments: str) -> None:
        result = CliRunner().invoke(main, [*arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in (0, 1, 2), result.output

    def go_on() -> None:
        world = make_world()
        with perdure.Run(root, lock_timeout=0.1) as run:
            info = run.resume(world)
            step = 0 if info is None else info.step
            train(world, step)
            run.report_score(100.0 + step, world)
            run.checkpoint(world, step + 1)

    attempt(lambda: Store.open(root).latest())
    attempt(lambda: Store.open(root).verify())
    for name in ("ls", "show", "verify", "repair"):
        command(name, str(root))
    attempt(go_on)
    command("repair", "--yes", str(root))
    attempt(go_on)
    attempt(lambda: perdure.load_policy(root, trust=[torch.nn]) and None)
    return said


def snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory with its mode and its content; links by where they lead."""
    found = {}
    for path in sorted(directory.rglob("*")):
        content = b""
        with suppress(OSError):
            content = (
                os.readlink(path).encode()
                if path.is_symlink()
                else path.read_bytes()
                if path.is_file()
                else b""
            )
        found[path.relative_to(directory).as_posix()] = (path.lstat().st_mode, content)
    return found
