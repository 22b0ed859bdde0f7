"""Checkpoints that are written while the training goes on: what is in them, and what becomes of their errors."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure import tree
from perdure.errors import CheckpointFailedWarning, StoreError
from perdure.snapshot import _stager
from perdure.state import capture, diff
from perdure.store import LocalBackend, Store
from perdure.tree import Staged, State

# Their loops take checkpoints, and no test goes on with what a loop carries.
pytestmark = pytest.mark.filterwarnings("ignore:the loop carries state")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of some kilobytes are treated like large ones."""
    monkeypatch.setattr(_stager, "SMALL", 1 << 10)
    monkeypatch.setattr(_stager, "LEAST_CHUNK", 1 << 8)


class Gate:
    """Holds every commit back until it is opened, so that a test knows that the training is ahead of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.fail: Callable[[], None] = lambda: None
        put, commit = LocalBackend.put, Store.commit

        def failing(backend: LocalBackend, name: str, buffers: Any) -> None:
            self.fail()
            put(backend, name, buffers)

        def held(store: Store, *args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                self.reached.set()
                assert self.open.wait(60)
            return commit(store, *args, **kwargs)

        monkeypatch.setattr(LocalBackend, "put", failing)
        monkeypatch.setattr(Store, "commit", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


def newest(directory: Path) -> Any:
    with Store.open(directory) as store:
        found = store.latest()
    assert found is not None
    return found


def same(directory: Path, world: perdure.World, step: int) -> bool:
    found = newest(directory)
    return found.info.step == step and not diff(found.state, capture(world), ignore=("run*",))


class Buffer:
    """A replay buffer of one's own."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.position = 0
        self.total = 0
        self.data = np.zeros((rows, 16), np.float32)

    def add(self, row: np.ndarray) -> None:
        self.data[self.position] = row
        self.position = (self.position + 1) % self.rows
        self.total += 1


perdure.register_rows(Buffer, ["data"], rows="rows", position="position", written="total")


def make_world(rows: int = 200) -> perdure.World:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    agent = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 8))
    return perdure.World(
        agent=agent, optimizer=torch.optim.Adam(agent.parameters(), lr=0.01), buffer=Buffer(rows), note=[0]
    )


def train(world: perdure.World, steps: int, rng: np.random.Generator) -> None:
    for _ in range(steps):
        world.buffer.add(rng.random(16, dtype=np.float32))
        world.agent(torch.randn(4, 64)).square().mean().backward()
        world.optimizer.step()
        world.optimizer.zero_grad()
        world.note.append(len(world.note))


@pytest.mark.parametrize("rows", [50, 200])
def test_what_is_trained_during_the_write_is_not_in_the_checkpoint(
    tmp_path: Path, small: None, gate: Gate, rows: int
) -> None:
    """Weights, moments and rows go on changing while the writer has not written a byte yet (pytorch#144657)."""
    world, rng = make_world(rows), np.random.default_rng(0)
    with perdure.Run(tmp_path / "run") as run:
        run.find_checkpoint(world)
        for step in range(1, 8):
            train(world, 13, rng)
            run.maybe_checkpoint(world, step, every=1000)
            gate.open.clear()
            gate.reached.clear()
            run.checkpoint(world, step, wait=False)
            twin = capture(world)
            before = {name: value.clone() for name, value in world.agent.state_dict().items()}
            kept = [(node, node.data.copy()) for node in twin.arrays if isinstance(node.data, np.ndarray)]
            kept += [(node, node.data.clone()) for node in twin.arrays if isinstance(node.data, torch.Tensor)]
            assert gate.reached.wait(60)
            train(world, 2 * rows if step % 3 == 0 else 17, rng)
            gate.open.set()
            run.flush()
            for node, data in kept:
                node.data = data
            found = newest(tmp_path / "run")
            assert found.info.step == step
            assert diff(found.state, twin, ignore=("run*",)) == []
            assert any(not torch.equal(world.agent.state_dict()[name], before[name]) for name in before)


def test_staging_leaves_the_state_as_it_is(small: None) -> None:
    world = make_world()
    state = capture(world)
    before = [(node, node.data) for node in state.arrays]
    staging = _stager.Stager().stage(state)
    assert staging.state is state
    assert all(node.data is data for node, data in before)
    assert len(staging.contents) == len(state.arrays)
    assert all(isinstance(content, Staged) for content in staging.contents)
    staging.release()
    assert not staging.contents


class Keeper:
    """Holds a state that was captured before, which shows the memory of the world as it is now."""

    def __init__(self) -> None:
        self.before: Any = None


