"""Secrets are left out of every checkpoint; on resuming, the script's own stay."""

import argparse
import collections
import json
import os

import numpy as np
import pytest
import torch
from state_support import packed, transported

import perdure
from perdure.state import _secrets, capture, check, diff, restore
from perdure.state._secrets import is_secret_name, is_secret_path
from perdure.tree import Omitted


class Thing:
    def __init__(self, **fields):
        vars(self).update(fields)


class Slotted:
    __slots__ = ("password", "size")


@pytest.fixture(autouse=True)
def by_default(monkeypatch):
    for name in ("_added", "_allowed"):
        monkeypatch.setattr(_secrets, name, set())
    _secrets._known.clear()
    yield
    _secrets._known.clear()


SECRETS = [
    "api_key", "apikey", "API_KEY", "apiKey", "api-key", "WANDB_API_KEY", "access_token", "auth_token", "accessToken",
    "refresh_token", "password", "db_password", "passwd", "secret", "client_secret", "private_key", "credentials",
    "AWS_SECRET_ACCESS_KEY", "Authorization", "hf_token", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "github_token",
    "WANDB_KEY", "openai_api_key", "AWS_SESSION_TOKEN", "bearer", "auth", "http_auth", "jwt", "_password", "api_key_",
    "_Client__password", "X-Api-Key", "telegram_bot_token", "db_pass", "ssh_key", "secret_key_base", "cookie",
]  # fmt: skip
OTHERS = [
    "token",
    "token_embedding",
    "tokenizer",
    "key",
    "keys",
    "secretary",
    "passwords_seen",
    "api",
    "secret_level",
    *(
        "n_tokens",
        "pad_token",
        "eos_token",
        "user_token",
        "next_token",
        "author",
        "forward_pass",
        "pwd",
        "pass",
    ),
    *("rng_key", "key_bindings", "keyboard", "authentic", "bearing", "password_length", "secret_santa"),
]


def test_names():
    assert [name for name in SECRETS if not is_secret_name(name)] == []
    assert [name for name in OTHERS if is_secret_name(name)] == []
    for path in ("x.api_key", "x['api_key']", "api_key", "a[3].b['x.y'].password"):
        assert is_secret_path(path), path
    for path in ("x.api_key.more", "x['api_key'][0]", "x", "", "x[0]"):
        assert not is_secret_path(path), path


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", ["hunter2-hunter2", b"hunter2-hunter2"], ids=["str", "bytes"])
def test_a_secret_is_in_no_checkpoint(name, value):
    slotted = Slotted()
    slotted.password, slotted.size = value, 1
    world = {
        name: value,
        "x": Thing(**{name: value}, size=1),
        "d": {name: value, "size": 1},
        "o": collections.OrderedDict({name: value}),
        "s": slotted,
    }
    text, content = packed(capture(world))
    assert "hunter2" not in json.dumps(text)
    assert b"hunter2".hex() not in json.dumps(text)
    assert not any(b"hunter2" in each for each in content)
    own = {
        name: "mine",
        "x": Thing(**{name: "mine"}, size=0),
        "d": {name: "mine", "size": 0},
        "o": collections.OrderedDict({name: "mine"}),
        "s": Slotted(),
    }
    own["s"].password, own["s"].size = "mine", 0
    report = restore(transported(capture(world)), own)
    assert (
        own[name] == own["d"][name] == own["o"][name] == vars(own["x"])[name] == own["s"].password == "mine"
    )
    assert own["d"]["size"] == own["x"].size == own["s"].size == 1
    assert len(report.skipped) >= 5
    assert report.exact


def test_only_strings_are_secrets():
    world = {"x": Thing(token_embedding=torch.ones(2), secret=np.ones(2), password=5, credentials=["a", 1])}
    assert not any(isinstance(node, Omitted) for _, node in capture(world).leaves())


Login = collections.namedtuple("Login", "user password")


class SecretStr:
    """As pydantic has it."""

    def __init__(self, value):
        self._secret_value = value

    def get_secret_value(self):
        return self._secret_value


def secrets_of_other_kinds(word):
    """Secrets that are no plain strings under a name."""
    return Thing(
        size=1,
        login=Login("me", word),
        auth=("me", word),
        credentials={"user": "me", "value": word},
        api_key=bytearray(word.encode()),
        password=np.str_(word),
        key=SecretStr(word),
        url=f"https://me:{word}@example.com/x",
        config={"database": f"postgresql://me:{word}@db/x", "headers": {"Authorization": f"Bearer {word}"}},
        namespace=argparse.Namespace(hf_token=word, lr=0.1),
    )


