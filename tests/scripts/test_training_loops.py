"""Which loops of a script are its training: small sources, and the lines that are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.script import read_script

#: In each source, the lines that end with `#!` are to be chosen.
_CHOSEN = {
    "the loop that steps and learns": """
for step in range(9): #!
    env.step(action)
    loss.backward()
""",
    "not the evaluation after it": """
for step in range(9): #!
    env.step(action)
    loss.backward()
for episode in range(3):
    env.step(action)
""",
    "the warm-up before it too": """
for _ in range(9): #!
    buffer.add(env.step(env.action_space.sample()))
for step in range(9): #!
    env.step(action)
    loss.backward()
""",
    "a pretraining before it too": """
for epoch in range(9): #!
    loss.backward()
for step in range(9): #!
    env.step(action)
    loss.backward()
""",
    "the outermost one": """
for update in range(9): #!
    for step in range(9):
        env.step(action)
    for epoch in range(9):
        loss.backward()
""",
    "episodes of online learning": """
env = make()
for episode in range(9): #!
    state = env.reset()
    done = False
    while not done:
        state, reward, done = env.step(action)
        optimizer.step()
""",
    "episodes in an environment that is made anew for each": """
agent = Agent()
for level in range(9): #!
    env = make(level)
    done = False
    while not done:
        state, reward, done = env.step(action)
        agent.learn(state)
class Agent:
    def learn(self, state):
        loss.backward()
""",
    "the one in a function": """
def main():
    for step in range(9): #!
        env.step(action)
        loss.backward()
main()
""",
    "the one in a method, through methods": """
class Trainer:
    def train(self):
        while self.step < 9: #!
            self.collect()
            self.update()
    def collect(self):
        for _ in range(9):
            self.env.step(self.act())
    def update(self):
        for _ in range(9):
            self.optimizer.step()
Trainer().train()
""",
    "each training of several seeds": """
def train(seed):
    env = make(seed)
    for step in range(9): #!
        env.step(action)
        loss.backward()
for seed in range(3):
    train(seed)
""",
    "each training of several seeds, at one level": """
for seed in range(3):
    env = make(seed)
    agent = Agent()
    for step in range(9): #!
        env.step(action)
        loss = agent.loss()
        loss.backward()
""",
    "each training of several seeds, in methods": """
class Trainer:
    def __init__(self, seed):
        self.env = make(seed)
    def train(self):
        for step in range(9): #!
            self.env.step(action)
            loss.backward()
for seed in range(3):
    trainer = Trainer(seed)
    trainer.train()
""",
    "rounds of one training in a function": """
def one_epoch(env, agent):
    for step in range(9):
        env.step(action)
        loss.backward()
env = make()
for epoch in range(3): #!
    one_epoch(env, agent)
""",
    "rounds of one training in a method": """
class Trainer:
    def epoch(self):
        for step in range(9):
            self.env.step(action)
            loss.backward()
trainer = Trainer()
for epoch in range(3): #!
    trainer.epoch()
""",
    "data without an environment": """
for epoch in range(9): #!
    for batch in loader:
        loss.backward()
""",
    "data without an environment, several seeds": """
for seed in range(3):
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(9): #!
        for batch in loader:
            optimizer.zero_grad()
            model(batch).backward()
            optimizer.step()
""",
    "data without an environment, several seeds in a function": """
def train(seed):
    optimizer = torch.optim.Adam(model.parameters())
    for epoch in range(9): #!
        optimizer.step()
for seed in range(3):
    train(seed)
""",
    "tables without a library": """
for episode in range(9): #!
    while not done:
        state = env.step(action)
        q[state] += 1
""",
    "a population": """
for generation in range(9): #!
    for each in population:
        env = make()
        while not done:
            env.step(action)
""",
    "under `if __name__`, `with` and `try`": """
if __name__ == "__main__":
    with open("log") as log:
        try:
            while True: #!
                env.step(action)
                loss.backward()
        finally:
            env.close()
""",
    "a function that nobody calls is no other training": """
def train():
    for step in range(9): #!
        env.step(action)
        loss.backward()
train()
def show():
    for step in range(9):
        env.step(action)
""",
    "no schedulers, scalers and profilers": """
for step in range(9):
    scheduler.step()
for step in range(9): #!
    envs.step(action)
    optimizer.step()
    profiler.step(1)
""",
    "a vectorised environment in parts": """
while True: #!
    envs.step_async(actions)
    envs.step_wait()
    accelerator.backward(loss)
""",
}


@pytest.mark.parametrize("name", _CHOSEN)
def test_the_loops_that_are_chosen(tmp_path: Path, name: str) -> None:
    path = tmp_path / "train.py"
    path.write_text(_CHOSEN[name])
    wanted = [n for n, line in enumerate(_CHOSEN[name].splitlines(), 1) if line.endswith("#!")]
    assert [loop.line for loop in read_script(str(path), []).loops] == wanted
