"""`EpisodeReplay` from close by: what is kept, what is noticed, what is refused."""

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest

from perdure import tree
from perdure.environments import EpisodeReplay, PoolReplay, fresh_world
from perdure.environments.replay._log import Actions, Unrecordable
from perdure.errors import CaptureError, NotCapturedWarning, RestoreError, SlowReplayWarning
from perdure.state import capture, diff, refuse, register, restore

HIDDEN = {"level": 0}


class Engine:
    """Stands for native code: nobody can look into it."""

    def __init__(self):
        self.place = 0.0
        self.total = 0.0


refuse(Engine, "it is native")


class Game(gym.Env):
    """An environment on such an engine."""

    def __init__(self, action_space=None):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = action_space or gym.spaces.Discrete(3)
        self.engine = None
        self.difficulty = 1.0
        self.start = 0
        self.asked = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.asked = options
        self.engine = Engine()
        self.engine.place = self.np_random.normal() * self.difficulty + (options or {}).get("start", 0)
        return self._seen(), {}

    def step(self, action):
        self.engine.place += float(np.sum(action)) + self.np_random.normal() * self.difficulty
        self.engine.total += abs(self.engine.place)
        return self._seen(), -abs(self.engine.place), False, False, {}

    def _seen(self):
        return np.array([self.engine.place, self.engine.total, self.difficulty])


class Forgetful(Game):
    """Its reset keeps something of the episodes before that nobody sees."""

    def reset(self, *, seed=None, options=None):
        HIDDEN["level"] += 1
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.engine.place += HIDDEN["level"] / 1000
        return super().step(action)


class Drawing(Game):
    """Draws from the process's generator."""

    def step(self, action):
        self.engine.place += np.random.normal()
        return super().step(action)


class Buffered(Game):
    """Gives out the same array each time."""

    def __init__(self):
        super().__init__()
        self.buffer = np.zeros(3)

    def _seen(self):
        self.buffer[:] = super()._seen()
        return self.buffer


def run(env, steps):
    found = []
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append((obs.tobytes(), reward))
        if terminated or truncated:
            found.append(env.reset()[0].tobytes())
    return found


def played(make, steps=30, seed=1, **reset):
    env = make()
    env.action_space.seed(seed)
    env.reset(seed=seed, **reset)
    run(env, steps)
    return env


def test_without_it_a_native_environment_is_refused():
    with pytest.raises(CaptureError, match="engine"):
        capture({"env": played(Game)})


def test_capturing_changes_nothing():
    envs = [played(lambda: EpisodeReplay(Game())) for _ in range(2)]
    found = []
    for env in envs:
        found.append([])
        for _ in range(5):
            if env is envs[1]:
                capture({"env": env})
            found[-1] += run(env, 7)
    assert found[0] == found[1]


def test_the_call_of_reset_is_kept():
    env = played(lambda: EpisodeReplay(Game()))
    env.reset(seed=5, options={"start": 100.0, "shape": (1, 2), "field": np.arange(3)})
    env.step(1)
    state = capture({"env": env})
    fresh = EpisodeReplay(Game())
    assert restore(state, {"env": fresh}).exact
    assert fresh.unwrapped.asked["shape"] == (1, 2)
    assert fresh.unwrapped.asked["field"].tolist() == [0, 1, 2]
    assert run(fresh, 20) == run(env, 20)


def test_what_was_changed_from_outside_since_the_reset_is_kept():
    env = EpisodeReplay(gym.wrappers.TimeLimit(Game(), 50))
    env.action_space.seed(1)
    env.reset(seed=1)
    run(env, 20)
    env.action_space.sample()
    env.unwrapped.start = 7
    env.noted = [1]
    state = capture({"env": env})
    fresh = EpisodeReplay(gym.wrappers.TimeLimit(Game(), 50))
    assert restore(state, {"env": fresh}).exact
    assert fresh.unwrapped.start == 7
    assert fresh.noted == [1]
    assert run(fresh, 200) == run(env, 200)


def test_before_the_first_reset_there_is_nothing_to_play():
    env = EpisodeReplay(Game())
    env.unwrapped.difficulty = 3.0
    state = capture({"env": env})
    fresh = EpisodeReplay(Game())
    assert restore(state, {"env": fresh}).exact
    assert fresh.unwrapped.difficulty == 3.0
    assert fresh.reset(seed=2)[0].tobytes() == env.reset(seed=2)[0].tobytes()


