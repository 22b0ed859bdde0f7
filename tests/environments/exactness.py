"""Whether environments go on exactly in a fresh process. Run as a program, once to save and once to go on:

    python exactness.py save DIRECTORY CASE...
    python exactness.py go-on DIRECTORY CASE...

The first goes into the middle of a later episode, writes a checkpoint, goes on, and notes a digest of every step; the
second builds the same environments, reads the checkpoints and does the same steps. The notes must be equal.

The cases are those of `make environments`, which takes several processes for each; here all share these two.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys
import traceback
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

import perdure
from environments.cases import CASES
from perdure.check_env import env_spec
from perdure.check_env._driver import Driver, drive
from perdure.check_env._outputs import leaves

#: Enough for a reset after each checkpoint, whatever the environment.
STEPS, CUT = 220, 200


def build(name: str, seed: int) -> Driver:
    case = CASES[name]
    it = drive(env_spec(case.env, **case.options).make(seed), 7, CUT)
    it.start(seed)
    return it


def digests(it: Driver, steps: int) -> list[str]:
    said = [leaves(it.advance()) for _ in range(steps)]
    return [hashlib.sha256(json.dumps(each).encode()).hexdigest()[:16] for each in [*said, leaves(it.draw())]]


def _size(directory: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def save(name: str, directory: pathlib.Path) -> dict[str, Any]:
    it = build(name, 7)
    while it.episode == 0 or it.steps < 7:
        it.advance()
    run = perdure.Run(directory, keep=10)
    world = perdure.World(env=it.env)
    run.checkpoint(world, 1)
    whole = _size(directory)
    for _ in range(3):
        it.advance()
    run.checkpoint(world, 2)
    added = _size(directory) - whole
    run.close()
    return {"position": it.position(), "added_bytes": added, "digests": digests(it, STEPS)}


def go_on(name: str, directory: pathlib.Path) -> dict[str, Any]:
    it = build(name, 8)
    for _ in range(3):
        it.advance()
    found = json.loads(note("save", name, directory.parent).read_text())
    run = perdure.Run(directory)
    run.resume(perdure.World(env=it.env))
    it.go_to(found["position"])
    return {"digests": digests(it, STEPS)}


def note(verb: str, name: str, root: pathlib.Path) -> pathlib.Path:
    return root / f"{verb} {name.replace('/', '-')}.json"


def main(verb: str, where: str, *names: str) -> None:
    root = pathlib.Path(where)
    for name in names:
        directory = root / name.replace("/", "-").replace(" ", "_")
        try:
            found = (save if verb == "save" else go_on)(name, directory)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        note(verb, name, root).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
