"""Resume a copy of a stored run and go on: `python go_on.py NAME DIRECTORY`. Prints as JSON what came of it."""

from __future__ import annotations

import json
import sys

from format_cases import CASES, LAST, STORED, draws, scramble


def main() -> None:
    name, directory = sys.argv[1:3]
    case = CASES[name]
    case.prepare()
    scramble()
    world = case.build()
    with case.run(directory) as run:
        resumed = run.resume(world)
        assert resumed is not None
        assert resumed.step == STORED
        found = {"parts": sorted(world.parts()), "stored": case.facts(world, run)}
        for _ in range(STORED, LAST):
            case.step(world, run)
        found |= {"gone on": case.facts(world, run), "draws": draws()}
        # What an old format began, today's goes on writing.
        run.checkpoint(world, LAST)
    case.close(world)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
