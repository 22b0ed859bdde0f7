"""The blocks of docs/tianshou.md run one after the other in one directory, with fewer steps."""

import re

import pytest
from example_processes import ROOT, Process

PAGE = ROOT / "docs/tianshou.md"
#: What the page says, and what runs here.
SHORTER = {
    "max_epochs=5": "max_epochs=1",
    "epoch_num_steps=10_000": "epoch_num_steps=128",
    "collection_step_num_env_steps=512": "collection_step_num_env_steps=64",
    "test_step_num_episodes=4": "test_step_num_episodes=1",
    "num_training_envs=8": "num_training_envs=2",
    "num_test_envs=4": "num_test_envs=1",
    "every=2_000": "every=64",
}
#: The runs that each block leaves. A name that the next blocks import goes first.
BLOCKS = {
    "trainer": ["runs/trainer"],
    "experiment": [],
    "train": ["runs/experiment"],
    "restored": ["runs/again"],
    "seeds": ["runs/seeds/exp_seed=42", "runs/seeds/exp_seed=43"],
    "policy": [],
}


def test_the_blocks_of_the_page(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(BLOCKS)
    for (name, runs), code in zip(BLOCKS.items(), blocks, strict=True):
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        script = tmp_path / f"{name}.py"
        script.write_text(code)
        if name == "experiment":
            continue  # the others import it
        Process(script, directory=tmp_path, name=name).finish()
        for run in runs:
            assert (tmp_path / run / "policy.pt").exists()
    assert (tmp_path / "runs/experiment/best/statistics.pkl").exists()
    assert (tmp_path / "runs/again/best/statistics.pkl").exists()


@pytest.mark.parametrize("long", SHORTER)
def test_what_is_shortened_is_on_the_page(long):
    assert long in PAGE.read_text()
