"""How much memory a save takes beyond what the training holds, in a process of its own: what an allocator keeps from
one save would hide the next.

    python -m benchmarks.memory sb3:Sb3 medium '{"capacity": 1000000}'
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.peers import named
from benchmarks.worlds import WORKLOADS

_WARM = 2  # saves before the one that is looked at: the first of a run writes everything


def main() -> None:
    """Print what the process held before anything was saved, and at most while it saved an increment."""
    name, workload_name, arguments = sys.argv[1:]
    torch.set_num_threads(1)
    cls = named(name)
    workload = WORKLOADS[workload_name](**json.loads(arguments))
    workload.advance(workload.rows, lambda: None)
    with tempfile.TemporaryDirectory(
        prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
    ) as directory:
        peer = cls(workload, Path(directory))
        held = _status("VmRSS")
        for _ in range(_WARM):
            peer.next()
            peer.save()
            peer.wait()
            peer.forget()
            peer.advance()
        # What the earlier saves left behind counts too: it is held as long as the run lasts.
        Path("/proc/self/clear_refs").write_text("5")
        peer.next()
        peer.save()
        peer.wait()
        peak = _status("VmHWM")
        peer.close()
    print(json.dumps({"held": held, "peak": peak, "extra": max(0, peak - held)}))


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
