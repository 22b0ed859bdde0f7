# A script of three files: this one, a package of the agent, and a module that holds the loop.
import argparse

from agents.reinforce import Agent
from learning import fit, seed_all

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=14)
    arguments = parser.parse_args()
    seed_all(14)
    agent = Agent(4, 2)
    history = fit(agent, "CartPole-v1", arguments.episodes)
    print("end:", history, agent.baseline, [float(p.detach().double().sum()) for p in agent.parameters()])
