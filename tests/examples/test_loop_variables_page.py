"""The blocks of docs/loop-variables.md: the first warns in the words of the page, the others do not."""

import re
import subprocess
import sys

from example_processes import ENVIRONMENT, ROOT

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
