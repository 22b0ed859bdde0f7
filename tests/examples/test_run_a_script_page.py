"""The page about `perdure run`: its script is killed and started again, and `--show` prints what the page says."""

import re
import signal

from example_processes import COMMAND, ROOT, Process

PAGE = (ROOT / "docs" / "run-a-script.md").read_text()
(SCRIPT,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(SHOWN,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_script_of_the_page_is_shown_killed_and_ends_the_same(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    shown = Process(COMMAND, "run", "--show", "train.py", directory=tmp_path, name="shown")
    shown.finish()
    assert without_name(shown.output) == without_name(SHOWN)
    whole = Process(path, directory=tmp_path, name="whole")
    whole.finish()
    words = ("run", "--every", "50", "train.py")
    killed = Process(COMMAND, *words, directory=tmp_path, name="killed", PERDURE_TEST_FUSE="310")
    assert killed.wait() == -signal.SIGKILL
    end = Process(COMMAND, *words, directory=tmp_path, name="end")
    assert "going on at step 300" in end.finish()
    assert end.output.partition(": ")[2] == whole.output.partition(": ")[2] != ""


def without_name(text):
    """However wide the screen is."""
    return re.sub("train-[0-9a-f]{8}", "train-", " ".join(text.split()))


def test_every_option_is_on_the_page():
    from perdure.cli import run

    options = {name for each in run.params for name in each.opts if name.startswith("-")}
    assert {"--every", "--restarts", "-m"} <= options
    assert [name for name in options if f"`{name}" not in PAGE and f" {name}" not in PAGE] == []
