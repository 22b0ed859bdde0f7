"""The blocks of docs/own-classes.md and docs/iterators.md: a training that is cut in two ends as one that is not."""

import re

from example_processes import ROOT, Process


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def ends_alike(tmp_path, training, steps, **modules):
    """Run a training whole, and in two processes the first of which ends after half of it."""
    said = []
    for name, cut in (("whole", False), ("cut", True)):
        directory = tmp_path / name
        directory.mkdir()
        for module, source in modules.items():
            (directory / f"{module}.py").write_text(source)
        script = directory / "train.py"
        assert f"world, {steps}," in training
        if cut:
            script.write_text(training.replace(f"world, {steps},", f"world, {steps // 2 + 2},"))
            Process(script, directory=directory, name="half").finish()
        script.write_text(training)
        lines = Process(script, directory=directory).finish().splitlines()
        assert any("going on" in line for line in lines) == cut
        said.append(next(line for line in lines if not line.startswith("perdure:")))
    return said


def test_a_library_that_does_not_import_perdure(tmp_path):
    reservoir, training = blocks("own-classes.md")
    assert "perdure\n" not in reservoir
    whole, cut = ends_alike(tmp_path, training, 60, reservoir=reservoir)
    assert whole == cut
    assert whole.endswith(" 4")


def test_a_data_loader_in_mid_epoch(tmp_path):
    _, training = blocks("iterators.md")
    seeded = "import torch\n\ntorch.manual_seed(3)\n" + training
    whole, cut = ends_alike(tmp_path, seeded, 40)
    assert whole == cut


def test_the_class_in_place_of_a_generator(tmp_path):
    batches, _ = blocks("iterators.md")
    training = "import perdure\nfrom batches import Batches\n" + (
        "world = perdure.World(batches=Batches(list(range(90)), 3), seen=[])\n"
        'for step in perdure.Run("runs/mine").steps(world, 20, every=4):\n'
        "    world.seen.append(next(world.batches))\n"
        "print(world.seen)\n"
    )
    whole, cut = ends_alike(tmp_path, training, 20, batches=batches)
    assert whole == cut
    assert "[57, 58, 59]" in whole
