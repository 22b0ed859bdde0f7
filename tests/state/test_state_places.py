"""Places belong to the process: a saved one is used only below a directory that the script names."""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from state_support import transported

import perdure
from perdure.errors import NotRestorableError, RestoreError
from perdure.state import capture, restore
from perdure.state._places import Places, names_place


class Thing:
    def __init__(self, **fields):
        vars(self).update(fields)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory with the outputs of two jobs, and no arguments."""
    (tmp_path / "out" / "job1").mkdir(parents=True)
    (tmp_path / "out" / "job2").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def resumed(saved, live, **options):
    """What becomes of an object of the script's, and the report."""
    thing = Thing(**live)
    report = restore(transported(capture({"x": Thing(**saved)})), {"x": thing}, **options)
    return vars(thing), report


def refused(saved, live):
    thing = Thing(**live)
    with pytest.raises(RestoreError, match="below no directory that this script names") as raised:
        restore(transported(capture({"x": Thing(**saved)})), {"x": thing})
    assert vars(thing) == live
    return str(raised.value)


def test_an_output_directory_that_differs_from_job_to_job(tmp_path):
    old, new = tmp_path / "out" / "job1", tmp_path / "out" / "job2"
    found, report = resumed(
        {
            "out": str(old),
            "log": old / "log",
            "best": f"{old}/best_100.zip",
            "written": [f"{old}/a.zip", f"{old}/b.zip"],
            "scores": {f"{old}/a.zip": 0.5},
            "deep": {"more": (str(old / "c"), 1)},
            "text": np.str_(f"{old}/d"),
            "raw": os.fsencode(old / "e"),
            "steps": 100,
        },
        {
            "out": str(new),
            "log": new / "log",
            "best": f"{new}/best_0.zip",
            "written": [],
            "scores": {},
            "deep": {},
            "text": None,
            "raw": None,
            "steps": 0,
        },
    )
    assert found == {
        "out": str(new),
        "log": new / "log",
        "best": f"{new}/best_100.zip",
        "written": [f"{new}/a.zip", f"{new}/b.zip"],
        "scores": {f"{new}/a.zip": 0.5},
        "deep": {"more": (str(new / "c"), 1)},
        "text": f"{new}/d",
        "raw": os.fsencode(new / "e"),
        "steps": 100,
    }
    assert type(found["text"]) is np.str_
    assert ("x.out", str(old), str(new)) in report.places
    assert len(report.places) == 9


def test_an_unchanged_script_gets_all_that_it_had(tmp_path):
    out = str(tmp_path / "out")
    saved = {
        "out": out,
        "best": f"{out}/best_100.zip",
        "phase": f"{out}/job1",
        "written": [f"{out}/a.zip"],
        "relative": ["levels/3.txt", "a b", "image/png"],
        "task": "maze/level_3",
        "mode": "eval",
        "url": "https://example.org/b",
        "slash": "/",
        "command": ["/help", "/s"],
        "python": sys.executable,
    }
    live = {
        **saved,
        "best": f"{out}/best_50.zip",
        "phase": out,
        "written": [],
        "relative": [],
        "task": "maze/level_1",
        "mode": "train",
        "url": "https://example.org/a",
        "command": [],
    }
    found, report = resumed(saved, live)
    assert found == saved
    assert report.places == []


OUTSIDE = [
    "/etc/cron.d/evil",
    "../../evil",
    "a/../../evil",
    "~/.ssh/authorized_keys",
    "~root/.profile",
    "~",
    "file:///etc/passwd",
    "sqlite:////etc/evil",
    "/etc/passwd",
    "/etc//passwd",
    "/etc/../etc/passwd",
    "/etc/a\nb",
    b"/etc/passwd",
    Path("/etc/passwd"),
    np.str_("/etc/passwd"),
]


