"""Damage of every kind is found, by reading and by `verify` alike, and the newest good checkpoint is used.

`make test` tries every byte and every length of a small run of the store in memory, and samples of a run as `Run` makes
it; `make damage` (PERDURE_EXHAUSTIVE=1) leaves no sample. How much was tried is printed (pytest -rA, or -s).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from damage_support import (
    Damage,
    Files,
    content_of,
    cuts,
    deletions,
    exhaustive,
    files_of,
    files_of_store,
    find,
    flips,
    in_memory,
    renames,
    resumed,
    small_store,
    swaps,
    write_files,
)

import perdure
from perdure.cli import main
from perdure.errors import DamagedError, PerdureError
from perdure.inspect import check_policies
from perdure.persistence import checksums
from perdure.store import Store


@pytest.fixture(scope="module")
def store_files() -> Files:
    return small_store((1, 2, 3) if exhaustive() else (1, 2))


# -- the store, in memory ------------------------------------------------------------------------------------


class Checker:
    """Compares what became of a run with what it was."""

    def __init__(self, files: Files) -> None:
        self.intact = find(files)
        assert self.intact.opened
        assert self.intact.problems == self.intact.notes == []
        self.count = 0

    def check(self, damage: Damage) -> None:
        """That the damage is found, that reading and checking say the same of it, and that nothing wrong is read."""
        self.count += 1
        found = find(damage.files)
        what = damage.what
        assert found.opened, f"{what}: the run cannot be opened"
        for number, content in found.read.items():
            if content is not None and number in self.intact.read:
                assert content == self.intact.read[number], (
                    f"{what}: checkpoint {number} is read as another one"
                )
        good = [number for number, content in found.read.items() if content is not None]
        lost = {number for number in self.intact.read if number not in good}
        # What was deleted as a whole is not there any more; what is there and cannot be read is damaged.
        unread = {number for number, content in found.read.items() if content is None}

        # A manifest that is gone as a whole is what retention leaves of a checkpoint, if others need all its packs.
        gone = damage.name not in damage.files and damage.name.startswith("checkpoints/")
        assert found.problems or found.notes or gone, f"{what}: verify finds nothing"
        assert bool(found.problems) == bool(found.warned or unread), f"{what}: {found.problems} {found.notes}"
        told = " ".join(problem.meaning for problem in found.problems)
        for number in unread:
            assert str(number) in told, (
                f"{what}: verify does not say that checkpoint {number} is lost: {told}"
            )
        named = {problem.file for problem in found.problems + found.notes}
        if not lost and not found.warned:
            assert not found.problems, what
        assert named <= damage.files.keys() | {damage.name} | self._packs(damage), f"{what}: {named}"
        assert found.newest == (max(good) if good else None), f"{what}: checkpoint {found.newest} is used"

    def _packs(self, damage: Damage) -> set[str]:
        return {name for name in damage.files if name.startswith("packs/")}

    def all(self, damages: Iterable[Damage]) -> int:
        before = self.count
        for damage in damages:
            self.check(damage)
        return self.count - before


def test_every_byte_of_a_small_run(store_files: Files) -> None:
    checker = Checker(store_files)
    every = 1 if exhaustive() else 3
    count = checker.all(flips(store_files, every))
    assert count >= sum(map(len, store_files.values())) // every
    print(f"\nflipped a bit in each of {count} bytes of {len(store_files)} files: all found")


def test_every_length_of_a_small_run(store_files: Files) -> None:
    checker = Checker(store_files)
    every = 1 if exhaustive() else 3
    count = checker.all(cuts(store_files, every))
    assert count >= sum(map(len, store_files.values())) // every
    print(f"\ncut off {len(store_files)} files at each of {count} lengths: all found")


def test_one_file_deleted_renamed_or_swapped(store_files: Files) -> None:
    checker = Checker(store_files)
    other = small_store((4, 5, 6, 7))
    counts = [
        checker.all(deletions(store_files)),
        checker.all(renames(store_files)),
        checker.all(swaps(store_files, other)),
    ]
    assert all(counts)
    print("\ndeleted {}, renamed {}, swapped {}: all found".format(*counts))


def test_two_damages_at_once(store_files: Files) -> None:
    """The second newest checkpoint is used, or none, and never a wrong one."""
    checker = Checker(store_files)
    pairs = itertools.combinations(store_files, 2)
    for a, b in pairs:
        for damage in ((store_files[a][:-1], None), (None, store_files[b][:9]), (b"", b"")):
            files = {**store_files}
            for name, content in zip((a, b), damage, strict=True):
                if content is None:
                    files.pop(name)
                else:
                    files[name] = content
            found = find(files)
            if not found.opened:
                assert all(not name.startswith("checkpoints/") or name in (a, b) for name in files)
                continue
            assert found.problems or found.notes
            good = [number for number, content in found.read.items() if content is not None]
            assert all(found.read[number] == checker.intact.read[number] for number in good)
            assert found.newest == (max(good) if good else None)


def test_everything_deleted_or_emptied(store_files: Files) -> None:
    """No checkpoint is made up."""
    for content in (b"", b"\0" * 100, b"{}"):
        assert not find(dict.fromkeys(store_files, content)).opened
    packs_only = {name: content for name, content in store_files.items() if name.startswith("packs/")}
    assert not find(packs_only).opened
    manifests_only = {name: store_files[name] for name in store_files.keys() - packs_only.keys()}
    found = find(manifests_only)
    assert set(found.read.values()) == {None}
    assert len(found.problems) >= len(packs_only)


def test_run_json_of_another_run(store_files: Files) -> None:
    """It is the odd one: every checkpoint says so, and none is lost with it."""
    other = small_store((4,))
    found = find({**store_files, "run.json": other["run.json"]})
    assert found.warned
    assert found.newest == max(found.read)
    assert [problem.file for problem in found.problems] == ["run.json"]
    # One manifest of another run alone does not make the run another one.
    foreign = other["checkpoints/00000001.json"]
    found = find({**store_files, "checkpoints/00000009.json": foreign})
    assert not found.warned
    assert found.newest == 2 + exhaustive()


# -- a whole run, on a disk ----------------------------------------------------------------------------------


def test_a_run_as_it_is_made(intact: Path) -> None:
    """The same, of a run with networks, generators and all that a real one has."""
    files = files_of_store(files_of(intact))
    total = sum(map(len, files.values()))
    checker = Checker(files)
    every = 1 if exhaustive() else max(1, total // 500)
    flipped = checker.all(flips(files, every))
    cut = checker.all(cuts(files, 1 if exhaustive() else every * 2))
    others = checker.all(deletions(files)) + checker.all(renames(files))
    print(f"\nof {total} bytes: flipped {flipped}, cut off {cut}, deleted or renamed {others}: all found")


def _policies(directory: Path) -> Files:
    return {name: content for name, content in files_of(directory).items() if name.startswith("policies/")}


def test_every_byte_of_the_policies(root: Path) -> None:
    files = _policies(root)
    assert len(files) == 3
    assert check_policies(str(root)) == []
    count = 0
    for kind in (
        flips(files, 1 if exhaustive() else 3),
        cuts(files, 1 if exhaustive() else 15),
        deletions(files),
    ):
        for damage in kind:
            count += 1
            path = root / damage.name
            if damage.name in damage.files:
                path.write_bytes(damage.files[damage.name])
            else:
                path.unlink()
            if damage.name.endswith(".SHA256SUMS") and damage.name not in damage.files:
                checksums.verify(path.parent)  # what there is no list for cannot be wrong
            else:
                with pytest.raises(DamagedError):
                    checksums.verify(path.parent)
            if count % 50 == 0 or damage.name not in damage.files:
                problems = check_policies(str(root))
                assert [problem.file for problem in problems] == [os.path.dirname(damage.name)], damage.what
                assert "cannot be used" in problems[0].meaning
            path.write_bytes(files[damage.name])
    assert check_policies(str(root)) == []
    assert count > sum(map(len, files.values())) // (1 if exhaustive() else 3)
    print(f"\n{count} damages to {len(files)} files of the best policy: all found")


def test_no_byte_of_a_policy_is_loaded_wrong(root: Path) -> None:
    path = root / "policy.pt"
    content = path.read_bytes()
    before = perdure.load_policy(root, trust=[torch.nn])
    for at in range(0, len(content), 1 if exhaustive() else 40):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"policy\.pt"):
            perdure.load_policy(root, trust=[torch.nn])
    path.write_bytes(content)
    after = perdure.load_policy(root, trust=[torch.nn])
    assert torch.equal(before.weight, after.weight)  # type: ignore[arg-type]


def test_the_links_to_the_best_policy(root: Path) -> None:
    best, link = root / "best", root / "policy.pt"
    target = os.readlink(best)

    def found() -> list[tuple[str, bool]]:
        return [(problem.file, problem.harmless) for problem in check_policies(str(root))]

    link.unlink()
    assert found() == [("policy.pt", True)]
    link.symlink_to("best/policy.pt")
    best.unlink()
    assert found() == [("best", True)]
    for wrong in ("policies/00000099", "/etc", "../run", "policies/../policies"):
        best.symlink_to(wrong)
        assert found() == [("best", False)], wrong
        best.unlink()
    best.symlink_to(target)
    (root / target).rename(root / "gone")
    assert found() == [("best", False)]
    (root / "gone").rename(root / target)
    assert found() == []


def test_what_resuming_makes_of_a_sample(root: Path) -> None:
    """`Run.resume` goes on from the newest good checkpoint, says what is wrong with the newer ones, and why."""
    files = files_of_store(files_of(root))
    steps: dict[int | None, int] = {}
    samples = itertools.chain(
        flips(files, 4_001, 77),
        cuts(files, 4_001),
        deletions(files),
        itertools.islice(renames(files), 0, None, 4),
    )
    for number, damage in enumerate(samples):
        copy = Path(shutil.copytree(root, root.parent / f"copy-{number}", symlinks=True))
        for name in files.keys() - damage.files.keys():
            (copy / name).unlink()
        write_files(
            copy, {name: damage.files[name] for name in damage.files if damage.files[name] != files.get(name)}
        )
        expected = find(damage.files)
        step, warned, error = resumed(copy)
        steps[step] = steps.get(step, 0) + 1
        # Resuming reads what it needs, and compares it above with what it must be. Bytes of a pack that it does not
        # need (names in a header) are no obstacle to it; `verify` and `read` look at them too.
        unneeded = damage.name.startswith("packs/") and step is not None and step > (expected.newest or 0)
        assert step == expected.newest or unneeded, f"{damage.what}: {error}"
        if step is None:
            assert error is not None
            assert "none of the checkpoints" in error or "there is no older one" in error, error
        elif step < 3 and damage.name in damage.files:
            # What is older than the newest good one is not looked at on resuming; `verify` does.
            assert damage.name in " ".join(warned), damage.what
        shutil.rmtree(copy)
    assert steps.get(3, 0) > 2
    assert steps.get(2, 0) > 2
    print(f"\nresumed {sum(steps.values())} times after a damage, at step: {steps}")


def test_the_command_says_what_is_wrong_and_what_it_means(root: Path) -> None:
    path = root / "checkpoints" / "00000003.json"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":4'))
    result = CliRunner().invoke(main, ["verify", str(root)])
    assert result.exit_code == 1
    assert "checkpoints/00000003.json" in result.stdout
    assert "its checksum is not that of its content" in result.stdout
    assert "checkpoint 3 cannot be used" in result.stdout


def test_a_checkpoint_that_was_read_whole_and_goes_bad(root: Path) -> None:
    """Between reading it and using it: what is used is verified again."""
    with Store.open(root) as store:
        found = store.latest()
        assert found is not None
        for path in (root / "packs").iterdir():
            path.write_bytes(bytes(len(path.read_bytes())))
        with pytest.raises(DamagedError, match="is damaged"):
            content_of(found.state)


def test_that_the_check_itself_can_fail(store_files: Files) -> None:
    """A store that believed everything would be caught."""
    checker = Checker(store_files)
    with pytest.raises(AssertionError, match="verify finds nothing"):
        checker.check(Damage("nothing", "run.json", store_files))
    checker.intact.read[1] = b"something else"
    with pytest.raises(AssertionError, match="is read as another one"):
        checker.check(Damage("nothing", "run.json", store_files))


def test_reading_changes_nothing(root: Path) -> None:
    """Neither does finding damage."""
    path = next(iter((root / "packs").iterdir()))
    path.write_bytes(path.read_bytes()[:-1])
    before = files_of(root)
    for arguments in (["verify", str(root)], ["ls", str(root)], ["show", str(root)], ["repair", str(root)]):
        CliRunner().invoke(main, arguments)
    backend = in_memory(files_of_store(before))
    with contextlib.suppress(PerdureError):
        Store.open(backend).latest()
    assert backend.objects == files_of_store(before)
    assert files_of(root) == before
