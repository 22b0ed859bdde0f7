"""Small environments that keep their state where a checkpoint may not find it, one for each kind of place."""

from __future__ import annotations

import ctypes
import time

import gymnasium as gym
import numpy as np


class Toy(gym.Env):
    """Says a number that `next` makes of the numbers before; its episodes have five to twelve steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(5, 12))
        return self.said(), {}

    def step(self, action):
        self.left -= 1
        return self.said(), float(action), self.left == 0, False, {}

    def said(self):
        return np.array([self.next()], np.float64)

    def next(self):
        return 0.0


class Plain(Toy):
    """As it should be: it counts, and draws from its own generator, a child of that and NumPy's global one."""

    count = 0

    def next(self):
        self.count += 1
        return self.count + self.np_random.random() + self.np_random.spawn(1)[0].random() + np.random.random()


class Closing(Toy):
    def __init__(self, tick):
        self.tick = tick

    def next(self):
        return self.tick()


def in_a_closure():
    count = 0

    def tick():
        nonlocal count
        count += 1
        return count

    return Closing(tick)


class InItsClass(Toy):
    total = 0

    def next(self):
        type(self).total += 1
        return self.total


_steps = 0


class InAGlobal(Toy):
    def next(self):
        global _steps
        _steps += 1
        return _steps


class Scattered(Toy):
    """In all three places."""

    def __init__(self):
        self.parts = [in_a_closure(), InItsClass(), InAGlobal()]

    def next(self):
        return sum(part.next() for part in self.parts)


_worlds = []


class BehindANumber(Toy):
    """As the clients of some simulators: a small number stands for a world in native memory."""

    def __init__(self):
        self.handle = len(_worlds)
        _worlds.append(ctypes.c_double(0.0))

    def next(self):
        _worlds[self.handle].value += 1.0
        return _worlds[self.handle].value


class BehindAPointer(Toy):
    """The number is an address of this process: nothing is there in another one."""

    def __init__(self):
        self._memory = None
        library = ctypes.CDLL(None)
        library.mmap.restype = ctypes.c_size_t
        library.mmap.argtypes = [ctypes.c_size_t] * 6
        self.address = library.mmap(0, 4096, 3, 0x22, (1 << 64) - 1, 0)

    def next(self):
        number = ctypes.c_double.from_address(self.address)
        number.value += 1.0
        return number.value


class InASet(Toy):
    """Iterates over a set of strings, whose order differs from process to process."""

    def __init__(self):
        self.names = {f"agent {number}" for number in range(12)}
        self.count = 0

    def next(self):
        self.count += 1
        return list(self.names).index(f"agent {self.count % 12}")


class Counted:
    def __init__(self):
        self.captures = 0


class Fragile(Toy):
    """Goes another way because it was captured (see `fragile_handler`)."""

    def __init__(self):
        self.part = Counted()

    def next(self):
        return self.part.captures


class Hanging(Toy):
    def next(self):
        time.sleep(3600)
