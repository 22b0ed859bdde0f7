"""Runs every set-up of `tianshou_setups.py` whole and killed, and writes the table of docs/tianshou-algorithms.md.

python tests/survival/tianshou_matrix.py                  # all of them, each killed three times
python tests/survival/tianshou_matrix.py rainbow ddpg_her # only these; the table stays as it is
"""

import argparse
import importlib.metadata
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from harness import UNSEEDED, differences, killed, uninterrupted  # noqa: E402
from tianshou_setups import SETUPS  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "tianshou-algorithms.md"
KILLS = 3

HEAD = """# Tianshou's algorithms, killed

Written by `python tests/survival/tianshou_matrix.py` on {date}, with Tianshou {tianshou}, torch {torch} and
Gymnasium {gymnasium}. Each set-up in [tests/survival/tianshou_setups.py](../tests/survival/tianshou_setups.py) is
trained once without interruption. Then a second training of it is killed with SIGKILL at {kills} random steps, started
again each time, and compared with the first one in every path of its final state: weights, optimizers, buffers,
environments, counters and random generators. `make campaign` runs them too, and `make test` a sample.

| set-up | what is in it | ends as the uninterrupted training |
|---|---|---|
"""


def check(name: str, kills: int = KILLS) -> list[str]:
    """The paths at which a killed training ends otherwise than the uninterrupted one."""
    with tempfile.TemporaryDirectory(prefix="perdure-tianshou-") as place:
        whole, again = Path(place, "whole"), Path(place, "killed")
        steps = uninterrupted("tianshou_setups", name, whole)
        killed("tianshou_setups", name, again, steps, kills=kills)
        return differences(whole, again, ignore=UNSEEDED)


def missing(name: str) -> str | None:
    """The package that a set-up needs and that is not installed."""
    package = "ray" if name == "dqn_ray" else "torch"
    return None if importlib.util.find_spec(package) else package


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="which set-ups; all by default")
    words = parser.parse_args()
    answers = {}
    for name in words.names or SETUPS:
        begun = time.perf_counter()
        if package := missing(name):
            answers[name] = f"not run: {package} is not installed"
        else:
            try:
                found = check(name)
                answers[name] = f"no: {len(found)} paths differ" if found else "yes"
            except AssertionError as error:
                found = [str(error)]
                answers[name] = "no: it ended with an error"
            for each in found[:5]:
                print(f"    {each[-500:]}")
        print(f"{name}: {answers[name]} ({time.perf_counter() - begun:.0f} s)", flush=True)
    if not words.names:
        write(answers)
    return 0 if all(answer.startswith(("yes", "not run")) for answer in answers.values()) else 1


def write(answers: dict[str, str]) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("tianshou", "torch", "gymnasium")}
    text = HEAD.format(date=time.strftime("%Y-%m-%d"), kills=KILLS, **versions)
    for kind in dict.fromkeys(each.kind for each in SETUPS.values()):
        text += f"| **{kind}** | | |\n"
        for name, each in SETUPS.items():
            text += f"| `{name}` | {each.shows} | {answers[name]} |\n" if each.kind == kind else ""
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
