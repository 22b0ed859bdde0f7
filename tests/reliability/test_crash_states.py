"""After a power cut at any moment, the run has its last committed checkpoint or the new one, and goes on. The same
checks detect every fsync that is missing.

`pytest -s` prints how many states were checked. `make campaign` checks more programs in full, `make reliability` all.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_cases import (
    CASES,
    COARSE,
    Lost,
    check_store,
    explore,
    explore_killed,
    explore_recovery,
    explore_whole,
    record_case,
)
from exhaustion import Found


def say(what: str, counts: object) -> None:
    print(f"{what}: {counts}")


campaign = pytest.mark.campaign
#: Programs of the same steps as others, in which the suite only samples. `make campaign` leaves nothing out.
SAMPLED = (
    "several packs in a commit",
    "repair",
    "publication over files of others",
    "publication over a directory of others",
    "publication over one link replaced",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=campaign if name in SAMPLED else ())
        for name in CASES
        if name not in ("training", "several packs in a commit", "repair")
    ],
)
def test_a_power_cut_after_every_operation_and_every_fsync_left_out(name: str) -> None:
    """All possible states; and, with each fsync left out in turn, as many as it takes to detect that."""
    case = CASES[name]
    record = record_case(case)
    found = Found()
    tally = explore_whole(record, case.check, found)
    say(name, tally)
    assert tally.operations > 10
    assert tally.states > 100
    assert tally.checked > tally.operations // 2
    assert not tally.sampled
    spare = []
    syncs = record.syncs()
    for index, adds_names in syncs.items():
        try:
            explore(record.without(index), case.check, COARSE, set(found.looked), since=index)
        except Lost:
            continue
        # It may be missing without harm if another one does the same before anything is announced, or if all that
        # it makes sure of is that what nobody needs stays away.
        what = record.operations[index].what
        assert record.is_made_up_for(index) or not adds_names, f"nothing found that {what} was missing"
        spare.append(what)
    say(f"{name}: of {len(syncs)} fsyncs, those that may be missing", spare)
    assert len(spare) < len(syncs)
    # Every single one is needed to keep what the backend promises.
    assert name != "backend" or not spare


@campaign
@pytest.mark.parametrize("name", ["several packs in a commit", "repair"])
def test_a_power_cut_after_every_operation(name: str) -> None:
    """Of what consists of the same steps as others, in which an fsync that is missing is found."""
    case = CASES[name]
    tally = explore_whole(record_case(case), case.check)
    say(name, tally)
    assert tally.checked > 100
    assert not tally.sampled


@pytest.mark.parametrize(("name", "every"), [*((name, 11) for name in SAMPLED), ("training", 180)])
def test_a_power_cut_in_a_sample_of_states(name: str, every: int) -> None:
    case = CASES[name]
    counts = explore(record_case(case), case.check, COARSE, every=every)
    say(name, counts)
    assert counts.checked > (4 if name == "training" else 10)


@pytest.mark.parametrize(
    ("name", "every"),
    [
        pytest.param("creation", 12, marks=campaign),
        pytest.param("commit and retention", 16, marks=campaign),
        ("commit and retention", 60),
        pytest.param("publication over files of others", 22, marks=campaign),
        ("next publication", 39),
    ],
)
def test_a_power_cut_after_a_killed_process_was_started_again(name: str, every: int) -> None:
    """What a killed process had not synced is in the system's memory for the next one, and looks durable to it.

    After each of some of the operations at which it is killed, every state.
    """
    tally, killed, whole = explore_killed(CASES[name], every)
    say(f"{name}, killed before", tally)
    assert whole
    assert killed > 20
    assert tally.checked > 50


@pytest.mark.parametrize(
    ("name", "every"),
    [pytest.param("commit and retention", 100, marks=campaign), ("next publication", 70)],
)
def test_a_power_cut_while_another_one_is_recovered_from(name: str, every: int) -> None:
    case = CASES[name]
    tally, done, _ = explore_recovery(record_case(case), case, every)
    say(f"{name}, cut again while recovering", tally)
    assert done > 1
    assert tally.checked > 50


def test_the_check_finds_what_is_not_the_last_checkpoint(tmp_path: Path) -> None:
    CASES["commit and retention"].prepare(tmp_path)
    with pytest.raises(AssertionError, match="finds step 2"):
        check_store(tmp_path, 3, 4)
