"""Every attack of the gallery, listed, shown, verified and resumed: refused clearly, or harmless; bounded; and nothing
is imported, run or written outside the run and the script's own directory."""

from __future__ import annotations

import codecs
import contextlib
import gc
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_gallery
import pytest
from checkpoint_gallery import script
from click.testing import CliRunner
from hostile_support import bounded, peak, snapshot
from rich.cells import cell_len

import perdure
from perdure.cli import main
from perdure.errors import PerdureError

ATTACKS = checkpoint_gallery.load()

#: Seconds of the processor per byte of a run, and those that everything takes whatever the file says.
MOST_TIME, TIME_FLOOR = 10e-6, 1.0
SECONDS, MEMORY = 100, 3 << 30
#: Bytes of memory per byte of a run, and those that everything takes whatever the file says: what is live, copied.
MOST_MEMORY, FLOOR = 100, 24 << 20

#: What no file may make this process do.
_FORBIDDEN = (
    "import", "compile", "exec", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
    "socket.connect", "socket.bind", "socket.__new__", "socket.getaddrinfo", "ctypes.", "pickle.find_class", "marshal.",
    "code.__new__", "os.putenv", "os.kill", "urllib.", "webbrowser.",
)  # fmt: skip
_WRITING = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.",
)


_OWN_SOURCE = Path(script.__file__).read_bytes()


class Guard:
    """An audit hook that notes what is forbidden."""

    def __init__(self, *allowed: Path) -> None:
        self.allowed = tuple(os.path.realpath(path) for path in allowed)
        self.found: list[str] = []
        self.active = False
        self.seconds = 0.0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "compile" and arguments[0] == _OWN_SOURCE:
            return  # the script's own text, to tell what was edited: nothing of it is run
        if event.startswith(_FORBIDDEN):
            self.found.append(f"{event} {arguments[:1]!r:.200}")
        elif event.startswith(_WRITING) or (event == "open" and _is_for_writing(arguments)):
            for path in arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]:
                # Without a directory's name it is below one that was opened before.
                if isinstance(path, str) and path.startswith("/") and not self._is_allowed(path):
                    self.found.append(f"{event} {path}")

    def _is_allowed(self, path: str) -> bool:
        name = os.path.realpath(os.path.dirname(path)) + os.sep + os.path.basename(path)
        return path == os.devnull or any(
            name == each or name.startswith(each + os.sep) for each in self.allowed
        )

    @contextlib.contextmanager
    def watching(self) -> Any:
        began, self.active = time.process_time(), True
        try:
            yield
        finally:
            self.active = False
            self.seconds = time.process_time() - began


def _is_for_writing(arguments: tuple[Any, ...]) -> bool:
    mode, flags = (*arguments, None, None)[1:3]
    if isinstance(mode, str):
        return not set(mode).isdisjoint("wax+")
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    assert not set(result.output) & set(map(chr, (*range(10), *range(11, 32), 127, 155))), result.output[:500]
    return f"exit {result.exit_code}: {result.output[:2000]}"


def resume(root: Path, out: Path, world: str) -> str:
    """What the script says when it is started again."""
    built = perdure.World(**script.WORLDS[world](out))
    key = built.thing.api_key
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        try:
            with perdure.Run(root, lock_timeout=0.1) as run:
                info = run.resume(built)
                said = "nothing to go on from" if info is None else f"went on at step {info.step}"
                with contextlib.suppress(Exception):
                    script.use(built)  # a state that is a state, and one that this script cannot use
                assert built.thing.out == str(out)
                assert built.thing.log == f"{out}/log.csv"
        except PerdureError as error:
            said = f"refused: {error}"
    assert built.thing.api_key == key
    assert built.thing.method() == "mine"
    return " | ".join([said, *(str(each.message) for each in given)])


