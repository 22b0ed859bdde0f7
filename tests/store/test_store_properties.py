"""Any sequence of commits, changes, deletions, reopenings and lost packs behaves like a dict of copies."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_support import Arrays, arrays_of, same, state_of

from perdure.errors import DamagedError
from perdure.snapshot import _stager
from perdure.store import Store, _commit_plan, _layout, _packs, pack_sizes
from perdure.tree import State

NAMES = st.sampled_from(["a", "b", "c", "net.weight"])
DTYPES = st.sampled_from(["u1", "f4", "f8", "?", "i8", "c16", "S3"])


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        # Everything in miniature: so that all that happens to large arrays happens to these.
        for module, name, value in (
            *((_packs, "CHUNK", 64), (_packs, "PACK_BYTES", 512), (_packs, "LEAST_COMPRESSED", 32)),
            *((_layout, "PAGE_SPAN", 256), (_commit_plan, "_INLINE", 4)),
            *(
                (_commit_plan, "SLACK", 1 << 10),
                (_commit_plan, "SMALL_PACK", 700),
                (_commit_plan, "MOST_SMALL_PACKS", 3),
            ),
            *((_stager, "SMALL", 40), (_stager, "LARGE", 400), (_stager, "LEAST_CHUNK", 24)),
        ):
            self.patch.setattr(module, name, value)
        self.stager = _stager.Stager()
        self.directory = tempfile.TemporaryDirectory()
        self.root = Path(self.directory.name)
        self.store = Store.open(self.root, write=True)
        self.arrays: Arrays = {}
        self.model: dict[int, Arrays] = {}
        self.highest = 0

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()
        self.patch.undo()

    @rule(name=NAMES, dtype=DTYPES, size=st.integers(0, 200), seed=st.integers(0, 3))
    def set_array(self, name: str, dtype: str, size: int, seed: int) -> None:
        data = np.random.default_rng(seed).bytes(size * np.dtype(dtype).itemsize)
        if dtype == "?":
            data = bytes(byte & 1 for byte in data)
        self.arrays[name] = np.frombuffer(data, dtype).copy()

    @rule(name=NAMES, part=st.floats(0, 1), length=st.integers(1, 100), value=st.integers(0, 1))
    def change_part(self, name: str, part: float, length: int, value: int) -> None:
        if name in self.arrays and self.arrays[name].size:
            flat = self.arrays[name].view(np.uint8)
            start = int(part * (flat.size - 1))
            flat[start : start + length] = value

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.arrays.pop(name, None)

    @rule(staged=st.booleans())
    def commit(self, staged: bool) -> None:
        state = state_of(self.arrays)
        if not staged:
            # The stager is not told of it, so what it refers to may be deleted.
            number = self.store.commit(state, step=self.highest).info.number
        else:
            try:
                number = self.commit_staged(state)
            except DamagedError:
                self.stager.forget()
                number = self.commit_staged(state)
        assert number > self.highest
        self.highest = number
        self.model[number] = {name: array.copy() for name, array in self.arrays.items()}
        manifest = self.store._catalog.load(number)
        # The bound on disk space; here, the headers are most of it.
        sizes = pack_sizes(self.store._backend)
        needed = sum(used for array in manifest.arrays for _, used in array.usage())
        headers = 400 * sum(len(list(array.extents())) + 2 for array in manifest.arrays)
        assert sum(sizes[pack] for pack in manifest.packs) <= 2 * needed + _commit_plan.SLACK + headers

    def commit_staged(self, state: State) -> int:
        staging = self.stager.stage(state)
        made = self.store.commit(state, step=self.highest, contents=staging.contents)
        staging.release()
        self.stager.committed(staging, made.arrays)
        return made.info.number

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def retain(self, data: st.DataObject) -> None:
        keep = data.draw(st.sets(st.sampled_from(sorted(self.model))))
        newest = max(self.model)
        deleted = self.store.retain(keep)
        assert deleted == sorted(set(self.model) - keep - {newest})
        for number in deleted:
            del self.model[number]

    @rule(look=st.booleans())
    def reopen(self, look: bool) -> None:
        self.store.close()
        self.store = Store.open(self.root, write=True)
        self.stager.forget()
        if look:
            self.read_latest()

    @rule()
    def read_latest(self) -> None:
        found = Store.open(self.root).latest()
        if found is None:
            assert not self.model
        else:
            assert found.info.number == max(self.model)
            assert same(arrays_of(found.state), self.model[found.info.number])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def read_any(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        assert same(arrays_of(self.store.read(number).state), self.model[number])

    @invariant()
    def as_in_the_model(self) -> None:
        assert [info.number for info in self.store.checkpoints()] == sorted(self.model)

    @rule()
    def verify(self) -> None:
        assert self.store.verify() == []


TestMachine = pytest.mark.filterwarnings("ignore::ResourceWarning")(Machine.TestCase)
TestMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
