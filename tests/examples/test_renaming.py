"""The blocks of docs/renaming.md run one after the other, in one directory; without its line the second is refused."""

import re
import subprocess
import sys

from example_processes import ENVIRONMENT, ROOT, Process

PAGE = ROOT / "docs/renaming.md"
LINE = 'perdure.renamed("__main__:Statistics", Counters)'


def test_the_blocks_of_the_page(tmp_path):
    before, after = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = tmp_path / "train.py"
    script.write_text(before)
    Process(script, directory=tmp_path, name="before").finish()
    script.write_text(after.replace(LINE, ""))
    refused = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert LINE.replace('"', "'") in refused.stderr
    script.write_text(after)
    Process(script, directory=tmp_path, name="after").finish()