def doings(root: Path, out: Path, world: str) -> dict[str, Callable[[], str]]:
    return {
        "ls": lambda: command("ls", root),
        "show": lambda: command("show", root),
        "show --tree": lambda: command("show", root, "--tree", "thing"),
        "show --json": lambda: command("show", root, "--json"),
        "verify": lambda: command("verify", root),
        "resume": lambda: resume(root, out, world),
    }


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A run of each script, with two checkpoints and a best policy, whose directory was worked with once: what is
    imported lazily is imported then."""
    made: dict[str, Path] = {}

    def make(world: str) -> Path:
        if world not in made:
            top = tmp_path_factory.mktemp(world)
            (top / "out").mkdir()
            try:
                built = perdure.World(**script.WORLDS[world](top / "out"))
            except ImportError as error:
                pytest.skip(str(error))
            with perdure.Run(top / "run") as run:
                run.resume(built)
                run.checkpoint(built, 1)
                if world == "plain":
                    run.report_score(1.5, built, built.net)
                run.checkpoint(built, 2)
            broken = Path(shutil.copytree(top / "run", top / "broken", symlinks=True))
            for path in broken.glob("checkpoints/*.json"):
                path.write_bytes(b"x")
            for root in (top / "run", broken):
                for do in doings(root, top / "out", world).values():
                    do()
            # Python and rich look at what is printed with modules that are imported when they are needed.
            codecs.lookup("unicode_escape")
            cell_len("\N{HORIZONTAL ELLIPSIS}\N{SNOWMAN}")
            made[world] = top
        return made[world]

    return make


def work(root: Path, out: Path, world: str) -> str:
    """All that can be done to a run, as JSON: what is said, how long it takes, what was forbidden."""
    guard = Guard(root, out)
    gc.freeze()
    gc.disable()  # what is garbage may stay: this process ends soon
    said: dict[str, str] = {}
    seconds: dict[str, float] = {}
    memory: dict[str, int] = {}
    for name, do in doings(root, out, world).items():
        with peak(memory, name), guard.watching():
            said[name] = do()
        seconds[name] = guard.seconds
    return json.dumps({"said": said, "seconds": seconds, "memory": memory, "found": guard.found})


def test_a_run_that_is_whole(intact: Callable[[str], Path]) -> None:
    """What is forbidden is done by nobody, and all goes well, where nothing was forged."""
    top = intact("plain")
    done = json.loads(bounded(lambda: work(top / "run", top / "out", "plain"), SECONDS))
    assert done["found"] == []
    assert "went on at step 2" in done["said"]["resume"]


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(
    name: str,
    intact: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    attack = ATTACKS[name]
    top = Path(shutil.copytree(intact(attack.world), tmp_path / "top", symlinks=True))
    root, out = top / "run", top / "out"
    (top / "work").mkdir()
    (top / "work" / "link").symlink_to(top)
    (tmp_path / "gallery_canary.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(top / "work")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    (top / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(top / "temporary"))
    forged = checkpoint_gallery.Forged(root)
    attack.change(forged)
    forged.save()
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    before = snapshot(tmp_path)
    result = bounded(lambda: work(root, out, attack.world), SECONDS, MEMORY)
    assert result.startswith("{"), f"{attack.reason}: {result}"
    done = json.loads(result)
    assert done["found"] == [], f"{attack.reason}: {done['found']}"
    assert attack.refused in done["said"]["resume"] if attack.refused else True, done["said"]["resume"]
    assert "refused" in done["said"]["resume"] or "damaged" in done["said"]["resume"] or not attack.refused
    for doing, taken in done["seconds"].items():
        assert taken <= MOST_TIME * size + TIME_FLOOR, (doing, taken, size)
    for doing, taken in done["memory"].items():
        assert taken <= MOST_MEMORY * size + FLOOR, (doing, taken, size)
    inside = ("top/run/", "top/out/")
    changed = dict(before.items() ^ snapshot(tmp_path).items())
    assert [path for path in changed if not path.startswith(inside)] == []
    assert not os.path.exists(os.path.expanduser("~/evil-of-perdure"))


def test_the_gallery_is_large_and_gives_reasons() -> None:
    assert len(ATTACKS) > 200
    assert all(attack.reason for attack in ATTACKS.values())
