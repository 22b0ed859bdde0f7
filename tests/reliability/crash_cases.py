"""Programs that use a run as a training does, and the check that each must pass after a crash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import io
import itertools
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from exhaustion import Found, Tally, explore_all
from simulated_disk import Bounds, Killed, Mark, Record, Recorder, State, materialize, record, states

import perdure
from perdure.errors import PerdureWarning
from perdure.inspect import _policies
from perdure.persistence import checksums, versions
from perdure.store import LocalBackend, Store
from perdure.tree import Array, Object
from perdure.tree import State as RunState

#: A case is recorded and its states are made in memory: thousands of small directories.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


#: What is gone through where it cannot be all: programs that sync nothing, and long ones.
QUICK = Bounds(product=24, apart=1, samples=4, subsets=1)
COARSE = Bounds(product=4, apart=1, samples=2, subsets=1)


@dataclass(frozen=True)
class Case:
    """A program, and the check that every state of its disk after a crash must pass.

    :param prepare: fills a new directory with what the program starts from; all of it counts as durable.
    :param program: works in that directory and marks its progress with numbers. Started again after a crash, it goes
        on.
    :param check: raises AssertionError, or any other error, unless the directory is valid after the last of the given
        marks. It may change the directory.
    """

    prepare: Callable[[Path], None]
    program: Callable[[Path, Recorder], None]
    check: Callable[[Path, tuple[int, ...]], None]


@dataclass
class Counts:
    operations: int = 0
    states: int = 0
    checked: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.operations + other.operations, self.states + other.states, self.checked + other.checked
        )

    def __str__(self) -> str:
        return f"{self.operations} operations, {self.states} states, {self.checked} different ones checked"


class Lost(AssertionError):
    """A crash left something that must not be."""


#: What was found good before: the digest of a state and the marks.
Seen = set[tuple[bytes, tuple[int, ...]]]


@contextmanager
def place() -> Iterator[Path]:
    """A directory in memory, where the system has such a place."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-crash-", dir=FAST))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def record_case(case: Case) -> Record:
    """What the case's program does to the disk."""
    with place() as directory:
        case.prepare(directory)
        with record(directory) as recorder:
            case.program(directory, recorder)
    return recorder.record


def record_killed(case: Case, after: int) -> tuple[Record, bool]:
    """What the disk sees if the program is killed after so many operations, and started again while what it did is
    still in the system's memory; and whether it was killed at all.
    """
    killed = False
    with place() as directory:
        case.prepare(directory)
        with record(directory) as recorder:
            recorder.stop_after = after
            try:
                case.program(directory, recorder)
            except Killed:
                killed = True
            recorder.stop_after = None
            _let_go(directory)
            case.program(directory, recorder)
    return recorder.record, killed


def _let_go(directory: Path) -> None:
    """Close what is open in the directory, as the end of a process does; with the lock's file ends the lock."""
    gc.collect()
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(f"{directory}/") and _is_open_to_write(fd):
                os.close(fd)