def test_secrets_of_other_kinds():
    state = capture({"x": secrets_of_other_kinds("hunter2")})
    text, content = packed(state)
    assert "hunter2" not in json.dumps(text)
    assert not any(b"hunter2" in each for each in content)
    for word in ("hunter2", "mine"):
        live = {"x": secrets_of_other_kinds(word)}
        live["x"].size, live["x"].namespace.lr = 0, 0.0
        report = restore(transported(capture({"x": secrets_of_other_kinds("hunter2")})), live)
        assert report.exact
        assert (live["x"].size, live["x"].namespace.lr) == (1, 0.1)
        assert live["x"].login == ("me", word)
        assert live["x"].auth == ("me", word)
        assert live["x"].key.get_secret_value() == live["x"].namespace.hf_token == live["x"].password == word
        assert live["x"].url == f"https://me:{word}@example.com/x"


def test_part_of_the_environment(monkeypatch):
    for name in ("SERVICE_A", "SERVICE_B", "SERVICE_C", "SERVICE_D"):
        monkeypatch.setenv(name, f"hunter2 {name}")
    part = {name: text for name, text in os.environ.items() if name.startswith("SERVICE")}
    assert "hunter2" not in json.dumps(packed(capture({"x": Thing(part=part), "y": part}))[0])
    assert "SEED" in json.dumps(packed(capture({"x": {"SEED": "1", "NAME": "a", "MORE": "b"}}))[0])


def test_a_url_without_a_password_is_kept():
    world = {"x": Thing(a="https://example.com/@me", b="me@example.com", c="a://b@c", d="x: y@z")}
    assert not any(isinstance(node, Omitted) for _, node in capture(world).leaves())


def test_copies_of_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_SERVICE", "hunter2")
    for copy in (dict(os.environ), os.environ, {**os.environ, "MORE": "x"}):
        world = {"x": Thing(environment=copy, size=1)}
        assert "hunter2" not in json.dumps(packed(capture(world))[0])
        live = {"x": Thing(environment={**os.environ, "MINE": "y"}, size=0)}
        restore(transported(capture(world)), live)
        assert live["x"].environment["MINE"] == "y"
    few = {"x": {"HOME": os.environ.get("HOME", "h"), "a": 1, "b": 2, "c": 3}}
    assert not any(isinstance(node, Omitted) for _, node in capture(few).leaves())


def test_names_are_added_and_allowed():
    world = {"x": Thing(licence="hunter2", secret="apple")}
    perdure.secrets("licence", allow=["secret"])
    assert [path for path, node in capture(world).leaves() if isinstance(node, Omitted)] == ["x.licence"]
    live = {"x": Thing(licence="mine", secret="?")}
    restore(transported(capture(world)), live)
    assert vars(live["x"]) == {"licence": "mine", "secret": "apple"}


def older(world):
    """The state of a world as it was captured before secrets were left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.state._walker.is_secret_name", lambda *_: False)
        patch.setattr("perdure.state._walker.is_environment_copy", lambda *_: False)
        patch.setattr("perdure.state._walker.has_login", lambda *_: False)
        return transported(capture(world))


def test_a_secret_in_an_older_checkpoint():
    environment = {**os.environ, "SOME_SERVICE": "hunter2"}
    state = older({"x": Thing(api_key="hunter2", d={"password": "hunter2"}, environment=environment, n=1)})
    live = {"x": Thing(api_key="mine", d={"password": "mine"}, environment=dict(os.environ), n=0)}
    report = restore(state, live)
    assert report.exact
    assert vars(live["x"]) == {
        "api_key": "mine",
        "d": {"password": "mine"},
        "environment": dict(os.environ),
        "n": 1,
    }
    # What the script has not got is restored, as it was until now.
    live = {"x": Thing(api_key=None, d={}, n=0)}
    restore(older({"x": Thing(api_key="hunter2", d={"password": "hunter2"}, n=1)}), live)
    assert live["x"].api_key == live["x"].d["password"] == "hunter2"


def test_no_message_tells_a_secret():
    state = older(
        {"x": Thing(api_key="hunter2", u="a://b:hunter2@c"), "y": Thing(secret=torch.nn.Linear(1, 1))}
    )
    other = older(
        {"x": Thing(api_key="hunter3", u="a://b:hunter3@c"), "y": Thing(secret=torch.nn.Linear(1, 1))}
    )
    assert "hunter" not in str([str(each) for each in diff(state, other)])
    report = check(state, {"x": Thing(api_key=Thing()), "y": Thing(secret="hunter4")})
    assert "hunter" not in str(report)
