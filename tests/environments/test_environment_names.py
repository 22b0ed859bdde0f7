"""What `check-env` takes as the name of an environment, and what it says where there is none of that name."""

from __future__ import annotations

import json
import subprocess
import sys

import gymnasium as gym
import pytest

from perdure.check_env import EnvSpecError, check, env_spec

MINE = """
import gymnasium as gym

class Mine(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 0.0, False, False, {}

def make():
    return Mine()

gym.register("Mine-v3", Mine)
gym.register("own-namespace/Mine-v0", Mine)
gym.register("Bare", Mine)
"""


@pytest.fixture(autouse=True)
def mine(monkeypatch, tmp_path):
    """A module of the user's, which nothing has imported yet."""
    (tmp_path / "mine_ids.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = dict(gym.registry)
    yield
    sys.modules.pop("mine_ids", None)
    gym.registry.clear()
    gym.registry.update(before)


#: What has to be imported for each.
MODULES = {
    "CartPole-v1": [],
    "CartPole": [],
    "MiniGrid-Empty-5x5-v0": ["minigrid"],
    "highway-v0": ["highway_env"],
    "ALE/Pong-v5": ["ale_py"],
    "own-namespace/Mine-v0": ["own_namespace"],
}
LOCATE = """
import json, sys
from perdure.check_env import env_spec
found = {}
for name in sys.argv[1:]:
    located = env_spec(name).located()
    found[name] = located.imports
    # Each other process is given the module's name.
    assert located.located() is located
    located.make(1).close()
# A package that cannot be imported is no error of an id.
try:
    env_spec("broken/Thing-v0").make(1)
except Exception as error:
    assert "there is no environment 'broken/Thing-v0'" in str(error), error
else:
    raise AssertionError("made")
print(json.dumps(found))
"""


def test_the_package_of_an_id_is_imported(tmp_path):
    for module in ("minigrid", "highway_env", "ale_py"):
        pytest.importorskip(module)
    (tmp_path / "own_namespace").mkdir()
    (tmp_path / "own_namespace/__init__.py").write_text("import mine_ids")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/__init__.py").write_text("raise RuntimeError('no licence')")
    # In a process that has imported none of them.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOCATE, *MODULES],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == MODULES


def test_a_package_that_needs_gymnasium_is_tried(tmp_path):
    """No table knows it, and nothing in the id names it."""
    (tmp_path / "odd-1.0.dist-info").mkdir()
    (tmp_path / "odd-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: odd\nVersion: 1.0\nRequires-Dist: gymnasium >=1.0\n"
    )
    (tmp_path / "odd-1.0.dist-info/top_level.txt").write_text("mine_ids\n")
    assert env_spec("Mine-v3").located().imports == ("mine_ids",)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mine_ids:Mine-v3", "id"),
        ("mine_ids:Mine", "class"),
        ("mine_ids:Bare", "id"),
        ("mine_ids:own-namespace/Mine-v0", "id"),
        ("mine_ids.py:Mine-v3", "id"),
        ("mine_ids.py:own-namespace/Mine-v0", "id"),
        ("mine_ids.py:Bare", "id"),
        ("mine_ids:make", "factory"),
        ("mine_ids:CartPole-v1", "id"),
    ],
)
def test_a_module_in_front_of_an_id_or_a_factory(name, kind):
    env = env_spec(name).make(1)
    assert (env.spec is not None) == (kind == "id")
    if kind == "id":
        assert env.spec.id == name.partition(":")[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPole-v7", r"no environment 'CartPole-v7'. Close to it: CartPole-v1\b"),
        ("LunarLander-v2", r"Close to it: LunarLander-v3\b"),
        ("cartpole", r"Close to it: CartPole-v1\b"),
        ("MountainCarr-v0", r"Close to it: MountainCar-v0\b"),
        ("Nonsense-v1", r"no environment 'Nonsense-v1'. Expected a Gymnasium id"),
        ("", "Expected a Gymnasium id"),
        ("no such/thing", "Expected a Gymnasium id"),
        ("mine_ids:Mine-v4", r"Close to it: Mine-v3\b"),
        ("mine_ids:Gone", "there is no 'Gone' in mine_ids"),
        ("mine_ids:a:b", "no environment 'a:b'"),
        ("gone_module:Mine-v3", "module 'gone_module' cannot be imported"),
        (":Mine-v3", "expected the name of a module before the colon, found ''"),
        ("pettingzoo.classic.ches_v6", "no module 'ches_v6' in pettingzoo.classic. Close to it: chess_v6"),
        ("panda_gym_is_not_here/X-v0", "Expected a Gymnasium id"),
        ("PandaReach-v3", r"panda_gym registers those.*pip install panda-gym"),
        ("dm_control/cheetah-run-v0", r"shimmy registers those.*pip install shimmy"),
        ("mo-mountaincar-v0", r"pip install mo-gymnasium"),
        ("FetchReach-v3", r"pip install gymnasium-robotics"),
    ],
)
def test_a_name_of_nothing_is_told_with_what_is_close(name, said, monkeypatch):
    # What is installed in this venv is not imported for each of them.
    monkeypatch.setattr("importlib.metadata.distributions", list)
    with pytest.raises(EnvSpecError, match=said):
        env_spec(name).make(1)


def test_a_file_that_is_not_there():
    with pytest.raises(EnvSpecError, match=r"there is no file gone\.py"):
        env_spec("gone.py:Mine-v0")


def test_a_check_needs_no_import_and_says_that_a_script_does(prepared):
    pytest.importorskip("ale_py")
    report = check("ALE/Frostbite-v5", steps=20, cut=30)
    assert report.exact, report.text()
    assert "once ale_py is imported" in report.text()
    wrong = check("ALE/Frostbitten-v5", steps=20)
    assert wrong.verdict == "unchecked"
    assert "ALE/Frostbite-v5" in wrong.text()
    assert "Traceback" not in wrong.text()


def test_where_replaying_helps_that_is_found_out_too(prepared):
    pytest.importorskip("Box2D")
    report = check("LunarLander-v3", steps=20, cut=40)
    assert report.verdict == "refused"
    assert not report.exact
    assert report.with_replay.exact
    assert report.text().splitlines()[0].endswith("EXACT in EpisodeReplay")
    assert type(report).load(report.document()) == report


def test_gymnasiums_own_errors_need_no_traceback(prepared):
    report = check("Ant-v3", steps=20)
    assert report.verdict == "unchecked"
    assert "File" not in report.text()