def test_a_state_inside_the_world_is_staged_too(tmp_path: Path, small: None, gate: Gate) -> None:
    """Its arrays may be the live ones, which go on changing while the writer has not written a byte yet."""
    live = np.arange(1_000.0)
    world = perdure.World(keeper=Keeper(), live=live, few=np.arange(10))
    world.keeper.before = capture({"live": live, "few": world.few})
    with perdure.Run(tmp_path / "run") as run:
        for step in range(1, 4):
            gate.open.clear()
            gate.reached.clear()
            run.checkpoint(world, step, wait=False)
            twin = transported(capture(world))
            assert gate.reached.wait(60)
            live += 1
            world.few += 1
            gate.open.set()
            run.flush()
            assert diff(newest(tmp_path / "run").state, twin, ignore=("run*",)) == []


def transported(state: State) -> State:
    """The state as another process would have it."""
    document, blobs = tree.encode(state)
    content = [memoryview(bytes(blob.buffer())) for blob in blobs]
    return tree.decode(document, [Staged(len(each), [(0, each)] if len(each) else []) for each in content])


def test_a_state_whose_arrays_were_copied_since_is_staged_from_where_they_are_now(tmp_path: Path) -> None:
    keeper, live = Keeper(), np.arange(10)
    keeper.before = capture({"live": live})
    (node,) = (each for each in keeper.before.arrays if each.name == "live")
    node.data = live.copy()
    live[:] = 0
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(perdure.World(keeper=keeper), 1)
    again = Keeper()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(perdure.World(keeper=again))
        kept = again.before.root.fields["live"].data
        content = bytearray(kept.nbytes)
        kept.read_into(memoryview(content))
        assert np.frombuffer(content, np.int64).tolist() == list(range(10))
        # What was read is stored again as it is.
        run.checkpoint(perdure.World(keeper=again), 2)
    assert same(tmp_path / "run", perdure.World(keeper=again), 2)


def test_rows_cost_what_they_are(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_stager.CHECK_ROWS, "0")
    world, rng = perdure.World(buffer=Buffer(20_000)), np.random.default_rng(0)
    world.buffer.data[:] = rng.random(world.buffer.data.shape)
    world.buffer.add(world.buffer.data[0].copy())
    with perdure.Run(tmp_path / "run", compression="none") as run:
        run.checkpoint(world, 0)
        written = []
        for step in range(1, 60):
            for _ in range(407):
                world.buffer.add(rng.random(16, dtype=np.float32))
            info = run.checkpoint(world, step)
            assert info is not None
            files = (tmp_path / "run").glob(f"*/{info.number:08d}*")
            written.append(sum(path.stat().st_size for path in files))
            if step % 20 == 0:
                assert same(tmp_path / "run", world, step)
        # With the manifest and headers; small packs are joined now and then.
        assert np.median(written) < 1.1 * 407 * 64 + 12_000
        assert np.mean(written) < 2.5 * 407 * 64
    # And in a process that goes on from there.
    again = perdure.World(buffer=Buffer(20_000))
    with perdure.Run(tmp_path / "run", compression="none") as run:
        run.resume(again)
        assert np.array_equal(again.buffer.data, world.buffer.data)
        for _ in range(10):
            again.buffer.add(rng.random(16, dtype=np.float32))
        info = run.checkpoint(again, 60)
        assert info is not None
        files = (tmp_path / "run").glob(f"*/{info.number:08d}*")
        assert sum(path.stat().st_size for path in files) < 15_000
        assert same(tmp_path / "run", again, 60)


def test_a_cursor_that_lies_is_found_out(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_stager.CHECK_ROWS, "1")
    world, rng = perdure.World(buffer=Buffer(2_000)), np.random.default_rng(0)
    with perdure.Run(tmp_path / "run") as run:
        for step in range(1, 4):
            world.buffer.add(rng.random(16, dtype=np.float32))
            run.checkpoint(world, step)
        world.buffer.data[1_000] = 7
        with pytest.warns(perdure.errors.ChangedRowsWarning, match=r"buffer\.data: rows changed"):
            run.checkpoint(world, 4)
        assert same(tmp_path / "run", world, 4)
        world.buffer.data[1_500] = 8
        run.checkpoint(world, 5)
        assert same(tmp_path / "run", world, 5)


def test_without_checking_a_lie_is_found_out_before_long(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_stager.CHECK_ROWS, "0")
    world, rng = perdure.World(buffer=Buffer(200_000)), np.random.default_rng(0)
    world.buffer.data[:] = rng.random(world.buffer.data.shape)
    world.buffer.add(world.buffer.data[0].copy())
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 0)
        world.buffer.data[100_000] = 7
        with pytest.warns(perdure.errors.ChangedRowsWarning):
            for step in range(1, 40):
                world.buffer.add(rng.random(16, dtype=np.float32))
                run.checkpoint(world, step)
        run.checkpoint(world, 50)
        assert same(tmp_path / "run", world, 50)