def test_an_unseeded_reset_is_played_again():
    env = EpisodeReplay(Game())
    env.reset()
    fresh = EpisodeReplay(Game())
    assert restore(capture({"env": env}), {"env": fresh}).exact
    env.action_space.seed(1), fresh.action_space.seed(1)
    assert run(fresh, 20) == run(env, 20)


def test_a_resumed_episode_can_be_captured_again():
    env = played(lambda: EpisodeReplay(Game()))
    second = EpisodeReplay(Game())
    restore(capture({"env": env}), {"env": second})
    assert run(env, 15) == run(second, 15)
    third = played(lambda: EpisodeReplay(Game()), seed=9)
    restore(capture({"env": second}), {"env": third})
    assert [str(each) for each in diff(capture({"env": env}), capture({"env": third}))] == []
    assert run(env, 15) == run(third, 15)


def test_an_observation_that_the_environment_writes_into_is_the_one_of_the_checkpoint():
    env = EpisodeReplay(Buffered())
    world = {"obs": env.reset(seed=1)[0], "env": env}
    run(env, 5)
    state = capture(world)
    for order in (("obs", "env"), ("env", "obs")):
        fresh = EpisodeReplay(Buffered())
        there = {"obs": fresh.reset(seed=2)[0], "env": fresh}
        there = {name: there[name] for name in order}
        assert restore(state, there).exact
        assert there["obs"].tobytes() == world["obs"].tobytes()
        assert run(fresh, 3)[-1] == run(copied(state), 3)[-1]


def copied(state):
    fresh = EpisodeReplay(Buffered())
    restore(state, {"env": fresh, "obs": np.zeros(3)})
    return fresh


def test_other_wrappers_and_a_vector_go_around():
    def make():
        return gym.vector.SyncVectorEnv(
            [
                lambda: gym.wrappers.NormalizeObservation(EpisodeReplay(gym.wrappers.TimeLimit(Game(), 9)))
                for _ in "ab"
            ]
        )

    def course(envs, steps):
        return [[part.tobytes() for part in envs.step(envs.action_space.sample())[:4]] for _ in range(steps)]

    envs, fresh = make(), make()
    for each in (envs, fresh):
        each.action_space.seed(3)
    envs.reset(seed=1)
    course(envs, 40)
    fresh.reset(seed=2)
    assert restore(capture({"envs": envs}), {"envs": fresh}).exact
    assert course(fresh, 100) == course(envs, 100)


def test_one_inside_the_other():
    def make():
        return EpisodeReplay(gym.wrappers.TimeLimit(EpisodeReplay(Game()), 40))

    env, fresh = played(make, 100), played(make, 10, seed=5)
    assert restore(capture({"env": env}), {"env": fresh}).exact
    assert run(fresh, 100) == run(env, 100)


# -- what is noticed -----------------------------------------------------------------------------------------


def test_another_course_is_an_error_that_says_at_which_step():
    env = EpisodeReplay(Forgetful())
    for _ in range(3):
        env.reset(seed=1)
    run(env, 10)
    state = capture({"env": env})
    with pytest.raises(RestoreError, match=r"after step 1 of 10 the observation differs.*before_reset"):
        restore(state, {"env": EpisodeReplay(Forgetful())})
    HIDDEN["level"] -= 1  # as it was
    with pytest.raises(RestoreError, match="half restored"):
        restore(state, {"env": EpisodeReplay(Forgetful(), before_reset=lambda env: HIDDEN.update(level=1))})


def test_an_error_in_the_environment_says_at_which_step():
    class Breaking(Game):
        def step(self, action):
            if self.np_random is not None and self.broken:
                raise OSError("no display")
            return super().step(action)

        broken = False

    env = played(lambda: EpisodeReplay(Breaking()))
    state = capture({"env": env})
    Breaking.broken = True
    with pytest.raises(RestoreError, match="in step 1 of 30: OSError: no display"):
        restore(state, {"env": EpisodeReplay(Breaking())})


def test_after_an_error_in_a_step_nothing_is_captured_until_the_next_reset():
    class Breaking(Game):
        def step(self, action):
            raise OSError("no display")

    env = EpisodeReplay(Breaking())
    env.reset(seed=1)
    with pytest.raises(OSError, match="no display"):
        env.step(0)
    with pytest.raises(CaptureError, match="Reset it first"):
        capture({"env": env})
    env.reset()
    capture({"env": env})


def test_options_that_cannot_be_kept_are_an_error_at_the_checkpoint():
    env = played(lambda: EpisodeReplay(Game()), options={"engine": Engine()})
    with pytest.raises(CaptureError, match="options of its last reset"):
        capture({"env": env})
    env.reset()
    capture({"env": env})


