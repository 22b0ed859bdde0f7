"""A state written by one process and restored by another one that shares nothing with it but the script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
import gymnasium as gym, numpy as np, torch
from perdure import tree
from perdure.state import capture, restore

torch.set_num_threads(1)


class Bytes:
    def __init__(self, content):
        self.content, self.nbytes = content, len(content)

    def read_into(self, buffer):
        buffer[:] = self.content


class Agent:
    def __init__(self, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)
        self.env = gym.wrappers.NormalizeObservation(gym.wrappers.RecordEpisodeStatistics(gym.make("Pendulum-v1")))
        self.obs, _ = self.env.reset(seed=seed)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters())
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 100, 0.9)
        self.memory = []
        self.best = None

    def train(self, steps):
        for _ in range(steps):
            action = self.net(torch.as_tensor(self.obs, dtype=torch.float32))
            noisy = action.detach().numpy() + np.random.normal(size=1)
            self.obs, reward, terminated, truncated, _ = self.env.step(noisy)
            self.memory.append((self.obs, reward))
            if terminated or truncated:
                self.obs, _ = self.env.reset()
            self.optimizer.zero_grad()
            (action - float(reward)).square().sum().backward()
            self.optimizer.step()
            self.schedule.step()
            if self.best is None or reward > self.best["reward"]:
                self.best = {"reward": float(reward), "weights": [p.detach().clone() for p in self.net.parameters()]}


def digest(agent):
    return [agent.obs.tobytes().hex(), agent.best["reward"], agent.schedule.get_last_lr(), len(agent.memory)] + [
        p.detach().numpy().tobytes().hex() for p in [*agent.net.parameters(), *agent.best["weights"]]
    ]


job, folder = sys.argv[1:]
agent = Agent(1 if job == "write" else 2)
if job == "write":
    agent.train(350)
    document, blobs = tree.encode(capture({"agent": agent}))
    with open(f"{folder}/state.json", "w") as file:
        json.dump(document, file)
    np.savez(f"{folder}/arrays.npz", *[np.frombuffer(blob.buffer(), np.uint8) for blob in blobs])
else:
    with open(f"{folder}/state.json") as file:
        document = json.load(file)
    with np.load(f"{folder}/arrays.npz", allow_pickle=False) as arrays:
        sources = [Bytes(arrays[f"arr_{number}"].tobytes()) for number in range(len(arrays.files))]
    assert restore(tree.decode(document, sources), {"agent": agent}).exact
agent.train(300)
print(json.dumps(digest(agent)))
"""


def test_a_fresh_process_goes_on(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)

    def run(job):
        done = subprocess.run(
            [sys.executable, str(script), job, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PYTHONPATH": ":".join(filter(None, sys.path)),
                "PYTHONHASHSEED": "7" if job == "write" else "8",
            },
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    expected = run("write")
    assert (Path(tmp_path) / "state.json").stat().st_size > 0
    assert run("read") == expected