def test_an_error_surfaces_in_the_training(tmp_path: Path, gate: Gate) -> None:
    world = make_world()

    def fail() -> None:
        raise StoreError("could not write packs: no space is left")

    gate.open.set()
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 1)
        gate.fail = fail
        run.checkpoint(world, 2, wait=False)
        with pytest.raises(StoreError, match="no space is left"):
            run.flush()
        run.checkpoint(world, 3, wait=False)
        while run._checkpointer.busy:
            pass
        with pytest.raises(StoreError, match="no space is left"):
            run.maybe_checkpoint(world, 4, every=1000)
        gate.fail = lambda: None
        assert run.last is not None
        assert run.last.step == 1
        train(world, 3, np.random.default_rng(0))
        run.checkpoint(world, 5)
    assert same(tmp_path / "run", world, 5)


def test_the_training_can_go_on_without_checkpoints(tmp_path: Path, gate: Gate) -> None:
    world = make_world()

    def fail() -> None:
        raise StoreError("could not write packs: no space is left")

    gate.open.set()
    with perdure.Run(tmp_path / "run", on_error="warn") as run:
        for step in run.steps(world, 40, every=10):
            gate.fail = fail if 5 <= step < 25 else lambda: None
            if step in (10, 20):
                with pytest.warns(CheckpointFailedWarning, match=r"no space is left"):
                    run.flush()
            train(world, 1, np.random.default_rng(step))
    assert world.note == list(range(41))
    assert same(tmp_path / "run", world, 40)
    with Store.open(tmp_path / "run") as store:
        assert [info.step for info in store.checkpoints()] == [30, 40]


def test_what_a_failed_checkpoint_would_have_marked_as_best_is_marked_by_the_next(
    tmp_path: Path, gate: Gate
) -> None:
    world = make_world()
    gate.open.set()
    with perdure.Run(tmp_path / "run") as run:
        run.report_score(1.0, world)

        def fail() -> None:
            raise StoreError("no space")

        gate.fail = fail
        with pytest.raises(StoreError):
            run.checkpoint(world, 1)
        gate.fail = lambda: None
        info = run.checkpoint(world, 2)
        assert info is not None
        assert info.tags == ("best",)