def test_a_handler_that_fails_is_an_error_at_the_checkpoint():
    class Part:
        broken = True

    def take(part):
        if Part.broken:
            raise OSError("not now")
        return 1

    register(Part, capture=take, restore=lambda part, saved: None)
    env = EpisodeReplay(Game())
    env.unwrapped.part = Part()
    env.reset(seed=1)
    env.step(1)
    with pytest.raises(CaptureError, match="not now"):
        capture({"env": env})
    Part.broken = False
    with pytest.raises(CaptureError, match="not now"):  # as it was at the reset
        capture({"env": env})
    env.reset()
    capture({"env": env})


def test_one_world_for_all_episodes_is_refused_unless_each_gets_its_own():
    env = gym.make("BipedalWalker-v3")
    with pytest.raises(ValueError, match=r"before_reset=perdure[.]environments[.]fresh_world"):
        EpisodeReplay(env)
    EpisodeReplay(env, before_reset=fresh_world).reset(seed=1)
    with pytest.raises(TypeError, match="Box2D"):
        EpisodeReplay(Game(), before_reset=fresh_world).reset(seed=1)


def test_with_one_world_for_all_episodes_another_course_is_noticed():
    def make():
        env = gym.make("BipedalWalker-v3", max_episode_steps=200)
        return EpisodeReplay(env, before_reset=lambda env: None)

    env = make()
    env.action_space.seed(1)
    env.reset(seed=1)
    while not run(env, 1)[1:]:
        pass
    run(env, 80)
    with pytest.raises(RestoreError, match=r"after step 48 of 80 the observation differs"):
        restore(capture({"env": env}), {"env": make()})


def test_a_fresh_world_makes_an_episode_what_it_is_in_a_new_environment():
    def make():
        return EpisodeReplay(gym.make("BipedalWalker-v3", max_episode_steps=60), before_reset=fresh_world)

    used, new = make(), make()
    used.reset(seed=1)
    run(used, 130)
    for env in (used, new):
        env.action_space.seed(5)
    assert used.reset(seed=7)[0].tobytes() == new.reset(seed=7)[0].tobytes()
    assert run(used, 150) == run(new, 150)


@pytest.mark.parametrize("already_drawn", [0, 1])
def test_steps_that_draw_from_the_process_are_noticed_while_there_is_time(already_drawn):
    env = EpisodeReplay(Drawing())
    env.reset(seed=1)
    # NumPy draws normal numbers in pairs and sets the second aside.
    np.random.seed(1)
    np.random.normal(size=already_drawn)
    with pytest.warns(NotCapturedWarning, match=r"numpy\.random"):
        env.step(1)


def test_draws_from_the_process_are_played_again_where_nothing_else_draws():
    env = EpisodeReplay(Drawing())
    env.reset(seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotCapturedWarning)
        env.action_space.seed(1)
        run(env, 20)
        state = capture({"env": env})
        fresh = EpisodeReplay(Drawing())
        restore(state, {"env": fresh})
        expected = run(env, 20)
        restore(state, {"env": fresh})
        assert run(fresh, 20) == expected


def test_the_cost_is_known_beforehand():
    env = played(lambda: EpisodeReplay(Game()), 300)
    assert 0 < env.replay_seconds < 60
    env = EpisodeReplay(Game(), warn_after=0.0)
    env.reset(seed=1)
    with pytest.warns(SlowReplayWarning, match="the 256 steps since the last reset would be replayed"):
        run(env, 256)
    run(env, 600)  # once is enough


# -- actions -------------------------------------------------------------------------------------------------

SPACES = {
    "discrete": (
        gym.spaces.Discrete(3, start=-1),
        [-1, np.int64(1), np.array(0), np.array([1]), np.int32(0)],
    ),
    "box": (
        gym.spaces.Box(-1, 1, (2,), np.float32),
        [np.zeros(2, np.float32), np.array([9.0, -9.0]), [0.5, 1], (0.5, np.float32(2))],
    ),
    "several": (gym.spaces.MultiDiscrete([2, 3]), [np.array([1, 2]), [0, 0]]),
    "binary": (gym.spaces.MultiBinary(3), [np.array([0, 1, 1], np.int8), np.array([True, False, True])]),
    "dict": (
        gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Box(0, 1, (2,))}),
        [{"a": 1, "b": np.ones(2)}, {"b": np.ones(2, np.float32), "a": np.int64(0)}],
    ),
    "tuple": (gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)]), [(1, 2), (np.int64(0), 2)]),
}