@pytest.mark.parametrize("place", OUTSIDE, ids=repr)
def test_places_of_strangers(tmp_path, place):
    out = str(tmp_path / "out" / "job2")
    # Where the script has a place of its own, that stays.
    for own in (out, Path(out), f"{out}/best.zip", "results/best.zip", "~/mine/out"):
        found, report = resumed({"place": place}, {"place": own})
        assert found == {"place": own}
        assert report.places[0][0] == "x.place"
    # Where it has none, it is an error.
    for saved, live in (
        ({"place": place}, {"place": None}),
        ({"place": place}, {"place": ""}),
        ({"places": [place]}, {"places": []}),
        ({"places": {place: 1}}, {"places": {}}),
        ({"places": {"a": (place,)}}, {"places": {}}),
        ({"places": {(1, place): 1}}, {"places": {}}),
        ({"places": Thing(at=place)}, {"places": None}),
        ({"places": {place}}, {"places": set()}),
    ):
        refused({**saved, "out": out}, {**live, "out": out})


@pytest.mark.parametrize("live", [{"at": None}, {"at": ""}, {}], ids=repr)
def test_a_temporary_directory_that_training_made(live):
    """The next process makes one of its own, where the script has none; nothing is written into the old one."""
    made = tempfile.mkdtemp()
    for saved in (made, f"{made}/best.zip", Path(made, "a"), "/scratch/job1/tmpab12_x9q/x"):
        found, report = resumed({"at": saved, "steps": 3}, {**live, "steps": 0})
        assert found == {**live, "steps": 3}
        assert report.places == [("x.at", str(saved), "")]
        assert report.unexpected == []
    # In a table, what the script has stays too; what it does not have at all is an error: a list would get shorter.
    assert resumed({"table": {"at": made}}, {"table": {"at": None}})[0] == {"table": {"at": None}}
    refused({"written": [made]}, {"written": []})
    refused({"table": {"at": made}}, {"table": {}})
    # The remedy: to name the directory.
    place = {"temporary": tempfile.gettempdir()}
    assert resumed({"written": [made], **place}, {"written": [], **place})[0]["written"] == [made]


def test_a_forged_temporary_place_leads_nowhere_else(tmp_path):
    for forged in ("/root/tmpab12_x9q/../.bashrc", f"{tempfile.gettempdir()}/../secret"):
        refused_or_none = resumed({"at": forged}, {"at": None}, strict=False)[0]
        assert refused_or_none == {"at": None}


@pytest.mark.parametrize("value", [5, 1, b"etc", True, ""])
def test_a_file_can_be_opened_by_other_things_than_names(tmp_path, value):
    found, _ = resumed({"place": value}, {"place": str(tmp_path / "out")})
    assert found == {"place": str(tmp_path / "out")}


def test_none_may_switch_a_place_off(tmp_path):
    assert resumed({"place": None}, {"place": str(tmp_path / "out")})[0] == {"place": None}


def test_what_is_not_strict_leaves_places_of_strangers_out():
    found, report = resumed(
        {"places": ["/etc/passwd", "a"], "at": "/etc/passwd"}, {"places": [], "at": None}, strict=False
    )
    assert "/etc/passwd" not in str(found)
    assert [path for path, _ in report.unexpected] == ["x.at", "x.places[0]"]


