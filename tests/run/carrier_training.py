"""A training that keeps its state nearly everywhere but in its world; killed after a step, and printed what it came to.

Arguments: the run's directory, and the step after which it is killed (-1 for none).
"""

import functools
import os
import random
import signal
import sys

import carrier_library
import numpy as np
import torch

import perdure

torch.manual_seed(1)
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
world = perdure.World(net=net, optimizer=optimizer, total=0.0)
noise = np.random.default_rng(5)
epsilon = 1.0
last = np.zeros(3)
episode = []


def counted(function):
    calls = 0

    @functools.wraps(function)
    def inner(*args):
        nonlocal calls
        calls += 1
        return function(*args) + calls

    return inner


@counted
def reward(x, history=[]):  # noqa: B006
    history.append(float(x.sum()))
    reward.largest = max(getattr(reward, "largest", 0.0), history[-1])
    return len(history) + reward.largest


class Meter:
    steps = 0
    seen: list = []  # noqa: RUF012


@functools.lru_cache
def drawn(key):
    return random.random()


def explore(step):
    global epsilon
    epsilon *= 0.9
    Meter.steps += 1
    Meter.seen.append(step)
    return epsilon * noise.normal() + drawn(step % 5) + len(Meter.seen)


random.seed(3)
schedule = carrier_library.schedule(1.0)
run = perdure.Run(sys.argv[1])
for step in run.steps(world, 30, every=3):
    x = torch.tensor(last + explore(step), dtype=torch.float32)
    optimizer.param_groups[0]["lr"] = 0.01 * schedule()
    optimizer.zero_grad()
    loss = net(x).sum() * 0.1
    loss.backward()
    optimizer.step()
    episode.append(reward(x))
    if len(episode) == 8:
        world.total += sum(episode)
        episode = []
    last = last * 0.5 + carrier_library.visit(step)
    world.total += loss.item() + Meter.steps
    if step == int(sys.argv[2]):
        run.flush()
        os.kill(os.getpid(), signal.SIGKILL)
print(
    world.total, epsilon, last.tolist(), episode, net.weight.tolist(), reward.largest, carrier_library.counts
)