def test_back_pressure_is_a_choice(tmp_path: Path, gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    world = make_world()
    with perdure.Run(tmp_path / "run", when_busy="skip") as run:
        run.checkpoint(world, 1, wait=False)
        assert gate.reached.wait(60)
        assert run.checkpoint(world, 2, wait=False) is None
        assert "a checkpoint is left out" in capsys.readouterr().err
        gate.open.set()
        run.flush()
        assert run.last is not None
        assert run.last.step == 1
        # One that is waited for is never left out.
        assert run.checkpoint(world, 3) is not None
    gate.open.clear()
    with perdure.Run(tmp_path / "other") as run:
        run.checkpoint(world, 1, wait=False)
        threading.Timer(0.2, gate.open.set).start()
        run.checkpoint(world, 2, wait=False)
        run.flush()
        assert run.last is not None
        assert run.last.step == 2
    with pytest.raises(ValueError, match="when_busy: expected one of wait, skip, found 'never'"):
        perdure.Run(tmp_path / "third", when_busy="never")


def test_closing_waits_for_what_is_on_its_way(tmp_path: Path, gate: Gate) -> None:
    world = make_world()
    run = perdure.Run(tmp_path / "run")
    run.checkpoint(world, 1, wait=False)
    threading.Timer(0.2, gate.open.set).start()
    run.close()
    assert same(tmp_path / "run", world, 1)


ENDINGS = {
    "falls off the end": "",
    "leaves": "sys.exit(3)",
    "raises": "raise KeyError('a bug')",
    "is asked to leave": "import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_that_ends_has_saved_what_was_asked_for(tmp_path: Path, ending: str) -> None:
    script = f"""
        import os, sys, time
        import numpy as np
        import perdure
        from perdure.store import LocalBackend
        real = LocalBackend.put
        def slow(self, name, buffers):
            time.sleep(0.3)
            real(self, name, buffers)
        world = perdure.World(data=np.arange(100_000))
        run = perdure.Run({str(tmp_path / "run")!r})
        LocalBackend.put = slow
        run.checkpoint(world, 7, wait=False)
        {ENDINGS[ending]}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )
    expected = {"falls off the end": 0, "leaves": 3, "raises": 1, "is asked to leave": -2}
    assert done.returncode == expected[ending], done.stderr
    assert newest(tmp_path / "run").info.step == 7


def test_an_error_that_nobody_asks_for_is_told_at_the_end(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        import perdure
        from perdure.errors import StoreError
        from perdure.store import LocalBackend
        world = perdure.World(data=np.arange(100_000))
        run = perdure.Run({str(tmp_path / "run")!r})
        def full(self, name, buffers):
            raise StoreError("could not write " + name + ": no space is left")
        LocalBackend.put = full
        run.checkpoint(world, 7, wait=False)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )
    assert "perdure: the last checkpoint could not be written: could not write packs/" in done.stderr


def test_a_forked_child_leaves_it_to_its_parent(tmp_path: Path, gate: Gate) -> None:
    world = make_world()
    run = perdure.Run(tmp_path / "run")
    run.checkpoint(world, 1, wait=False)
    assert gate.reached.wait(60)
    pid = os.fork()
    if pid == 0:
        try:
            run.flush()
            run.close()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WEXITSTATUS(status) == 0
    gate.open.set()
    run.close()
    assert same(tmp_path / "run", world, 1)


def test_arrays_too_large_to_be_set_aside_are_written_while_the_training_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stager, "MOST_STAGED", 10_000)
    world = perdure.World(large=np.random.default_rng(0).random(100_000), small=np.arange(10))
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 1, wait=False)
        assert run.last is not None
        world.large[:] = 0
        assert np.any(newest(tmp_path / "run").state.root.fields["large"].data.layout.nbytes)
        world.large[5] = 1
        run.checkpoint(world, 2, wait=False)
        run.flush()
        assert same(tmp_path / "run", world, 2)


def test_a_buffer_too_large_to_be_set_aside_costs_what_changed_from_then_on(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stager, "MOST_STAGED", 100_000)
    buffer = Buffer(100_000)
    buffer.add(np.ones(16))
    world = perdure.World(buffer=buffer)
    staged: list[int] = []
    stage = _stager.Stager.stage

    def staging_of(stager: _stager.Stager, state: Any, **more: Any) -> _stager.Staging:
        found = stage(stager, state, **more)
        staged.append(found.nbytes if not found.live else -1)
        return found

    monkeypatch.setattr(_stager.Stager, "stage", staging_of)
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 1)
        for step in (2, 3):
            for row in range(10):
                buffer.add(np.full(16, step * 10 + row))
            run.checkpoint(world, step)
            assert same(tmp_path / "run", world, step)
    assert staged[0] == -1, staged
    assert all(0 < nbytes < 20_000 for nbytes in staged[1:]), staged


def test_retention(tmp_path: Path) -> None:
    world = perdure.World(data=np.arange(10))
    keep = perdure.Retention(last=2, best=2, every=10)
    with perdure.Run(tmp_path / "run", keep=keep) as run:
        for step in range(1, 36):
            world.data[0] = step
            if step in (3, 5, 8):
                run.report_score(float(step), world, torch.nn.Linear(1, 1))
            run.checkpoint(world, step, pin=step == 2)
    with Store.open(tmp_path / "run") as store:
        assert [info.step for info in store.checkpoints()] == [2, 5, 8, 10, 20, 30, 34, 35]
    for wrong in ({"last": 0}, {"best": -1}, {"every": 0}):
        with pytest.raises(ValueError, match="keep: "):
            perdure.Retention(**wrong)


def test_a_flush_does_not_wait_for_what_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    deleting, go_on = threading.Event(), threading.Event()

    def retain(store: Store, keep: Any) -> None:
        deleting.set()
        assert go_on.wait(60)
        raise StoreError("could not delete packs: no permission")

    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 1)
        monkeypatch.setattr(Store, "retain", retain)
        run.checkpoint(world, 2, wait=False)
        run.flush()
        assert run.last is not None
        assert run.last.step == 2
        assert deleting.wait(60)
        run.maybe_checkpoint(world, 3, every=1000)
        go_on.set()
        with pytest.raises(StoreError, match="no permission"):
            run.close()
    assert same(tmp_path / "run", world, 2)


def test_what_cannot_be_deleted_is_warned_of_where_errors_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world()

    def retain(store: Store, keep: Any) -> None:
        raise StoreError("could not delete packs: no permission")

    monkeypatch.setattr(Store, "retain", retain)
    with perdure.Run(tmp_path / "run", on_error="warn") as run:
        with pytest.warns(
            CheckpointFailedWarning, match="step 1 is written, but older ones could not be deleted"
        ):
            run.checkpoint(world, 1)
        with pytest.warns(CheckpointFailedWarning, match="step 2 is written"):
            run.checkpoint(world, 2, wait=False)
            run.close()
    assert same(tmp_path / "run", world, 2)