def test_the_arguments_name_directories(tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    refused({"at": f"{out}/a"}, {"at": None})
    for arguments in ([out], [f"--out={out}"], ["--out", f"{out}/"]):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        assert resumed({"at": f"{out}/a"}, {"at": None})[0] == {"at": f"{out}/a"}


def test_relative_directories(tmp_path, monkeypatch):
    """As EvalCallback has them: it makes its directory before a run is resumed."""
    Path("own").mkdir()
    live = {"best": "own", "log": "own/evaluations"}
    assert resumed({"best": "other", "log": "other/evaluations"}, live)[0] == live
    # One that is not there yet is known by the argument that it comes from.
    monkeypatch.setattr(sys, "argv", ["train.py", "later"])
    assert resumed({"log": "other/evaluations"}, {"log": "later/evaluations"})[0] == {
        "log": "later/evaluations"
    }
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("SLURM_JOB_ID", "48213")
    assert resumed({"log": "results-7777"}, {"log": "results-48213"})[0] == {"log": "results-48213"}


def test_a_file_of_the_script_is_not_overwritten():
    Path("train.py").touch()
    for live in ("evaluations", "train.log", "logs/x.csv"):
        assert resumed({"log": "train.py"}, {"log": live})[0] == {"log": live}


def test_links_lead_nowhere_else(tmp_path):
    """Who can write into a run's directory can put a link there."""
    out = tmp_path / "out"
    (out / "link").symlink_to("/etc")
    Path("here").symlink_to("/etc")
    refused({"at": f"{out}/link/passwd", "out": str(out)}, {"at": None, "out": str(out)})
    refused({"at": "here/passwd"}, {"at": None})
    assert resumed({"at": f"{out}/link/x.txt"}, {"at": f"{out}/x.txt"})[0] == {"at": f"{out}/x.txt"}


def test_wide_directories_name_nothing(tmp_path):
    """That a script has a file in its home directory does not give that away."""
    home = os.path.expanduser("~")
    for own in ("/", os.path.dirname(os.getcwd()), f"{home}/train.log", "train.log"):
        refused({"at": f"{home}/.bashrc", "own": own}, {"at": None, "own": own})


def test_forged_pairs_lead_nowhere_else(tmp_path):
    """Where places have moved to is said by the script, whatever a file says that they were called."""
    out = str(tmp_path / "out" / "job2")
    for saved in ("/", "/log", "/etc/log", "log"):
        message = refused({"own": saved, "at": "/root/.bashrc"}, {"own": f"{out}/log", "at": None})
        assert "x.at" in message


def test_what_names_a_place(monkeypatch):
    for text in ("/a/b", "~/a", "../a", "a/../b", "/tmp", "file:/a", "a/b.zip"):
        assert names_place(text), text
    for text in (
        "",
        "/",
        "/no-such-thing",
        "train",
        "1/2",
        "ALE/Pong-v5",
        "a..b",
        "https://a/b",
        "/a/\0",
        "/a/" + "x" * 300,
    ):
        assert not names_place(text) or text == "/", text
    assert not Places(()).names("x" * 10_000)


@pytest.mark.parametrize(
    ("saved", "live"),
    [
        ("sqlite:////{top}/evil/x.db", "sqlite:////{top}/mine/x.db"),
        ("sqlite:///../evil.db", "sqlite:///mine.db"),
        ("sqlite:///evil.db", "sqlite:///mine.db"),
        ("sqlite+driver:////{top}/evil", "sqlite+driver:////{top}/mine"),
        ("sqlite:////{top}/evil/x.db", "{top}/mine"),
        ("file://{top}/evil", "file://{top}/mine"),
        ("FILE:{top}/evil", "FILE:{top}/mine"),
        ("$HOME/evil", "$HOME/mine"),
        ("${{HOME}}/evil", "{top}/mine"),
        ("{top}/evil/%d.zip", "{top}/mine/%d.zip"),
        ("{top}/mine/../evil", "{top}/mine"),
        ("/{top}/evil", "{top}/mine"),
        ("{top}/evil\0x", "{top}/mine"),
        ("/proc/self/cwd/evil", "{top}/mine"),
        ("s3://evil/x", "s3://mine/x"),
        ("s3://mine/x/../../evil", "s3://mine/x"),
        ("https://evil/x", "https://mine/x"),
    ],
)
def test_places_in_other_forms(tmp_path, monkeypatch, saved, live):
    monkeypatch.chdir(tmp_path)
    saved, live = (text.format(top=tmp_path) for text in (saved, live))
    for wrap in (str, lambda text: [text, 1], lambda text: {"a": text}):
        world = {"x": Thing(at=wrap(live), n=0)}
        restore(transported(capture({"x": Thing(at=wrap(saved), n=1)})), world)
        assert "evil" not in repr(world["x"].at)
        assert world["x"].n == 1


def test_places_in_other_forms_go_on_elsewhere(tmp_path):
    for old, new, now in (
        ("sqlite:////{top}/job1/a.db", "sqlite:////{top}/job2/a.db", "sqlite:////{top}/job2/a.db"),
        ("file://{top}/job1/best_9", "file://{top}/job2", "file://{top}/job2"),
        ("s3://runs/job1/best_9.zip", "s3://runs/job1", "s3://runs/job1/best_9.zip"),
    ):
        saved, live, expected = (text.format(top=tmp_path) for text in (old, new, now))
        world = {"x": Thing(at=live)}
        restore(transported(capture({"x": Thing(at=saved)})), world)
        assert world["x"].at == expected


@pytest.mark.parametrize(
    ("saved", "live", "expected"),
    [
        # The script's own stays, with what training changed beside the place.
        ("--log-dir={top}/job1", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("-o{top}/job1", "-o{top}/job2", "-o{top}/job2"),
        ("--best={top}/job1/best_9.zip", "--best={top}/job2/best_0.zip", "--best={top}/job2/best_9.zip"),
        ("{top}/job1/a:{top}/job1/b", "{top}/job2/a:{top}/job2/b", "{top}/job2/a:{top}/job2/b"),
        ("step=9,out={top}/job1", "step=0,out={top}/job2", "step=9,out={top}/job2"),
        (
            "Data Source={top}/job1/x.db;Mode=ro",
            "Data Source={top}/job2/x.db;Mode=rw",
            "Data Source={top}/job2/x.db;Mode=ro",
        ),
        (
            "--db=sqlite:////{top}/job1/x.db",
            "--db=sqlite:////{top}/job2/x.db",
            "--db=sqlite:////{top}/job2/x.db",
        ),
        ("--out=file://{top}/job1", "--out=file://{top}/job2", "--out=file://{top}/job2"),
        ("--bucket=s3://other/x", "--bucket=s3://mine/x", "--bucket=s3://mine/x"),
        ("saved 9 to {top}/job1/a.zip", "saved 0 to {top}/job2/a.zip", "saved 9 to {top}/job2/a.zip"),
        ("wrote '{top}/job1/a', done", "wrote '{top}/job2/a', done", "wrote '{top}/job2/a', done"),
        (
            '{{"out": "{top}/job1", "n": 9}}',
            '{{"out": "{top}/job2", "n": 0}}',
            '{{"out": "{top}/job2", "n": 9}}',
        ),
        # A stranger's is not used.
        ("--log-dir={top}/evil", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("--log-dir={top}/job2/../evil", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("--log-dir=evil", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("--log-dir=~/evil", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("--other={top}/evil", "--log-dir={top}/job2", "--other={top}/job2"),
        ("{top}/evil", "--log-dir={top}/job2", "--log-dir={top}/job2"),
        ("--log-dir={top}/evil", "{top}/job2", "{top}/job2"),
        ("{top}/job2/a:{top}/evil", "{top}/job2", "{top}/job2"),
        ("{top}/job2/a,{top}/evil", "{top}/job2/a,{top}/job2/b", "{top}/job2/a,{top}/job2/b"),
        ("--log-dir={top}/evil", "--log-dir", "--log-dir"),
        ("x=/{top}/./evil", "auto", "auto"),
        ("@{top}/evil", "@{top}/job2", "@{top}/job2"),
        ("$HOME/a:$HOME/evil", "{top}/job2:{top}/job2", "{top}/job2:{top}/job2"),
        # What lies below a directory of the script is used.
        ("--log-dir={top}/job2/phase3", "--log-dir={top}/job2", "--log-dir={top}/job2/phase3"),
        # Texts without places are nobody's business.
        ("idle", "saved to {top}/job2/a", "idle"),
        ("mode=eval", "mode=train", "mode=eval"),
        ("1/2, 3/4", "5/6, 7/8", "1/2, 3/4"),
        ("a/b=c/d", "e/f=g/h", "a/b=c/d"),
        ("either/or <b>x</b>", "a", "either/or <b>x</b>"),
    ],
)
def test_places_inside_texts(tmp_path, saved, live, expected):
    for name in ("job1", "job2"):
        (tmp_path / name).mkdir()
    saved, live, expected = (text.format(top=tmp_path) for text in (saved, live, expected))
    for wrap in (str, lambda text: [text, "--n", "1"], lambda text: {"a": (text,)}, np.str_, str.encode):
        world = {"x": Thing(at=wrap(live), n=0)}
        report = restore(transported(capture({"x": Thing(at=wrap(saved), n=1)})), world)
        assert world["x"].at == wrap(expected)
        assert world["x"].n == 1
        assert bool(report.places) == (expected != saved)


INSIDE = [
    "--out=/etc/evil/x", "-o/etc/evil", "/a/b:/etc/evil", "a,/etc/evil/x", "--db=sqlite:////etc/evil/x", "--out=~/evil",
    "x=../../evil", "path:/etc/evil/x", "--out=$HOME/evil", "@/etc/evil/x", "Source=/etc/evil/x;Mode=rw", "--u=file:///etc/evil",
    "--out=" + "x" * 5000 + ",/etc/evil/x",
]  # fmt: skip


@pytest.mark.parametrize("text", INSIDE, ids=lambda text: text[:40])
def test_places_inside_texts_that_were_created(tmp_path, text):
    """An option leads to a file as a path does."""
    out = str(tmp_path / "out" / "job2")
    for saved, live in (
        ({"at": text}, {"at": None}),
        ({"arguments": ["--n", text]}, {"arguments": []}),
        ({"table": {text: 1}}, {"table": {}}),
        ({"both": (text, 1)}, {"both": None}),
    ):
        refused({**saved, "out": out}, {**live, "out": out})


def test_the_remedy_for_places_inside_texts(tmp_path, monkeypatch):
    """An option of the script, or of the process, names its directory."""
    place = f"{tmp_path}/data"
    refused({"at": f"--in={place}/x"}, {"at": None})
    for own in (
        {"own": place},
        {"own": f"--data={place}"},
        {"own": ["--n", "1", f"--data={place}"]},
        {"own": f"-d{place}"},
    ):
        found, _ = resumed({"at": f"--in={place}/x", "own": own}, {"at": None, "own": own})
        assert found["at"] == f"--in={place}/x"
    monkeypatch.setattr(sys, "argv", ["train.py", f"-d{place}"])
    assert resumed({"at": f"--in={place}/x"}, {"at": None})[0]["at"] == f"--in={place}/x"


def test_sentences_are_kept(tmp_path):
    """Nothing is opened by a sentence: a transcript may speak of any place. What has moved is called as it is here."""
    old, new = f"{tmp_path}/out/job1", f"{tmp_path}/out/job2"
    saved = [
        "$ cat /etc/passwd",
        f"saved to {old}/a.zip",
        "see https://example.org/a/b and ~/x",
        f"--out {old}",
    ]
    found, _ = resumed({"log": saved, "out": old}, {"log": [], "out": new})
    assert found["log"] == [saved[0], f"saved to {new}/a.zip", saved[2], f"--out {new}"]


def test_what_a_sentence_names_is_not_the_script_s(tmp_path):
    own = {"help": "passwords are in /etc/secrets/a", "path": "/usr/lib:/etc/secrets"}
    refused({"at": "/etc/secrets/a", **own}, {"at": None, **own})


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (str, "/scratch/a.zip"),
        (str, "~/x/y"),
        (str, "../x"),
        (str, "--out=/scratch/x"),
        (Path, "/scratch/a"),
        (str.encode, "/scratch/a"),
    ],
)
def test_a_place_that_no_process_takes_is_refused_when_the_checkpoint_is_taken(tmp_path, make, place):
    thing = Thing(written=[], table={}, seen=set(), at=None)
    with perdure.Run(tmp_path / "run", on_unrestorable="raise") as run:
        world = perdure.World(thing=thing)
        run.resume(world)
        run.checkpoint(world, 1)
        for step, change in enumerate(
            (
                lambda thing, place: thing.written.append(place),
                lambda thing, place: thing.table.__setitem__(place, 1),
                lambda thing, place: thing.table.__setitem__("a", place),
                lambda thing, place: thing.seen.add(place),
                lambda thing, place: setattr(thing, "at", [(place, 1)]),
                lambda thing, place: setattr(thing, "at", place),
            ),
            start=2,
        ):
            change(thing, make(place))
            with pytest.raises(NotRestorableError, match="names"):
                run.checkpoint(world, step)
            thing.at = None
            for container in (thing.written, thing.table, thing.seen):
                container.clear()
            run.checkpoint(world, step)


def test_looking_into_texts_is_linear(tmp_path):
    for piece in ("/a/b ", "=/a/b", "a=", "x://", "../", "~/a:", "'/a", "/a", "-o/a"):
        text = piece * (20_000 // len(piece))
        world = {"x": Thing(at="--out=/a/b", log=[])}
        begun = time.process_time()
        restore(transported(capture({"x": Thing(at=text, log=[text])})), world, strict=False)
        assert time.process_time() - begun < 2, piece
