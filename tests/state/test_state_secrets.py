"""Secrets are left out of every checkpoint; on resuming, the script's own stay."""

import argparse
import collections
import json
import os
import time

import numpy as np
import pytest
import torch
from state_support import packed, transported

import perdure
from perdure.inspect._leaves import leaves_of
from perdure.state import _secrets, capture, check, diff, restore
from perdure.state._secret_texts import tells_secret, without_secret_texts
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
    "WANDB_KEY", "openai_api_key", "AWS_SESSION_TOKEN", "bearer", "auth", "http_auth",
    "jwt", "_password", "api_key_",
    "_Client__password", "X-Api-Key", "telegram_bot_token",
    "db_pass", "pass", "pwd", "PASS", "passcode", "http.auth", "ssh_key", "secret_key_base", "cookie",
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
        "passes",
        "pass_rate",
        "n_pass",
        "first_pass",
        "compass",
        "bypass",
        "passenger",
        "authority",
        "auth_rate",
        "pwd_length",
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


#: Texts with a secret in them: of the names of things none is one.
TELLING = [
    "--api-key=hunter2",
    "--api-key hunter2",
    "python train.py --lr 0.1 --hf_token hunter2 --seed 1",
    "wandb login --relogin --db.password=hunter2",
    "-password hunter2",
    "--token=hunter2",
    "api_key=hunter2",
    "host=db user=me password=hunter2 dbname=x",
    "Server=x;User Id=me;Password=hunter2;",
    "Server=x;UID=me;PWD=hunter2",
    "AccountName=x;AccountKey=hunter2==;EndpointSuffix=core",
    "https://example.com/x?user=me&access_token=hunter2",
    "https://example.com/x?token=hunter2",
    "postgresql://me:hunter2@db/x",
    "see postgresql+psycopg2://me:hun@ter2@db:5432/x for more",
    "redis://:hunter2@db",
    "sqlite:///x.db and mysql://root:hunter2@localhost",
    '{"lr": 0.1, "api_key": "hunter2"}',
    "{'password': 'hunter2'}",
    "lr: 0.1\n  password: hunter2\nseed: 1",
    "Authorization: Bearer hunter2",
    "curl -H 'Authorization: Basic hunter2' example.com",
    "X-Api-Key: hunter2",
    "Bearer hunter2",
    "export WANDB_API_KEY=hunter2",
    "sk-proj-hunter2abcdefghijkl0123456789",
    "clone https://x-access-token:hunter2@github.com/me/x",
    "ghp_hunter2abcdefghijklmnopqrstuvwxyz01",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
    "eyJhbGciOiJIhunter2.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4",
]
#: Texts that only look like it.
HARMLESS = [
    "passes=12 pass_rate=0.5",
    "pass=12, fail=3",
    "forward_pass=1",
    "--max-tokens 8 --pad-token <pad>",
    "usage: train.py [--api-key API_KEY] [--password PASSWORD]",
    "--api-key=$API_KEY",
    "--password=***",
    "the secret of the game is patience",
    "auth=yes",
    "key=value",
    "keys: left, right",
    "token_embedding.weight",
    "https://example.com/x?page=2",
    "mailto:me@example.com",
    "a://b@c d:e@f",
    "x: y@z",
    "step 3: reward=1.0",
    "bearer of good news",
    "task-sk-1",
    "sk-learn",
    "rng_key=[0, 1]",
    "2026-11-28 10:00:00",
]
#: How a text lies in a world: what has to stay as the script has it.
HOLDERS = {
    "attribute": lambda text: Thing(x=text),
    "value": lambda text: {"a": text, "n": 1},
    "list": lambda text: ["a", text, 3],
    "texts": lambda text: ["a", text, "b"],
    "long list": lambda text: [*map(str, range(20)), text],
    "tuple": lambda text: (1, text),
    "deque": lambda text: collections.deque([1, text], 5),
    "set": lambda text: {text},
    "key": lambda text: {text: 1},
    "bytes": lambda text: [text.encode()],
    "numpy": lambda text: Thing(x=np.str_(text)),
    "deep": lambda text: Thing(x=[{"a": (text, [text])}]),
}


@pytest.mark.parametrize("telling", TELLING)
def test_a_text_with_a_secret_is_in_no_checkpoint(telling):
    assert "hunter2" not in without_secret_texts(telling) or "@ter2" in telling
    world = {"direct": telling, **{name: hold(telling) for name, hold in HOLDERS.items()}}
    text, content = packed(capture(world))
    for form in ("hunter2", "hun@ter2", b"hunter2".hex(), b"hun@ter2".hex()):
        assert form not in json.dumps(text)
        assert not any(form.encode() in each for each in content)
    own = telling.replace("hunter2", "mine").replace("hun@ter2", "mine")
    live = {"direct": own, **{name: hold(own) for name, hold in HOLDERS.items()}}
    restored = restore(transported(capture(world)), live)
    expected = {"direct": own, **{name: hold(own) for name, hold in HOLDERS.items()}}
    if all(tells_secret(each) for each in (own, telling)):
        assert restored.exact
        assert diff_of(live, expected) == []