@pytest.mark.parametrize("name", SPACES)
def test_actions_are_given_again_with_their_types(name):
    class Listening(Game):
        def step(self, action):
            heard.append(copy.deepcopy(action))
            return super().step(0)

    heard = []
    space, actions = SPACES[name]
    env = EpisodeReplay(Listening(space))
    env.reset(seed=1)
    for action in actions * 3:
        env.step(action)
    first, heard[:] = list(heard), []
    restore(capture({"env": env}), {"env": EpisodeReplay(Listening(space))})
    assert [repr(action) for action in heard] == [repr(action) for action in first]
    assert [type(action) for action in heard] == [type(action) for action in first]


def test_an_action_that_the_agent_writes_into_afterwards_is_kept_as_it_was():
    space = gym.spaces.Box(-1, 1, (2,), np.float64)
    env = EpisodeReplay(Game(space))
    env.reset(seed=1)
    action = np.zeros(2)
    for value in range(10):
        action[:] = value
        env.step(action)
    fresh = EpisodeReplay(Game(space))
    assert restore(capture({"env": env}), {"env": fresh}).exact


@pytest.mark.parametrize(
    "action",
    ["left", 1 << 70, np.array(["left"]), [object()]],
    ids=["a word", "too large", "an array of words", "an object"],
)
def test_an_action_that_cannot_be_kept_does_not_disturb_the_training(action):
    class Listening(Game):
        def step(self, action):
            return super().step(0)

    env = EpisodeReplay(Listening())
    env.reset(seed=1)
    env.step(1)
    env.step(action)
    with pytest.raises(CaptureError, match="an action of this episode cannot be recorded"):
        capture({"env": env})
    env.reset()
    capture({"env": env})
    with pytest.raises(Unrecordable):
        Actions().append(action)


def test_an_action_of_another_space_is_known_before_it_is_needed():
    env = EpisodeReplay(Game(gym.spaces.Discrete(2)))
    env.reset(seed=1)
    env.step(2)
    with pytest.raises(CaptureError, match=r"expected actions of Discrete\(2\), found 2"):
        capture({"env": env})


# -- hostile states ------------------------------------------------------------------------------------------


def payload(state):
    """What the handler gave, as a dict of nodes."""
    return dict(state.root.fields["env"].payload.pairs)


def put(state, path, value):
    """Put a value where `path` leads to in the payload."""
    node = state.root.fields["env"].payload
    *way, last = path
    for key in way:
        node = node.items[key] if isinstance(node, tree.SequenceNode) else dict(node.pairs)[key]
    if isinstance(node, tree.SequenceNode):
        node.items[last] = value
    else:
        node.pairs[[key for key, _ in node.pairs].index(last)] = (last, value)


def array(values, dtype):
    values = np.asarray(values, dtype)
    return tree.Array("numpy", values.dtype.str, values.shape, tuple(range(values.ndim)), values)