def _is_open_to_write(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def explore(
    record: Record,
    check: Callable[[Path, tuple[int, ...]], None],
    bounds: Bounds,
    seen: Seen | None = None,
    *,
    since: int = 0,
    every: int = 1,
) -> Counts:
    """Check every state that a crash during what was recorded may leave.

    :param since: only crashes after so many operations.
    :param every: only each `every`-th state.
    :param seen: states that need not be checked again; those that are checked are added.
    :raises Lost: at the first that is not as it must be; it tells what was kept and what was not.
    """
    seen = set() if seen is None else seen
    counts = Counts(operations=len(record.operations))
    with place() as directory:
        for state in states(record, bounds, since=since):
            counts.states += 1
            if counts.states % every:
                continue
            key = (state.digest, state.marks)
            if key in seen:
                continue
            counts.checked += 1
            _check(state, check, directory / str(counts.checked))
            seen.add(key)
    return counts


def explore_whole(
    record: Record,
    check: Callable[[Path, tuple[int, ...]], None],
    found: Found | None = None,
    *,
    since: int = 0,
) -> Tally:
    """Check every state that a crash during what was recorded may leave, none left out; see exhaustion.py.

    :raises Lost: at the first that is not as it must be.
    """
    with place() as directory:
        return explore_all(
            record, lambda state, target: _judge(state, check, target), directory, found, since=since
        )


def explore_recovery(
    first: Record, case: Case, every: int = 1, going: Callable[[], bool] = lambda: True
) -> tuple[Tally, int, int]:
    """Crash while a crash is recovered from, in every state that the first one may leave that is another one to who
    recovers.

    :param every: only in each `every`-th of them.
    :param going: whether to go on with the next one.
    :return: what was gone through, how many of the first crash's states, and how many there are.
    """
    found: list[State] = []
    with place() as directory:
        explore_all(first, lambda state, target: _judge_and_keep(state, case.check, target, found), directory)
    seen, tally, done = Found(), Tally(), 0
    for state in found[::every]:
        if not going():
            break
        again = Case(lambda root, tree=state.tree: materialize(tree, str(root)), case.program, case.check)
        second = record_case(again)
        second.operations[:0] = [Mark(value) for value in state.marks]
        tally += explore_whole(second, case.check, seen, since=len(state.marks))
        done += 1
    return tally, done, len(found)


def explore_killed(
    case: Case, every: int = 1, going: Callable[[], bool] = lambda: True
) -> tuple[Tally, int, bool]:
    """Crash a program that was killed and started again, the system still knowing what the first one did.

    :param every: it is killed after each `every`-th operation.
    :param going: whether to go on with the next one.
    :return: what was gone through, after how many operations it was killed last, and whether that was all.
    """
    seen, tally = Found(), Tally()
    after, killed = 0, True
    while killed and going():
        record, killed = record_killed(case, after)
        tally += explore_whole(record, case.check, seen, since=after)
        after += every
    return tally, after - every, not killed


def _check(state: State, check: Callable[[Path, tuple[int, ...]], None], target: Path) -> None:
    materialize(state.tree, str(target))
    _judge(state, check, target)
    shutil.rmtree(target)


def _judge_and_keep(
    state: State, check: Callable[[Path, tuple[int, ...]], None], target: Path, found: list[State]
) -> None:
    _judge(state, check, target)
    found.append(state)


def _judge(state: State, check: Callable[[Path, tuple[int, ...]], None], target: Path) -> None:
    try:
        # What Perdure warns of (a damaged checkpoint) is an error here: a crash must not leave it.
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerdureWarning)
            check(target, state.marks)
    except Exception as error:
        raise Lost(
            f"{state.story}\nannounced: {list(state.marks)}\n{type(error).__name__}: {error}"
        ) from error


# -- the backend ------------------------------------------------------------------------------------------------------

_OBJECTS = {1: "run.json", 2: "packs/one", 3: "packs/two", 4: "deep/er/three"}


def _put(root: Path, recorder: Recorder) -> None:
    backend = LocalBackend(root / "run")
    for mark, name in _OBJECTS.items():
        backend.put(name, [name.encode() * 500, b"end"])
        recorder.mark(mark)
    for mark, name in _OBJECTS.items():
        backend.delete(name)
        recorder.mark(-mark)


def _check_put(root: Path, marks: tuple[int, ...]) -> None:
    """What was put is there as a whole, what was deleted is not, and what was not finished is either."""
    backend = LocalBackend(root / "run")
    put, deleted = ({abs(mark) for mark in marks if mark * sign > 0} for sign in (1, -1))
    beginning = len(deleted) + 1 if len(put) == len(_OBJECTS) else 0
    for mark, name in _OBJECTS.items():
        try:
            assert backend.get(name) == name.encode() * 500 + b"end", f"{name} is not whole"
            assert mark not in deleted, f"{name} is there again"
        except FileNotFoundError:
            assert mark not in put or mark in deleted or mark == beginning, f"{name} is gone"


# -- the store --------------------------------------------------------------------------------------------------------

Arrays = dict[str, np.ndarray[Any, Any]]
#: Added to the step in a mark: retention after the commit of this step is done; or, this is the step resumed from,
#: which a process that was killed may have committed without saying so.
RETAINED, RESUMED = 100, 200


def arrays_at(step: int) -> Arrays:
    """What the run holds at a step: some of it is always the same, some is always new."""
    rng = np.random.default_rng(step)
    return {"same": np.arange(2000), "new": rng.random(150), "little": np.array([step], np.uint8)}


def state_at(step: int) -> RunState:
    """The same as a state."""
    fields = {
        name: Array("numpy", array.dtype.str, array.shape, (0,), array, name=f"world.{name}")
        for name, array in arrays_at(step).items()
    }
    return RunState(Object("World", fields))


