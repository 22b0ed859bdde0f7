"""Handlers and modes of Tianshou's `highlevel.persistence` and of Perdure, each called by the other."""

import pickle
from enum import Enum

import pytest
import tianshou.highlevel.persistence as theirs
import torch

import perdure
import perdure.persistence as ours

LIBRARIES = {"ours": ours, "theirs": theirs}


def handler(library):
    """A handler as its users write it, which compares in one of the usual ways."""

    class Identity(library.Persistence):
        def persist(self, event, world):
            if event is library.PersistEvent.PERSIST_POLICY:
                with open(world.persist_path("statistics.txt"), "w") as file:
                    file.write("2.5")

        def restore(self, event, world):
            if event is library.RestoreEvent.RESTORE_POLICY:
                with open(world.restore_path("statistics.txt")) as file:
                    world.statistics = float(file.read())

    class Matched(Identity):
        def persist(self, event, world):
            match event:
                case library.PersistEvent.PERSIST_POLICY:
                    super().persist(event, world)

    class Early(Identity):
        def persist(self, event, world):
            if event != library.PersistEvent.PERSIST_POLICY:
                return
            {library.PersistEvent.PERSIST_POLICY: super().persist}[event](event, world)

    return [Identity(), Matched(), Early()]


@pytest.mark.parametrize("of", LIBRARIES)
@pytest.mark.parametrize("inner", LIBRARIES)
@pytest.mark.parametrize("outer", LIBRARIES)
def test_a_handler_of_either_library_works_in_groups_and_policies_of_either(of, inner, outer, tmp_path):
    for number, each in enumerate(handler(LIBRARIES[of])):
        place = tmp_path / str(number)
        place.mkdir()
        world = perdure.World(persist_directory=place, restore_directory=place, statistics=0.0)
        group = LIBRARIES[inner].PersistenceGroup(LIBRARIES[inner].PersistenceGroup(each))
        outermost = LIBRARIES[outer]
        persistence = outermost.PolicyPersistence(
            group, mode=outermost.PolicyPersistence.Mode.POLICY_STATE_DICT
        )
        policy = torch.nn.Linear(2, 1)
        persistence.persist(policy, world)
        assert (place / "statistics.txt").read_text() == "2.5"
        persistence.restore(policy, world, "cpu")
        assert world.statistics == 2.5


@pytest.mark.parametrize("of", LIBRARIES)
@pytest.mark.parametrize("mine", LIBRARIES)
def test_a_handler_of_one_library_that_compares_with_the_others_events(of, mine, tmp_path):
    class Mixed(LIBRARIES[of].Persistence):
        def persist(self, event, world):
            assert event == LIBRARIES[mine].PersistEvent.PERSIST_POLICY
            assert not event != LIBRARIES[mine].PersistEvent.PERSIST_POLICY  # noqa: SIM202
            assert event in {LIBRARIES[mine].PersistEvent.PERSIST_POLICY}
            self.seen = True

        def restore(self, event, world):
            raise AssertionError

    each = Mixed()
    policy = torch.nn.Linear(2, 1)
    ours.PolicyPersistence(each).persist(policy, perdure.World(persist_directory=tmp_path))
    assert each.seen


def test_members_are_equal_where_they_mean_the_same_and_only_there():
    pairs = [
        (ours.PersistEvent, theirs.PersistEvent),
        (ours.RestoreEvent, theirs.RestoreEvent),
        (ours.PolicyPersistence.Mode, theirs.PolicyPersistence.Mode),
    ]
    for kind, other in pairs:
        for member in kind:
            counterpart = other(member.value)
            assert member == counterpart
            assert counterpart == member
            assert hash(member) == hash(counterpart)
            assert kind(counterpart) is member
            assert pickle.loads(pickle.dumps(member)) is member
            assert member != member.value
    assert ours.PolicyPersistence.Mode.POLICY != theirs.PolicyPersistence.Mode.POLICY_STATE_DICT
    assert ours.PersistEvent.PERSIST_POLICY != theirs.RestoreEvent.RESTORE_POLICY

    class PersistEvent(Enum):
        PERSIST_POLICY = "persist_policy"

    assert ours.PersistEvent.PERSIST_POLICY != PersistEvent.PERSIST_POLICY


