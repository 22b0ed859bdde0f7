"""The Arcade Learning Environment: exact where the emulator's state holds all, refused where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from environment_support import transported

from perdure.environments.handlers import _ale_state, atari
from perdure.errors import CaptureError, RestoreError
from perdure.state import capture, restore

ale_py = pytest.importorskip("ale_py")
gym = pytest.importorskip("gymnasium")
gym.register_envs(ale_py)


def make(game="Breakout", **options):
    env = gym.make(f"ALE/{game}-v5", **options)
    env.reset(seed=1)
    return env


def run(env, steps, seed=5):
    seen, actions = [], np.random.default_rng(seed)
    for _ in range(steps):
        obs, reward, terminated, truncated, info = env.step(int(actions.integers(env.action_space.n)))
        seen.append((obs.tobytes(), reward, terminated, truncated, repr(info)))
        if terminated or truncated:
            seen.append(env.reset()[0].tobytes())
    return seen


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repeat_action_probability": 0.0},
        {"frameskip": (2, 5)},
        {"obs_type": "ram", "full_action_space": True},
        {"mode": 4, "difficulty": 1},
        {"max_num_frames_per_episode": 400},
    ],
    ids=repr,
)
def test_emulators_go_on(options):
    env = make(**options)
    run(env, 150)
    state = transported(capture({"env": env}))
    fresh = make(**options)
    run(fresh, 9, seed=6)
    restore(state, {"env": fresh})
    assert run(fresh, 200) == run(env, 200)


def test_the_generator_of_the_emulator_is_part_of_the_state():
    env, other = make(), make()
    run(env, 50)
    state = transported(capture({"env": env}))
    expected = run(env, 60)
    for _ in range(2):
        restore(state, {"env": other})
        assert run(other, 60) == expected


@pytest.mark.parametrize("game", ["Breakout", "SpaceInvaders"])
def test_the_action_that_an_emulator_may_repeat_is_brought_back(game):
    # It is in no state that the emulator gives, and matters where its generator says that the next frame repeats it.
    env, other = make(game), make(game)
    actions = np.random.default_rng(1)
    repeated = 0
    for _ in range(40):
        for action in actions.integers(env.action_space.n, size=3):
            if any(env.step(int(action))[2:4]):
                env.reset()
        state = capture({"env": env})
        repeated += any("repeats" in path for path, _ in state.leaves())
        restored = transported(state)
        # Another one than those that came before.
        other.step(int(actions.integers(env.action_space.n)))
        restore(restored, {"env": other})
        for action in actions.integers(env.action_space.n, size=4):
            ours, theirs = env.step(int(action)), other.step(int(action))
            assert ours[0].tobytes() == theirs[0].tobytes()
            assert ours[1:4] == theirs[1:4]
            if ours[2] or ours[3]:
                assert env.reset()[0].tobytes() == other.reset()[0].tobytes()
    assert repeated


def test_a_state_with_another_generator_is_whole():
    env = make()
    ale, lengths = env.unwrapped.ale, set()
    for _ in range(40):
        run(env, 3)
        state = bytes(atari.capture_emulator(ale)["state"])
        made = _ale_state.obedient(state, 0.25)
        lengths.add(len(made) - len(state))
        ale.restoreState(ale_py.ALEState(made))
        assert bytes(ale.cloneState(include_rng=True).serialize()) == made
        ale.restoreState(ale_py.ALEState(state))
    # The text of a generator has not always the same length.
    assert len(lengths) > 1


@pytest.mark.parametrize(
    "repeats", [None, 3, {}, {"frames": 1 << 40, "seen": "x"}, {"frames": 2, "seen": "x"}]
)
def test_what_is_said_of_a_repeated_action_is_checked(repeats):
    env = make()
    run(env, 20)
    ale = env.unwrapped.ale
    before = atari.capture_emulator(ale)
    with pytest.raises(ValueError, match="repeat"):
        atari.restore_emulator(ale, {**before, "repeats": repeats})


def test_capturing_an_emulator_changes_nothing_that_follows():
    env, watched = make(), make()
    for _ in range(60):
        capture({"env": watched})
        assert run(watched, 1, seed=2) == run(env, 1, seed=2)


@pytest.mark.parametrize(("name", "what"), [("sound_obs", "sound"), ("color_averaging", "averages")])
def test_what_the_state_lacks_is_refused_with_the_remedy(name, what):
    ale = ale_py.ALEInterface()
    ale.setLoggerMode(ale_py.LoggerMode.Error)
    ale.setBool(name, True)
    ale.loadROM(ale_py.roms.get_rom_path("pong"))
    with pytest.raises(CaptureError, match=rf"{what}.*{name}=True.*perdure\.environments\.EpisodeReplay"):
        capture({"ale": ale})


def test_an_emulator_without_a_game_is_refused():
    with pytest.raises(CaptureError, match="loaded a game, found one without"):
        capture({"ale": ale_py.ALEInterface()})


def test_another_game_is_found_before_anything_is_changed():
    env, other = make("Pong"), make("Breakout")
    run(env, 9)
    before = other.unwrapped.ale.getRAM().tobytes()
    with pytest.raises(RestoreError, match=r"(?s)nothing was changed.*pong\.bin.*breakout\.bin"):
        restore(transported(capture({"ale": env.unwrapped.ale})), {"ale": other.unwrapped.ale})
    assert other.unwrapped.ale.getRAM().tobytes() == before


def test_other_settings_are_found():
    one, other = make().unwrapped.ale, make(repeat_action_probability=0.5).unwrapped.ale
    with pytest.raises(RestoreError, match=r"repeat_action_probability=0\.5"):
        restore(capture({"ale": one}), {"ale": other})


def replaced(state, make_content):
    for path, leaf in state.leaves():
        if path.endswith("['state']") and "ale" in path:
            content = np.empty(leaf.shape, leaf.dtype)
            leaf.data.read_into(memoryview(content))
            leaf.data = make_content(content)
            leaf.shape, leaf.dtype = leaf.data.shape, leaf.data.dtype.str
            leaf.order = tuple(range(leaf.data.ndim))
            return state
    raise AssertionError("no state of an emulator")


@pytest.mark.parametrize(
    "content",
    [
        lambda old: old[:0],
        lambda old: old[:100],
        lambda old: np.concatenate([old, np.zeros(1 << 20, np.uint8)]),
        lambda old: old.astype(np.int16),
        lambda old: np.zeros_like(old),
        lambda old: old.reshape(1, -1),
        # Another game by its checksum.
        lambda old: np.where((old >= ord("0")) & (old <= ord("9")), np.uint8(ord("1")), old),
    ],
)
def test_bytes_that_are_no_state_of_this_game_do_not_reach_the_emulator(content):
    env = make()
    run(env, 20)
    state = replaced(transported(capture({"ale": env.unwrapped.ale})), content)
    other = make()
    before = other.unwrapped.ale.getRAM().tobytes()
    with pytest.raises(RestoreError, match="expected the"):
        restore(state, {"ale": other.unwrapped.ale})
    assert other.unwrapped.ale.getRAM().tobytes() == before


def test_the_emulator_is_one_array():
    env = make(repeat_action_probability=0.0)
    before = transported(capture({"ale": env.unwrapped.ale}))
    leaves = [path for path, _ in before.leaves() if path.startswith("ale")]
    assert leaves == ["ale['form']", "ale['state']"]
