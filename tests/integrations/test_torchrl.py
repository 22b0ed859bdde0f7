"""Replay buffers of TorchRL: resumed in a fresh process they go on bit for bit, and each checkpoint costs what was
written since."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torchrl")
import torchrl_buffers as cases
from torchrl_trees import TREES

# isort: split
import torch
from buffer_support import Scenario, committed, frozen, small, unlike
from prepared_process import Starter
from tensordict import MemoryMappedTensor, TensorDict
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer

import perdure
from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, restore
from perdure.store import Store

# Their loops take checkpoints, and no test goes on with what a loop carries.
pytestmark = pytest.mark.filterwarnings("ignore:the loop carries state")

HERE = Path(__file__).parent
STEPS = 12
needs_trees = pytest.mark.skipif(
    not TREES, reason="TorchRL's C++ part was built for another version of torch (see torchrl_trees.py)"
)


def run_cases(starter, directory, steps):
    directory.mkdir(parents=True, exist_ok=True)
    where = directory / f"said-{steps}"
    where.mkdir()
    process = starter.start(HERE / "torchrl_buffers.py", directory, steps, *cases.KINDS, where=where)
    assert process.wait() == 0, process.output + process.errors
    return dict(line.split(" ", 1) for line in process.output.splitlines())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each kind of buffer gave in one process, and in two of which one goes on from the other."""
    directory = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERDURE_CHECK_ROWS", "1")
        starter = Starter("torch._dynamo", "torchrl.data", "tensordict")
        whole = run_cases(starter, directory / "whole", STEPS)
        run_cases(starter, directory / "parts", 5)
        parts = run_cases(starter, directory / "parts", STEPS)
        starter.close()
        return whole, parts, directory


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [*cases.KINDS, *(() if TREES else cases.PRIORITIZED)])
def test_a_buffer_goes_on_in_another_process(kind, outcomes):
    if kind not in cases.KINDS:
        pytest.skip(needs_trees.kwargs["reason"])
    whole, parts, directory = outcomes
    assert parts[kind] == whole[kind]
    with Store.open(directory / "whole" / kind) as one, Store.open(directory / "parts" / kind) as other:
        assert unlike(one.latest().state, other.latest().state) == []


class Feed(cases.Feed):
    def write(self, count):
        super().write(count)
        if self.draw.random() < 0.1:
            self.overwrite()


@pytest.mark.parametrize("check", [False, True], ids=["trusting", "checking"])
@pytest.mark.parametrize(
    "kind", ["tensor-without", "tensor-wide", "memmap-random", "memmap-class", "prioritized"]
)
def test_each_checkpoint_is_the_buffer_at_that_moment(kind, check, tmp_path, monkeypatch):
    if kind not in cases.KINDS:
        pytest.skip(needs_trees.kwargs["reason"])
    small(monkeypatch, check)
    make, rows_of = cases.KINDS[kind]
    generator = torch.Generator().manual_seed(1)
    scenario = Scenario(
        make, lambda rb: Feed(rb, rows_of, generator, scenario.draw), tmp_path, seed=2, ticks=check
    )
    assert scenario.go(8) == 16


def rows(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return TensorDict(
        {"obs": torch.randn(n, 30, generator=g), "next": {"obs": torch.randn(n, 30, generator=g)}}, [n]
    )


def size_of(directory):
    return sum(path.stat().st_size for path in (directory / "packs").iterdir())


@pytest.mark.parametrize("storage", [LazyTensorStorage, LazyMemmapStorage])
@pytest.mark.parametrize("ticks", [False, True])
def test_a_checkpoint_writes_the_rows_that_were_written(storage, ticks, tmp_path, monkeypatch):
    small(monkeypatch, False)
    buffer = TensorDictReplayBuffer(storage=storage(40_000), batch_size=4)
    world = perdure.World(buffer=buffer)
    row = 60 * 4 + 8
    with perdure.Run(tmp_path, keep=perdure.Retention(1000), compression="none") as run:
        buffer.extend(rows(38_000))
        run.checkpoint(world, 0)
        for step in range(1, 8):
            before = size_of(tmp_path)
            # Over the end of the buffer and on from its start.
            buffer.extend(rows(1000, step))
            if ticks:
                run.maybe_checkpoint(world, step, every=10**9, seconds=10**9)
            run.checkpoint(world, step)
            assert size_of(tmp_path) - before < 1.2 * 1000 * row
    # Also the first checkpoint of the next process.
    new = TensorDictReplayBuffer(storage=storage(40_000), batch_size=4)
    world = perdure.World(buffer=new)
    with perdure.Run(tmp_path, keep=perdure.Retention(1000), compression="none") as run:
        assert run.resume(world) is not None
        assert unlike(frozen(buffer), frozen(new)) == []
        before = size_of(tmp_path)
        new.extend(rows(1000, 99))
        run.checkpoint(world, 20)
        assert size_of(tmp_path) - before < 1.2 * 1000 * row


@pytest.mark.parametrize("ticks", [False, True])
@pytest.mark.parametrize(
    "beside",
    [
        lambda rb: rb._storage.__setitem__(33, rows(1, 9)[0].set("index", torch.tensor(33))),
        lambda rb: rb.set_at_("obs", torch.full((30,), 7.0), 33),
    ],
    ids=["the storage", "the buffer"],
)
def test_a_row_written_beside_the_cursor_is_not_hidden_by_rows_written_in_one_call(
    beside, ticks, tmp_path, monkeypatch
):
    small(monkeypatch, False)
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(60), batch_size=4)
    world = perdure.World(buffer=buffer)
    with perdure.Run(tmp_path) as run:
        buffer.extend(rows(60))
        run.checkpoint(world, 0)
        for step in (1, 2):
            beside(buffer)
            buffer.extend(rows(3, step))
            if ticks:
                run.maybe_checkpoint(world, step, every=10**9, seconds=10**9)
            run.checkpoint(world, step)
            assert unlike(frozen(buffer), committed(tmp_path).state) == []


