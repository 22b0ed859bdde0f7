"""Tensors that a loop carries: whether it reads only their numbers, or goes back through how they were computed."""

from __future__ import annotations

import linecache
import warnings
from pathlib import Path
from typing import Any

import pytest
from test_loop import Fuse
from test_loop_variables import Killed

from perdure.errors import NotCapturedWarning

HEADS = {
    "loop": "for step in perdure.loop(range(8), directory, every=2, background=False):",
    "world": "run = perdure.Run(directory)\nfor step in run.steps(world, 8, every=2):",
}


def script(head: str, read: str) -> str:
    """As TD3, which updates its policy in every second round and logs the loss in others."""
    return "\n".join([
        "import perdure, torch",
        "torch.manual_seed(1)",
        "net = torch.nn.Linear(2, 1)",
        "optimizer = torch.optim.SGD(net.parameters(), 0.1)",
        "world = perdure.World(net=net, optimizer=optimizer, seen=[])",
        "seen = world.seen",
        *HEADS[head].splitlines(),
        "    if step % 2 == 0:",
        "        loss = net(torch.rand(3, 2)).square().mean()",
        "        optimizer.zero_grad()",
        "        loss.backward(retain_graph=True)",
        "        optimizer.step()",
        "    if step % 2 == 1:",
        f"        {read}",
        "    burn(step)",
        "end([*seen, net.weight.tolist()])",
        "",
    ])  # fmt: skip


def ends(source: str, directory: Path, kill: int) -> tuple[Any, list[str]]:
    """What a script ends with, and what was warned of."""
    filename = f"{directory}.py"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    found: list[Any] = []
    fuse = Fuse()
    fuse.at = kill
    names = {"__name__": "script", "burn": fuse.in_script(), "directory": str(directory), "end": found.append}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotCapturedWarning)
        try:
            exec(compile(source, filename, "exec"), names)
        except Killed:
            pass
        finally:
            if "run" in names:
                names["run"].close()  # type: ignore[attr-defined]
    return found, [str(each.message) for each in caught if each.category is NotCapturedWarning]


NUMBERS = [
    "seen.append(loss.item())",
    "seen.append(float(loss))",
    "seen.append(loss.detach().cpu().numpy().tolist())",
    "seen.append(loss.mean().item() / 2)",
    "seen.append(f'{loss:.3f}')",
    "seen.append(bool(loss > 0.1))",
    "seen.append(loss.data.tolist())",
]
GRAPHS = [
    "print(loss)",  # it shows the function that computed it
    "loss.backward(); seen.append(net.weight.grad.tolist())",
    "seen.append((loss + 1).item())",
    "seen.append(torch.sum(loss).item())",
]


@pytest.mark.parametrize("read", NUMBERS)
def test_a_loss_of_which_only_numbers_are_read_is_no_matter(tmp_path: Path, read: str) -> None:
    assert ends(script("loop", read), tmp_path / "run", -1)[1] == []


def test_it_is_exact(tmp_path: Path) -> None:
    source = script("loop", NUMBERS[0])
    whole, _ = ends(source, tmp_path / "whole", -1)
    assert ends(source, tmp_path / "killed", 2)[0] == []
    assert ends(source, tmp_path / "killed", -1) == (whole, [])


def test_so_it_is_beside_a_world(tmp_path: Path) -> None:
    source = script("world", NUMBERS[0]).replace("'script'", "'__main__'")
    whole, warned = ends(source, tmp_path / "whole", -1)
    assert [each for each in warned if "gradients" in each] == []
    assert whole


@pytest.mark.parametrize("read", GRAPHS)
def test_a_loss_whose_graph_may_be_needed_is_told(tmp_path: Path, read: str) -> None:
    _, warned = ends(script("loop", read), tmp_path / "run", -1)
    assert len(warned) == 1
    assert "loss: a tensor with a graph" in warned[0]