def is_whole(state: RunState, step: int) -> bool:
    """Whether it is that of the step, bit for bit."""
    found = {}
    for name, node in state.root.fields.items():
        content = bytearray(node.data.nbytes)
        node.data.read_into(memoryview(content))
        found[name] = (node.dtype, bytes(content))
    return found == {name: (array.dtype.str, array.tobytes()) for name, array in arrays_at(step).items()}


def check_store(root: Path, at_least: int, at_most: int, oldest: int = 0) -> None:
    """The newest checkpoint is one of those (0: none), for a reader and for a writer; then the run goes on.

    :param oldest: checkpoints of earlier steps are gone.
    """
    if at_least:
        with Store.open(root) as store:
            found = store.latest()
            assert found is not None
            assert at_least <= found.info.step <= at_most, f"a reader finds step {found.info.step}"
            assert is_whole(found.state, found.info.step)
            problems = [problem for problem in store.verify() if not problem.harmless]
            assert problems == [], f"a reader finds {problems}"
    with Store.open(root, write=True) as store:
        found = store.latest()
        step = 0 if found is None else found.info.step
        assert at_least <= step <= at_most, f"a writer finds step {step}"
        assert found is None or is_whole(found.state, step)
        assert all(info.step >= oldest for info in store.checkpoints()), "what was deleted is there again"
        # Also what is harmless, such as a pack that nobody needs.
        assert (problems := store.verify()) == [], f"a writer finds {problems}"
        assert (left := leftovers(root)) == [], f"left behind: {left}"
        store.commit(state_at(99), step=99)
        newest = store.latest()
        assert newest is not None
        assert newest.info.step == 99
        assert is_whole(newest.state, 99)
        assert (problems := store.verify()) == [], f"after another commit: {problems}"


def leftovers(root: Path) -> list[str]:
    """Files with temporary names."""
    return [
        os.path.join(here, name)
        for here, *names in os.walk(root)
        for name in itertools.chain(*names)
        if name[:2] == ".t"
    ]


def begin_store(root: Path) -> None:
    with Store.open(root, write=True) as store:
        for step in (1, 2):
            store.commit(state_at(step), step=step)


def _create(root: Path, recorder: Recorder) -> None:
    with Store.open(root / "above" / "run", write=True) as store:
        recorder.mark(0)
        store.commit(state_at(1), step=1)
        recorder.mark(1)


def _check_created(root: Path, marks: tuple[int, ...]) -> None:
    if marks:
        Store.open(root / "above" / "run").close()
    check_store(root / "above" / "run", max(marks, default=0), 1)


def _commit(root: Path, recorder: Recorder) -> None:
    """What a run does: resume, commit, delete what is too old, commit again."""
    with Store.open(root, write=True) as store:
        found = store.latest()
        assert found is not None
        recorder.mark(RESUMED + found.info.step)
        for step in range(found.info.step + 1, 5):
            store.commit(state_at(step), step=step)
            recorder.mark(step)
            store.retain(lambda infos: [info.number for info in infos[-2:]])
            recorder.mark(RETAINED + step)


def _check_committed(root: Path, marks: tuple[int, ...]) -> None:
    done = max((mark for mark in marks if mark < RETAINED), default=2)
    kept = max((mark - RETAINED - 1 for mark in marks if RETAINED < mark < RESUMED), default=0)
    resumed = max((mark - RESUMED for mark in marks if mark > RESUMED), default=2)
    check_store(root, done, min(max(done, resumed) + 1, 4), kept)


@contextmanager
def _small_packs() -> Iterator[None]:
    """Each commit writes several packs, and puts those of earlier ones together."""
    with (
        mock.patch("perdure.store._packs.PACK_BYTES", 1000),
        mock.patch("perdure.store._commit_plan.MOST_SMALL_PACKS", 3),
    ):
        yield


def _begin_small_packs(root: Path) -> None:
    with _small_packs():
        begin_store(root)
        assert len(list((root / "packs").iterdir())) > 2


def _commit_small_packs(root: Path, recorder: Recorder) -> None:
    with _small_packs():
        _commit(root, recorder)


def _check_small_packs(root: Path, marks: tuple[int, ...]) -> None:
    with _small_packs():
        _check_committed(root, marks)


