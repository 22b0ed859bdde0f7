"""Load the best policy of a run for inference: no environment, no run, and no code that the file brings along.

A whole-policy file is a pickle, and unpickling can run anything. `load_policy` reads the file as data instead, makes
objects of trusted classes only, and refuses everything else. This script shows a policy that loads and two files
that are refused; it writes all three itself. With the directory of a run it loads that run's policy instead
of its own:

    python load_policy.py [runs/own_loop_ppo]

It trains nothing: kill it at any moment and start it again.
"""

import argparse
import os

import torch
from torch import nn

import perdure
from perdure.errors import UntrustedError
from perdure.persistence import PolicyPersistence

DIRECTORY = "runs/load_policy"


class Scripted(nn.Module):
    """A policy of a class that only this script has."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return obs[:, 2:]


class Malicious:
    """What an attacker puts into a file: a call, made when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo This file has just run a command.",)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "directory", nargs="?", help="of a run that has published a policy made of torch's own layers"
    )
    directory = parser.parse_args().directory
    if directory is None:
        directory = f"{DIRECTORY}/trained"
        made = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        PolicyPersistence().persist(made, perdure.World(persist_directory=directory))

    # A package stands for every class defined in it.
    policy = perdure.load_policy(directory, trust=[torch.nn])
    with torch.no_grad():
        action = policy(torch.zeros(1, 4)).argmax(1).item()
    print(
        f"{directory}: a {type(policy).__name__}, which answers an observation of zeros with action {action}\n"
    )

    # A class that was not trusted. The message lists what to add to `trust`, if you know where the file comes from.
    PolicyPersistence().persist(Scripted(), perdure.World(persist_directory=f"{DIRECTORY}/scripted"))
    try:
        perdure.load_policy(f"{DIRECTORY}/scripted", trust=[torch.nn])
    except UntrustedError as error:
        print(f"refused: {error}\n")
    print("trusted by name:", perdure.load_policy(f"{DIRECTORY}/scripted", trust=[torch.nn, Scripted]), "\n")

    # A command in the file. torch.load(..., weights_only=False) would run it.
    torch.save(Malicious(), f"{DIRECTORY}/malicious.pt")
    try:
        perdure.load_policy(f"{DIRECTORY}/malicious.pt", trust=[torch.nn])
    except UntrustedError as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    main()