@pytest.mark.parametrize("mode", theirs.PolicyPersistence.Mode)
def test_a_mode_of_tianshous_is_the_same_mode(mode, tmp_path):
    world = perdure.World(persist_directory=tmp_path, restore_directory=tmp_path)
    policy = torch.nn.Linear(2, 1)
    persistence = ours.PolicyPersistence(mode=mode)
    persistence.persist(policy, world)
    assert [each.name for each in tmp_path.glob("*.pt")] == [mode.get_filename()]
    found = torch.load(tmp_path / mode.get_filename(), weights_only=False)
    assert isinstance(found, torch.nn.Module) is (mode is theirs.PolicyPersistence.Mode.POLICY)
    persistence.restore(torch.nn.Linear(2, 1), world, "cpu")


def test_an_event_that_only_one_library_has_stays_as_it_is(tmp_path):
    class Later(Enum):
        PERSIST_ALL = "persist_all"

    seen = []

    class Each(theirs.Persistence):
        def persist(self, event, world):
            seen.append(event)

        restore = persist

    world = perdure.World(persist_directory=tmp_path)
    ours.PersistenceGroup(Each()).persist(Later.PERSIST_ALL, world)
    assert seen == [Later.PERSIST_ALL]


def test_a_handler_is_called_by_keywords_and_may_take_more(tmp_path):
    class More(ours.Persistence):
        def persist(self, event, world, more="nothing"):
            self.seen = (event, more)

        def restore(self, event, world):
            pass

    each = More()
    each.persist(event=theirs.PersistEvent.PERSIST_POLICY, world=None, more="something")
    assert each.seen[0] is ours.PersistEvent.PERSIST_POLICY
    assert each.seen[1] == "something"


class Writes(ours.Persistence):
    """A handler that writes to the path which it is given each time, or to one that it kept."""

    def __init__(self, path=None, keeps=False):
        self.path, self.keeps, self.rows = path, keeps, []

    def persist(self, event, world):
        path = self.path or world.persist_path("rows.txt")
        if self.keeps:
            self.path = path
        self.rows.append("row\n")
        with open(path, "w") as file:
            file.writelines(self.rows)

    def restore(self, event, world):
        pass


def test_what_differs_from_tianshou_is_as_the_readme_says(tmp_path):
    world = perdure.World(persist_directory=tmp_path)
    policy = torch.nn.Linear(2, 1)

    # A kept history is whole each time.
    persistence = ours.PolicyPersistence(Writes())
    for _ in range(3):
        persistence.persist(policy, world)
    assert (tmp_path / "rows.txt").read_text() == "row\n" * 3

    # A kept path is an error that says so, and what was published stays.
    keeps = ours.PolicyPersistence(Writes(keeps=True))
    keeps.persist(policy, world)
    with pytest.raises(FileNotFoundError, match=r"must ask world\.persist_path\(name\) each time"):
        keeps.persist(policy, world)
    assert (tmp_path / "rows.txt").read_text() == "row\n"

    # A file that is missing for another reason is no kept path.
    with pytest.raises(FileNotFoundError, match="No such file"):
        ours.PolicyPersistence(Writes(tmp_path / "nowhere" / "rows.txt")).persist(policy, world)

    # A path from before is in the run's own directory.
    first = ours.PolicyPersistence(Writes(world.persist_path("first.txt")))
    first.persist(policy, world)
    first.persist(policy, world)
    assert (tmp_path / "first.txt").read_text() == "row\n" * 2
    assert not (tmp_path / "best" / "first.txt").exists()
