"""All algorithms, buffers and collectors of Tianshou 2, in scripts: `python tianshou_setups.py NAME DIRECTORY`.

Each function with `@setup` makes one training, and says for the table what it shows.
"""

import random
import sys

import numpy as np
import tianshou_agents
import tianshou_off_policy
import tianshou_offline
import tianshou_on_policy
import torch
from tianshou_parts import SETUPS

import perdure

MODULES = (tianshou_on_policy, tianshou_off_policy, tianshou_agents, tianshou_offline)


def main() -> None:
    name, directory = sys.argv[1:3]
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    torch.set_num_threads(1)
    trainer, every = SETUPS[name].build()
    perdure.integrations.tianshou.run(trainer, directory, every=every)


if __name__ == "__main__":
    main()
