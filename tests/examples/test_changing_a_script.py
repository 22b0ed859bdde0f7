"""The blocks of docs/changing-a-script.md run one after the other, in one directory, and say what the page says."""

import re

from example_processes import ROOT, Process

PAGE = ROOT / "docs/changing-a-script.md"


def test_the_blocks_of_the_page(tmp_path):
    before, edited, overriding = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    (said,) = re.findall(r"^```text\n(.*?)\n```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    script = tmp_path / "train.py"
    told = {}
    for name, source in (("before", before), ("edited", edited), ("overriding", overriding)):
        script.write_text(source)
        process = Process(script, directory=tmp_path, name=name)._process
        assert process.wait() == 0
        told[name] = process.errors
    assert "Warning" not in told["before"]
    assert said.replace("/home/me", str(tmp_path)) in told["edited"]
    assert "overridden, and part of the run from now on: agent.lr 0.0003 -> 0.0001" in told["overriding"]
    assert "ChangedScriptWarning" not in told["overriding"]
