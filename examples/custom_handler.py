"""Objects whose state Python cannot see: say how to capture them, or leave them out.

The pendulum's simulator keeps its state in native memory (here ctypes; it might be a C extension's). Perdure does
not guess: without a handler, the first checkpoint is an error that names the path. `perdure.register` says in
two functions how the state is taken and put back. `perdure.skip` leaves out what no run needs to get back,
here the connection to a display.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python custom_handler.py [--steps 5000]
"""

import argparse
import ctypes
import math
import random
import socket

import perdure
from perdure.errors import CaptureError


class Simulator:
    """A swinging pendulum. Nothing of its state is in an attribute that could be copied."""

    def __init__(self) -> None:
        self.memory = (ctypes.c_double * 2)(1.0, 0.0)

    def step(self, push: float) -> float:
        angle, speed = self.memory
        speed += 0.02 * (push - math.sin(angle))
        self.memory[:] = angle + 0.02 * speed, speed
        return speed


class Display:
    """Sends what happens to somebody who watches; a new process has a new connection."""

    def __init__(self) -> None:
        self.connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def show(self, text: str) -> None:
        self.connection.sendto(text.encode(), ("127.0.0.1", 9999))


def restore(simulator: Simulator, state: list[float]) -> None:
    simulator.memory[:] = state


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5000)
    steps = parser.parse_args().steps

    random.seed(1)
    world = perdure.World(simulator=Simulator(), display=Display(), fastest=0.0)

    try:
        perdure.state.capture(world)
    except CaptureError as error:
        print(f"without handlers: {error}\n")

    # `capture` gives plain values, lists and dictionaries of them, arrays or tensors; `restore` writes them into the
    # object that the script has built.
    perdure.register(Simulator, capture=lambda simulator: list(simulator.memory), restore=restore)
    perdure.skip(Display, "a connection")

    with perdure.Run("runs/custom_handler") as run:
        for step in run.steps(world, steps, every=500):
            speed = world.simulator.step(push=random.uniform(-1, 1))
            world.fastest = max(world.fastest, speed)
            if step % 500 == 0:
                world.display.show(f"step {step}")
                print(f"step {step}: the angle is {world.simulator.memory[0]:.4f}")
    print(f"{steps} steps done; the fastest was {world.fastest!r}")


if __name__ == "__main__":
    main()