def _collect(root: Path) -> None:
    """A run of many checkpoints, of which most will be deleted."""
    with Store.open(root, write=True) as store:
        for step in range(1, 7):
            store.commit(state_at(step), step=step)


def _retain(root: Path, recorder: Recorder) -> None:
    with Store.open(root, write=True) as store:
        store.retain(lambda infos: [info.number for info in infos[-1:]])
        recorder.mark(RETAINED + 7)


def _check_retained(root: Path, marks: tuple[int, ...]) -> None:
    check_store(root, 6, 6, 6 if marks else 0)


def _lose_run_file(root: Path) -> None:
    begin_store(root)
    (root / "run.json").write_bytes(b"")


def _mend(root: Path, recorder: Recorder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerdureWarning)
        with Store.open(root, write=True):
            recorder.mark(2)


def _check_mended(root: Path, marks: tuple[int, ...]) -> None:
    if not marks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerdureWarning)
            Store.open(root, write=True).close()
    check_store(root, 2, 2)


def _damage(root: Path) -> None:
    """The newest checkpoint is damaged, as are `run.json` and the best policy; an older one of each is good."""
    begin_store(root)
    with Store.open(root, write=True) as store:
        store.commit(state_at(3), step=3)
    for name in ("run.json", "checkpoints/00000003.json"):
        (root / name).write_bytes((root / name).read_bytes()[:-9] + b"x")
    for files in (_OLD, _NEW):
        staging = Path(versions.begin(root))
        (staging / "policy.pt").write_bytes(files["policy.pt"])
        checksums.write(str(staging))
        versions.publish(str(staging), versions.next_version(root))
    (root / "policy.pt").write_bytes(b"damaged")


def _repair(root: Path, recorder: Recorder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerdureWarning)
        _policies.repair(str(root), _policies.plan_repair(str(root)).steps)
    recorder.mark(2)


def _check_repaired(root: Path, marks: tuple[int, ...]) -> None:
    """What is good is used whenever the repair was cut off, and a second one does the rest."""
    with warnings.catch_warnings():
        # That something is damaged is known, before the repair is done.
        warnings.simplefilter("error" if marks else "ignore", PerdureWarning)
        with Store.open(root) as store:
            found = store.latest()
            assert found is not None
            assert found.info.step == 2
            assert is_whole(found.state, 2)
        plan = _policies.plan_repair(str(root))
        assert plan.left == []
        assert not marks or plan.steps == [], f"after the repair there was still to do: {plan.steps}"
        _policies.repair(str(root), plan.steps)
    assert _policies.check_policies(str(root)) == []
    assert (root / "policy.pt").read_bytes() == _OLD["policy.pt"]
    check_store(root, 2, 2)


# -- the best policy --------------------------------------------------------------------------------------------------

Files = dict[str, bytes]
_OLD: Files = {
    "policy.pt": b"old policy" * 100,
    "norm.json": b"old norm",
    "only-old.txt": b"x",
    "sub/a.txt": b"old",
}
_NEW: Files = {
    "policy.pt": b"new policy" * 120,
    "norm.json": b"new norm",
    "only-new.txt": b"y",
    "sub/b.txt": b"new",
}


def write_version(root: Path, files: Files, name: str | None = None) -> None:
    """Publish those files."""
    staging = versions.begin(root)
    for file, content in files.items():
        path = Path(staging, file)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    versions.publish(staging, name or versions.next_version(root), link=name is None)


def seen_files(root: Path) -> Files:
    """What a reader finds at the root: every file that is there."""
    found = {}
    for name in os.listdir(root):
        path = root / name
        if name.startswith(".") or name in (versions.BEST, versions.POLICIES) or not path.exists():
            continue
        if path.is_dir():
            found.update({f"{name}/{file.name}": file.read_bytes() for file in path.iterdir()})
        else:
            found[name] = path.read_bytes()
    return found