HOSTILE = {
    "an action out of range": (("actions", "columns", 0), array([7] * 30, np.int64)),
    "a negative action": (("actions", "columns", 0), array([-1] * 30, np.int64)),
    "actions of another type": (("actions", "columns", 0), array([0.5] * 30, np.float64)),
    "actions of another shape": (("actions", "columns", 0), array([[0]] * 30, np.int64)),
    "fewer actions": (("actions", "columns", 0), array([0] * 29, np.int64)),
    "text for actions": (("actions", "columns", 0), "0"),
    "another kind": (("actions", "kinds", 0, 0), "object"),
    "a kind of objects": (("actions", "kinds", 0, 1), "|O"),
    "a kind that no array has": (("actions", "kinds", 0, 1), "nonsense"),
    "a huge shape": (("actions", "kinds", 0, 2), tree.SequenceNode("list", [1 << 40])),
    "kinds that are not there": (("actions", "which"), array([1] * 30, np.uint8)),
    "kinds of another type": (("actions", "which"), array([0] * 30, np.float64)),
    "more steps": (("actions", "which"), array([0] * 31, np.uint8)),
    "fewer digests": (("outcomes", "digests"), array([0] * 3, np.uint64)),
    "digests of another type": (("outcomes", "digests"), array([0] * 30, np.float32)),
    "no rewards": (("outcomes", "rewards"), None),
    "no state": (("now",), None),
    "a state of another kind": (("before",), 3),
    "no first observation": (("first",), None),
    "no actions": (("actions",), tree.SequenceNode("list", [])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_payload_that_cannot_be_is_refused_before_the_environment_is_touched(name):
    state = capture({"env": played(lambda: EpisodeReplay(Game()))})
    put(state, *HOSTILE[name])
    fresh = played(lambda: EpisodeReplay(Game()), seed=4)
    before = fresh.unwrapped.engine, fresh.unwrapped.np_random.bit_generator.state
    with pytest.raises(RestoreError):
        restore(state, {"env": fresh})
    assert (fresh.unwrapped.engine, fresh.unwrapped.np_random.bit_generator.state) == before


def test_a_flipped_digest_is_another_course():
    state = capture({"env": played(lambda: EpisodeReplay(Game()))})
    rows = dict(payload(state)["outcomes"].pairs)["digests"].data
    rows[17] ^= np.uint64(1)
    with pytest.raises(RestoreError, match="after step 18 of 30"):
        restore(state, {"env": EpisodeReplay(Game())})


def test_a_checkpoint_of_another_environment_is_refused():
    state = capture({"env": played(lambda: EpisodeReplay(Game()))})
    with pytest.raises(RestoreError, match=r"has a .*Game, the script a .*LunarLander"):
        restore(state, {"env": EpisodeReplay(gym.make("LunarLander-v3").unwrapped)})


def test_a_state_inside_names_nothing_that_is_made():
    state = capture({"env": played(lambda: EpisodeReplay(Game()))})
    inside = payload(state)["before"]
    inside.fields["env"].fields["asked"] = tree.Object("subprocess:Popen", {"args": "true"})
    inside.fields["env"].fields["step"] = "no method any more"
    own = payload(state)["now"].fields["own"]
    own.pairs += [("step", "no method any more"), ("env", None), ("__class__", None)]
    fresh = EpisodeReplay(Game())
    restore(state, {"env": fresh})
    assert fresh.unwrapped.asked is None
    assert callable(fresh.unwrapped.step)
    assert not vars(fresh).keys() & {"step", "__class__"}
    assert isinstance(fresh.env, Game)


# -- pools ---------------------------------------------------------------------------------------------------


def pool(**kwargs):
    return PoolReplay(lambda seed: gym.make_vec("CartPole-v1", 2, "sync"), 3, **kwargs)


def steps(envs, count):
    return [envs.step(np.array([index % 2, 1])) for index in range(count)]


def test_after_the_last_step_of_a_pool_all_episodes_are_truncated_and_new_ones_begin():
    envs = pool(max_replay_steps=5)
    envs.reset()
    found = steps(envs, 7)
    assert [bool(each[3].all()) for each in found] == [False, False, False, False, True, False, False]
    assert [float(each[1].sum()) for each in found] == [2, 2, 2, 2, 2, 0, 2]


def test_every_pool_has_a_seed_of_its_own():
    seeds = []

    def make(seed):
        seeds.append(seed)
        return gym.make_vec("CartPole-v1", 2, "sync")

    envs = PoolReplay(make, 3, max_replay_steps=2)
    envs.reset()
    steps(envs, 6)
    envs.reset()
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 1 << 31 for seed in seeds)
    envs.reset(seed=3)
    assert seeds[-1] == 3


def test_a_pool_that_gives_whichever_is_first_is_refused():
    made = gym.make_vec("CartPole-v1", 2, "sync")
    made.batch_size = 1
    with pytest.raises(ValueError, match="batch_size=num_envs"):
        PoolReplay(lambda seed: made, 1)
    with pytest.raises(ValueError, match="no options"):
        pool().reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="NEXT_STEP"):
        PoolReplay(
            lambda seed: gym.make_vec(
                "CartPole-v1", 2, "sync", vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
            ),
            1,
            max_replay_steps=3,
        )


def test_a_pool_is_captured_right_at_its_end():
    for at in (0, 4, 5, 6):
        envs, fresh = pool(max_replay_steps=5), pool(max_replay_steps=5)
        for each in (envs, fresh):
            each.reset()
        steps(envs, at)
        steps(fresh, 8)
        assert restore(capture({"envs": envs}), {"envs": fresh}).exact
        ours, theirs = (
            [part.tobytes() for each in steps(one, 20) for part in each[:4]] for one in (envs, fresh)
        )
        assert ours == theirs


def test_a_pool_that_was_never_reset():
    envs, fresh = pool(), pool()
    fresh.reset()
    steps(fresh, 5)
    assert restore(capture({"envs": envs}), {"envs": fresh}).exact
    assert envs.reset()[0].tobytes() == fresh.reset()[0].tobytes()