def test_a_memory_mapped_buffer_lies_in_its_own_files_again(tmp_path):
    buffer = TensorDictReplayBuffer(storage=LazyMemmapStorage(50, scratch_dir=tmp_path / "old"), batch_size=4)
    buffer.extend(rows(20))
    state = frozen(buffer)
    new = TensorDictReplayBuffer(storage=LazyMemmapStorage(50, scratch_dir=tmp_path / "new"), batch_size=4)
    assert restore(state, {"buffer": new}).exact
    content = new._storage._storage
    assert content.is_memmap()
    assert content.is_locked
    assert isinstance(content["obs"], MemoryMappedTensor)
    assert Path(content["obs"].filename) == tmp_path / "new" / "obs.memmap"
    new.extend(rows(5, 1))
    found = TensorDict.load_memmap(tmp_path / "new")
    assert (
        found["next", "obs"][:25] == torch.cat([rows(20)["next", "obs"], rows(5, 1)["next", "obs"]])
    ).all()
    assert "old" not in repr(state.root)


def test_no_key_of_a_checkpoint_says_where_a_file_is_written(tmp_path):
    buffer = ReplayBuffer(storage=LazyTensorStorage(5), batch_size=2)
    buffer.extend(TensorDict({"../../escaped": torch.ones(3)}, [3]))
    state = frozen(buffer)
    # As if it had been memory-mapped where it was saved.
    node = state.root.fields["buffer"].fields["_storage"]
    node.type = node.type.replace("LazyTensorStorage", "LazyMemmapStorage")
    new = ReplayBuffer(storage=LazyMemmapStorage(5, scratch_dir=tmp_path / "a" / "b"), batch_size=2)
    report = restore(state, {"buffer": new}, strict=False)
    assert not report.mismatched
    assert any("escaped" in path + reason for path, reason in report.unexpected)
    assert list(tmp_path.rglob("*escaped*")) == []


def test_what_is_there_is_filled_and_not_replaced(tmp_path):
    state = frozen(
        full := TensorDictReplayBuffer(
            storage=LazyMemmapStorage(50), batch_size=4, generator=torch.Generator()
        )
    )
    full.extend(rows(20))
    full.sample()
    state = frozen(full)
    new = TensorDictReplayBuffer(storage=LazyMemmapStorage(50), batch_size=4, generator=torch.Generator())
    new.extend(rows(50, 7))
    storage, tensor, generator = new._storage._storage, new._storage._storage["obs"], new._rng
    assert restore(state, {"buffer": new}).exact
    assert new._storage._storage is storage
    assert storage["obs"].data_ptr() == tensor.data_ptr()
    assert new._rng is new._sampler._rng is generator
    assert (full.sample() == new.sample()).all()


def test_a_memory_mapped_tensor_is_a_tensor():
    live = MemoryMappedTensor.from_tensor(torch.arange(6.0).reshape(2, 3))
    state = frozen(live)
    other = MemoryMappedTensor.from_tensor(torch.zeros(2, 3))
    world = {"buffer": other}
    assert restore(state, world).exact
    assert world["buffer"] is other
    assert other.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_rows_that_are_drawn_ahead_are_refused():
    buffer = ReplayBuffer(storage=LazyTensorStorage(10), batch_size=2, prefetch=2)
    with pytest.raises(CaptureError, match=r"buffer\._prefetch_cap: .*prefetch=None"):
        capture({"buffer": buffer})


def test_a_storage_of_another_size_is_an_error_before_anything_is_changed():
    buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(10), batch_size=2)
    buffer.extend(rows(4))
    other = TensorDictReplayBuffer(storage=LazyMemmapStorage(10), batch_size=2)
    with pytest.raises(RestoreError, match="LazyTensorStorage"):
        restore(frozen(buffer), {"buffer": other})
    assert len(other) == 0


@needs_trees
def test_priorities_of_another_size_are_an_error():
    buffer = cases.PRIORITIZED["prioritized"][0]()
    other = TensorDictReplayBuffer(
        storage=LazyTensorStorage(cases.ROWS), batch_size=4,
        sampler=cases.PrioritizedSampler(cases.ROWS + 1, 0.7, 0.5),
        generator=torch.Generator(),
    )  # fmt: skip
    with pytest.raises(RestoreError, match="priorities"):
        restore(frozen(buffer), {"buffer": other})


def test_torchrl_is_not_imported_unless_it_is_used():
    script = (
        "import sys, perdure; perdure.Run, perdure.state\n"
        "print([name for name in sys.modules if 'torchrl' in name or 'tensordict' in name])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "[]", found.stderr
