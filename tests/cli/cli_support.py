"""Small runs to look at, ways to damage them, and the command itself, called as a user calls it."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner, Result

import perdure
from perdure.cli import main
from perdure.store import load_checksummed
from perdure.store._checksummed_json import dump_checksummed

#: Escape sequences, and control characters other than the newline.
HARMFUL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def perdure_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def as_json(*arguments: object, code: int = 0):
    result = perdure_command(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def process(*arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "perdure.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def make_run(directory: Path, checkpoints: int = 3, **details) -> Path:
    with perdure.Run(directory) as run:
        agent = torch.nn.Linear(8, 4)
        world = perdure.World(
            agent=agent, buffer=np.zeros((100, 10), np.float32), on_end=threading.Thread(), count=0
        )
        for number in range(1, checkpoints + 1):
            world.count = number
            world.buffer[number] = number
            if number == 2:
                run.report_score(123.5, world)
            run.checkpoint(world, 1000 * number, **{"metrics": {"return": 1.5 * number}, **details})
    return directory


def flip_byte(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(bytes(content))


def make_newer(file: Path, kind: str) -> None:
    body = load_checksummed(kind, file.read_bytes(), str(file))
    file.write_bytes(dump_checksummed(kind, {**body, "format": 99}))
