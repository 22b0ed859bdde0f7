"""Every restore of these tests is also asked of a record of the script's side, as checkpoints are (`BuiltWorld`)."""

import re

import pytest
import torch

from perdure.state.restoring import _restore
from perdure.state.restoring._built import BuiltWorld, without_generators

# Tiny tensors: what threads cost is more than what they give.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def a_record_gives_the_same_answer(monkeypatch):
    """What is accepted at a checkpoint is restored in a fresh process, and what is refused there is refused here."""
    original = _restore._match
    differences = []

    def match(state, world, live):
        found = original(state, world, live)
        grows = callable(getattr(type(world), "parts", None))
        if not hasattr(live, "asked"):
            live.asked = True  # a record takes the tree of the walk over
            built = BuiltWorld(live, grows=grows)
            built.release()
            built.unchanged = live.unchanged
            report = built.report(without_generators(state.root))
            real, recorded = shown(found.report), shown(report)
            if real != recorded:
                differences.append((real, recorded))
        return found

    monkeypatch.setattr(_restore, "_match", match)
    yield
    assert not differences


def shown(report):
    """What does not fit, but for how the script's side is described, and for what a record is not asked about."""
    misfits = ((path, DESCRIBED.sub("", detail)) for path, detail in report.misfits)
    return sorted(each for each in misfits if not (each[0].startswith("rng") or each[1] == ALONE))


DESCRIBED = re.compile(",? (captured in another way|the script has|more like) .*")
#: A checkpoint's world always has named parts.
ALONE = "it can only be replaced as a whole. Put it into a perdure.World"