def diff_of(one, other):
    """In which of two worlds' parts something differs, secrets too."""
    plain = lambda value: {k: plain(v) for k, v in vars(value).items()} if isinstance(value, Thing) else value  # noqa: E731
    return [name for name in one if repr(plain(one[name])) != repr(plain(other[name])) and name != "deep"]


def test_harmless_texts_are_kept():
    for text in HARMLESS:
        assert not tells_secret(text), text
        assert without_secret_texts(text) == text
        world = {name: hold(text) for name, hold in HOLDERS.items()}
        assert not any(isinstance(node, Omitted) for _, node in capture(world).leaves()), text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lr", "1", "--api-key", "hunter2"],
        ["--api-key=hunter2", "--lr=1"],
        ["-x", "--db.password", "hunter2", "--lr", "1"],
        ["--token", "hunter2"],
        ["+logger.api_key=hunter2", "lr=1"],
        ("Authorization", "Bearer hunter2"),
        ("api_key", "hunter2"),
        ["password", "hunter2"],
    ],
    ids=str,
)
def test_command_lines_and_pairs(arguments):
    """A command line stays as a whole: its arguments may come in another order."""
    for hold in (lambda line: Thing(argv=line), lambda line: {"a": [line, 1]}, lambda line: [(1, line)]):
        world = {"x": hold(arguments), "n": 1}
        assert "hunter2" not in json.dumps(packed(capture(world))[0])
        own = type(arguments)(["--lr", "2", "--seed", "3", "--api-key", "mine"])
        live = {"x": hold(own), "n": 0}
        assert restore(transported(capture(world)), live).exact
        assert repr(own) in repr(live["x"] if not isinstance(live["x"], Thing) else vars(live["x"]))
        assert live["n"] == 1


def test_lists_that_are_no_command_lines():
    for texts in (
        ["--max-tokens", "8", "--passes", "3"],
        ["--password", "--seed", "1"],
        ["--api-key", "$API_KEY"],
        ["token", "embedding"],
        ["a", "secret", "b"],
        ("left", "right"),
        ["--lr", "0.1"],
    ):
        assert not any(isinstance(node, Omitted) for _, node in capture({"x": Thing(a=texts)}).leaves()), (
            texts
        )


def test_what_training_adds_with_a_secret_is_said_and_not_lost():
    """The other lines of a log are not dropped with the one that is left out."""
    built = {"x": Thing(log=[])}
    report = check(capture({"x": Thing(log=["a", "connected to redis://:hunter2@db", "b"])}), built)
    assert [path for path, _ in report.unexpected] == ["x.log[1]"]
    assert "hunter2" not in str(report)


def test_secrets_that_the_checkpoint_has_not_stay():
    """A run was begun without a key; the next process has one."""
    live = {
        "x": Thing(n=0, api_key="mine", d={"password": "mine", "redis://:mine@db": 1, "url": "a://b:mine@c"})
    }
    assert restore(transported(capture({"x": Thing(n=1, d={"k": 1})})), live).exact
    assert (live["x"].n, live["x"].api_key) == (1, "mine")
    assert live["x"].d == {"k": 1, "password": "mine", "redis://:mine@db": 1, "url": "a://b:mine@c"}


def test_arrays_of_texts_under_the_name_of_a_secret():
    world = {"x": Thing(passwords=np.array(["hunter2", "b"]), names=np.array(["a", "b"]))}
    content = packed(capture(world))[1]
    assert not any("hunter2".encode(code) in each for each in content for code in ("utf-8", "utf-32-le"))
    live = {"x": Thing(passwords=np.array(["mine"]), names=np.array(["", ""]))}
    restore(transported(capture(world)), live)
    assert (live["x"].passwords.tolist(), live["x"].names.tolist()) == (["mine"], ["a", "b"])


def test_names_that_are_added_and_allowed_count_in_texts():
    assert not tells_secret("--licence-code=hunter2")
    perdure.secrets("licence-code", allow=["token", "password"])
    assert tells_secret("--licence-code=hunter2")
    assert without_secret_texts("licence_code=hunter2") == "licence_code=***"
    assert not tells_secret("--token hunter2")
    assert not tells_secret("password=hunter2")


def test_searching_is_linear():
    """Whatever a text is like: a capture asks of every one, and messages show texts of strangers."""
    for piece in (
        "a://",
        "--a ",
        "key=",
        "'a':",
        '"key":"',
        "a.",
        "key: ",
        "eyJaaaaaaaaaaa.",
        "@",
        "sk-",
        "-",
        "key ",
    ):
        text = (piece * 4096)[:4096]
        begun = time.process_time()
        without_secret_texts(text)
        assert time.process_time() - begun < 0.2, piece


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
        patch.setattr("perdure.state._walker.sort_of_text", lambda *_: 0)
        patch.setattr("perdure.state._walker._is_secret", lambda *_: False)
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


def test_no_listing_tells_a_secret():
    world = {
        "x": Thing(argv=["--api-key", "hunter2", "--lr", "1"], url="redis://:hunter2@db", password="hunter2")
    }
    leaves = list(leaves_of(older(world)))
    assert "hunter2" not in str(leaves)
    assert "'1'" in [each.what for each in leaves]
