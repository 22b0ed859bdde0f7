"""The blocks of docs/loop-variables.md and docs/one-line.md do what the pages say."""

import re
import subprocess
import sys

from example_processes import ENVIRONMENT, ROOT, Process

PAGE = ROOT / "docs/loop-variables.md"


def test_the_blocks_of_the_page(tmp_path):
    carries, keeps, module = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (said,) = re.findall(r"^```text\n(.*?)\n```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = tmp_path / "train.py"
    for source, expected in ((carries, said), (keeps, ""), (module, "")):
        script.write_text(source)
        done = subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
        if expected:
            assert expected in done.stderr
            assert f"{script}:8: " in done.stderr
        else:
            assert "Warning" not in done.stderr


def test_the_blocks_about_one_line(tmp_path):
    page = (ROOT / "docs/one-line.md").read_text()
    training, best = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (said,) = re.findall(r"^```text\nperdure: (.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    ends = []
    for name, stops in (("whole", ()), ("killed", (130, 270))):
        directory = tmp_path / name
        directory.mkdir()
        script = directory / "train.py"
        for stop in stops:
            killing = f"    if step == {stop}: import os; os.kill(os.getpid(), 9)\n"
            head, rest = training.split("every=100):\n")
            script.write_text(f"{head}every=100):\n{killing}{rest}")
            killed = subprocess.run(
                [sys.executable, script], cwd=directory, env=ENVIRONMENT, capture_output=True
            )
            assert killed.returncode == -9, killed.stderr
        script.write_text(training)
        lines = Process(script, directory=directory).finish().splitlines()
        assert any(line.startswith(f"perdure: {said}: ") for line in lines)
        assert any("going on at step" in line for line in lines) == bool(stops)
        ends.append([line for line in lines if "episodes" in line])
    assert ends[0] == ends[1] != []
    (tmp_path / "best.py").write_text(best)
    Process(tmp_path / "best.py", directory=tmp_path).finish()
    assert (tmp_path / "runs/best/policy.pt").exists()
