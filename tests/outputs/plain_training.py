"""A training that writes files in all the ways that scripts do. Nothing in them is random but the training's own.

Usage: plain_training.py WHERE WAY KILL, where WAY is "steps" or "loop", and KILL the step in which it is killed.
"""

import csv
import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

import perdure

where, way = Path(sys.argv[1]), sys.argv[2]
files = where / "files"
files.mkdir(parents=True, exist_ok=True)
random.seed(5)

emptied = open(files / "emptied.txt", "w")
emptied.write("# the head\n")
appended = open(files / "appended.txt", "a")
if not appended.tell():
    appended.write("# the head\n")
    appended.flush()
table_file = open(files / "table.csv", "w", newline="")
table = csv.DictWriter(table_file, ["step", "value"])
table.writeheader()
binary = open(files / "binary.bin", "wb")
changed = open(files / "changed.bin", "w+b", buffering=0)
lines = open(files / "lines.jsonl", "w", buffering=1, encoding="utf-8")
moment = open(files / f"log-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid():07d}.txt", "w")
logger = logging.getLogger("training")
logger.setLevel("INFO")
for mode in "aw":
    logger.addHandler(logging.FileHandler(files / f"logger-{mode}.log", mode=mode))
with open(files / "headed.txt", "w") as file:
    file.write("# the head\n")
for head in range(3):
    print("head", head, file=emptied)


class Late:
    """Opens its file when it needs it."""

    def __init__(self):
        self.file = None

    def write(self, text):
        if self.file is None:
            self.file = open(files / "late.txt", "w")
        self.file.write(text)


late = Late()


def step_of(number):
    value = random.random()
    emptied.write(f"step {number} {value} {'é' * (number % 3)}\n")
    appended.write(f"step {number} {value}\n")
    table.writerow({"step": number, "value": value})
    binary.write(number.to_bytes(8, "little") * 300)
    changed.write(b"%d\n" % number)
    print(json.dumps({"step": number, "value": value}), file=lines)
    moment.write(f"{number}\n")
    logger.info("step %d: %f", number, value)
    with open(files / "headed.txt", "a") as file:
        file.write(f"{number} {value}\n")
    if number % 7 == 3:
        with open(files / "seldom.txt", "a") as file:
            file.write(f"{number} {value}\n")
    if number > 11:
        late.write(f"{number} {value}\n")
    if number == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


if way == "steps":
    run = perdure.Run(where / "run")
    for number in run.steps(perdure.World(score=0.0), 31, every=4):
        step_of(number)
else:
    for number in perdure.loop(range(31), where / "run", every=4):
        step_of(number)
