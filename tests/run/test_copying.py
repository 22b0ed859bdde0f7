"""Memory that is copied by several threads at once."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.snapshot import _copy


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 3_000), max_size=12), piece=st.integers(1, 700), cores=st.integers(1, 6))
def test_every_byte_arrives_whoever_copies_it(sizes, piece, cores):
    random = np.random.default_rng(len(sizes))
    sources = [random.integers(0, 256, size, np.uint8) for size in sizes]
    targets = [np.zeros(size, np.uint8) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_copy, "PIECE", piece)
        patch.setattr(_copy, "WORTHWHILE", 1_000)
        patch.setattr(_copy, "_cores", lambda: cores)
        with _copy.Copier().copying(list(zip(targets, sources, strict=True))):
            pass
    for target, source in zip(targets, sources, strict=True):
        assert np.array_equal(target, source)


@pytest.mark.parametrize("cores", [1, 4])
def test_an_interrupted_copy_leaves_no_thread_at_work(cores, monkeypatch):
    monkeypatch.setattr(_copy, "_cores", lambda: cores)
    source = np.ones(64 << 20, np.uint8)
    target = np.zeros_like(source)
    with pytest.raises(KeyboardInterrupt), _copy.Copier().copying([(target, source)]):
        raise KeyboardInterrupt
    target[:] = 0
    time.sleep(0.05)
    assert not target.any()


def test_where_no_thread_begins_any_more_the_caller_copies_everything(monkeypatch):
    monkeypatch.setattr(_copy, "_cores", lambda: 4)

    def ended(self, *args):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(_copy.ThreadPoolExecutor, "submit", ended)
    source = np.arange(10 << 20, dtype=np.uint8)
    target = np.zeros_like(source)
    with _copy.Copier().copying([(target, source)]):
        pass
    assert np.array_equal(target, source)


def test_what_goes_wrong_in_another_thread_is_told_to_the_caller(monkeypatch):
    monkeypatch.setattr(_copy, "_cores", lambda: 4)
    fixed = np.zeros(64 << 20, np.uint8)
    fixed.flags.writeable = False
    with (
        pytest.raises(ValueError, match="read-only"),
        _copy.Copier().copying([(fixed, np.ones(64 << 20, np.uint8))]),
    ):
        pass