def check_versions(root: Path, *expected: Files, whole: tuple[Files, ...] = ()) -> None:
    """A reader sees all of one of `expected`, before and after the next writer; versions are whole; it goes on."""
    assert seen_files(root) in expected, f"a reader sees {shown(seen_files(root))}"
    if versions.best(root) is not None:
        assert files_of_best(root) in (*expected, *whole), f"the best is {shown(files_of_best(root))}"
    versions.clean(root)
    assert seen_files(root) in expected, f"after the next writer, a reader sees {shown(seen_files(root))}"
    assert (left := leftovers(root)) == [], f"left behind: {left}"
    for name in versions.names(root):
        version = root / versions.POLICIES / name
        files = {
            str(path.relative_to(version)): path.read_bytes() for path in version.rglob("*") if path.is_file()
        }
        assert files in (*expected, *whole), f"version {name} has {shown(files)}"
    last = {"policy.pt": b"last", "norm.json": b"last", "sub/a.txt": b"last"}
    write_version(root, last)
    assert seen_files(root) == last, f"after another one, a reader sees {shown(seen_files(root))}"
    versions.prune(root, ())
    assert len(versions.names(root)) == 1


@contextmanager
def no_links() -> Iterator[None]:
    """As on a file system that has neither symbolic nor hard links."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    with mock.patch.object(os, "symlink", refuse), mock.patch.object(os, "link", refuse):
        yield


def _old_without_links(root: Path) -> None:
    with no_links():
        write_version(root, _OLD)


def _next_without_links(root: Path, recorder: Recorder) -> None:
    with no_links():
        _next_version(root, recorder)


def _check_without_links(root: Path, marks: tuple[int, ...]) -> None:
    """Each file at the root is whole; the version says which belong together; the next writer puts all right."""
    with no_links():
        seen = seen_files(root)
        assert "policy.pt" in seen, "a reader sees no policy"
        for name, content in seen.items():
            assert content in (_OLD.get(name), _NEW.get(name)), f"a reader sees {name}: {content[:12]!r}"
        files = files_of_best(root)
        assert files in ([_NEW] if marks else [_OLD, _NEW]), f"the best version has {shown(files)}"
        assert not marks or seen == files, f"a reader sees {shown(seen)}"
        for name in ("policy.pt", "norm.json"):
            assert Path(versions.published_file(root / name)).read_bytes() == files[name], (
                "another version is used"
            )
        versions.clean(root)
        assert seen_files(root) == files, f"after the next writer, a reader sees {shown(seen_files(root))}"
        check_versions(root, files, whole=(_OLD,))


def files_of_best(root: Path) -> Files:
    """What the best version consists of."""
    version = root / versions.POLICIES / (versions.best(root) or "none")
    return {
        str(path.relative_to(version)): path.read_bytes() for path in version.rglob("*") if path.is_file()
    }


def shown(files: Files) -> dict[str, bytes]:
    return {name: content[:12] for name, content in files.items()}


def _first_version(root: Path, recorder: Recorder) -> None:
    versions.clean(root)
    write_version(root, _NEW)
    recorder.mark(1)


def _next_version(root: Path, recorder: Recorder) -> None:
    versions.clean(root)
    write_version(root, _NEW)
    recorder.mark(1)
    versions.prune(root, ())
    recorder.mark(2)


def _foreign_files(root: Path) -> None:
    (root / "policy.pt").write_bytes(b"someone's")
    (root / "norm.json").write_bytes(b"also someone's")


_FOREIGN: Files = {"policy.pt": b"someone's", "norm.json": b"also someone's"}


def _check_foreign(root: Path, marks: tuple[int, ...]) -> None:
    check_versions(root, *([_NEW] if marks else [_FOREIGN, _NEW]))
    # What someone else had there is never lost, wherever the crash was.
    kept = {(path.name, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    assert set(_FOREIGN.items()) <= kept, "the files of someone else are lost"


def _old_and_foreign(root: Path) -> None:
    """There is a version, and someone has replaced one of its links."""
    write_version(root, _OLD)
    (root / "policy.pt").unlink()
    (root / "policy.pt").write_bytes(b"someone's")


def _check_old_and_foreign(root: Path, marks: tuple[int, ...]) -> None:
    mixed = {**_OLD, "policy.pt": b"someone's"}
    check_versions(root, *([_NEW] if marks else [mixed, _OLD, _NEW]), whole=(_OLD,))
    kept = [path.read_bytes() for path in root.rglob("policy.pt") if path.is_file()]
    assert b"someone's" in kept, "the file of someone else is lost"


def _foreign_directory(root: Path) -> None:
    _foreign_files(root)
    (root / "sub").mkdir()
    (root / "sub" / "a.txt").write_bytes(b"theirs")


def _check_foreign_directory(root: Path, marks: tuple[int, ...]) -> None:
    # A directory has one name, so readers miss it while it is moved; the files beside it they do not.
    before = {**_FOREIGN, "sub/a.txt": b"theirs"}
    check_versions(root, *([_NEW] if marks else [before, _FOREIGN, _NEW]))
    kept = {(path.name, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    assert {*_FOREIGN.items(), ("a.txt", b"theirs")} <= kept, "the files of someone else are lost"


# -- a whole run ------------------------------------------------------------------------------------------------------

TOTAL = 6


def train(root: Path, until: int = TOTAL, announce: Callable[[int], None] = lambda step: None) -> list[float]:
    """A small training with checkpoints, a best policy and retention; its trace."""
    torch.manual_seed(1)
    np.random.seed(1)
    model = torch.nn.Linear(2, 1)
    world = perdure.World(model=model, optimizer=torch.optim.Adam(model.parameters()), trace=[])
    # What records the disk is no part of the training.
    with perdure.Run(root, keep=2, skip=["script state*"]) as run:
        for step in run.steps(world, TOTAL, every=1):
            announce(0 if run.last is None else run.last.step)
            if step == until:
                break
            world.optimizer.zero_grad()
            loss = (model(torch.randn(4, 2)) - float(np.random.rand())).square().mean()
            loss.backward()
            world.optimizer.step()
            world.trace.append(loss.item())
            if step in (1, 3):
                run.report_score(float(step), world)
                announce(RETAINED + step)
    return list(world.trace)


def _begin_training(root: Path) -> None:
    train(root / "run", 2)


def _go_on_training(root: Path, recorder: Recorder) -> None:
    train(root / "run", 5, lambda mark: recorder.mark(mark))


_whole: list[float] = []


def _check_training(root: Path, marks: tuple[int, ...]) -> None:
    """What was committed is there, a best policy too, and the run ends as if nothing had been."""
    run = root / "run"
    committed = max((mark for mark in marks if mark < RETAINED), default=2)
    with Store.open(run) as store:
        found = store.latest()
        assert found is not None
        # Written by a thread: the training may have gone on for a step or two before it knows.
        assert committed <= found.info.step <= committed + 2, f"found step {found.info.step}"
    scores = [1.0, 3.0] if not any(mark == RETAINED + 3 for mark in marks) else [3.0]
    assert json.loads((run / "best.json").read_bytes())["score"] in scores
    perdure.load_policy(run, trust=[torch.nn])
    if not _whole:
        with place() as directory:
            _whole.extend(train(directory / "run"))
    with contextlib.redirect_stderr(io.StringIO()):
        assert train(run) == _whole
    assert json.loads((run / "best.json").read_bytes())["score"] == 3.0
    assert (left := leftovers(root)) == [], f"left behind: {left}"
    with Store.open(run) as store:
        assert (problems := store.verify()) == [], f"at the end: {problems}"
        assert len(store.checkpoints()) <= 3


def _nothing(root: Path) -> None:
    pass


CASES = {
    "backend": Case(_nothing, _put, _check_put),
    "creation": Case(_nothing, _create, _check_created),
    "commit and retention": Case(begin_store, _commit, _check_committed),
    "several packs in a commit": Case(_begin_small_packs, _commit_small_packs, _check_small_packs),
    "garbage collection": Case(_collect, _retain, _check_retained),
    "run.json restored": Case(_lose_run_file, _mend, _check_mended),
    "repair": Case(_damage, _repair, _check_repaired),
    "first publication": Case(
        _nothing,
        _first_version,
        lambda root, marks: check_versions(root, *([_NEW] if marks else [{}, _NEW])),
    ),
    "next publication": Case(
        lambda root: write_version(root, _OLD),
        _next_version,
        lambda root, marks: check_versions(root, *([_NEW] if marks else [_OLD, _NEW]), whole=(_OLD,)),
    ),
    "publication without links": Case(_old_without_links, _next_without_links, _check_without_links),
    "publication over files of others": Case(_foreign_files, _first_version, _check_foreign),
    "publication over a directory of others": Case(
        _foreign_directory, _first_version, _check_foreign_directory
    ),
    "publication over one link replaced": Case(_old_and_foreign, _first_version, _check_old_and_foreign),
    "training": Case(_begin_training, _go_on_training, _check_training),
}
