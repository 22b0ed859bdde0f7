# Self-play at tic-tac-toe against a pool of frozen copies of earlier selves; the pool grows, ratings are kept.
import copy
import random

import numpy as np
import torch
from torch import nn

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


class TicTacToe:
    def reset(self):
        self.board = np.zeros(9, dtype=np.float32)
        self.turn = 1
        return self.board.copy()

    def legal(self):
        return [i for i in range(9) if self.board[i] == 0]

    def step(self, move):
        self.board[move] = self.turn
        won = any(all(self.board[i] == self.turn for i in line) for line in LINES)
        reward = float(self.turn) if won else 0.0
        self.turn = -self.turn
        return self.board.copy(), reward, won or not self.legal()


class Player(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 9))

    def distribution(self, board, side, legal):
        logits = self.layers(torch.as_tensor(board * side))
        mask = torch.full((9,), -1e9)
        mask[legal] = 0
        return torch.distributions.Categorical(logits=logits + mask)


def play(env, learner, opponent, side):
    board, log_probs = env.reset(), []
    over = False
    while not over:
        if env.turn == side:
            dist = learner.distribution(board, side, env.legal())
            move = dist.sample()
            log_probs.append(dist.log_prob(move))
        else:
            with torch.no_grad():
                move = opponent.distribution(board, -side, env.legal()).sample()
        board, reward, over = env.step(int(move))
    return reward * side, log_probs


def main():
    random.seed(21)
    torch.manual_seed(21)
    env, learner = TicTacToe(), Player()
    optimizer = torch.optim.Adam(learner.parameters(), lr=2e-3)
    pool, ratings, results = [copy.deepcopy(learner).eval()], [1000.0], []
    baseline = 0.0
    game = 0
    while True:  # the training loop
        index = random.choices(range(len(pool)), weights=ratings)[0]
        side = random.choice((1, -1))
        outcome, log_probs = play(env, learner, pool[index], side)
        ratings[index] = max(100.0, ratings[index] - 8 * outcome)
        results.append(outcome)
        loss = -(outcome - baseline) * torch.stack(log_probs).sum()
        baseline = 0.95 * baseline + 0.05 * outcome
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        game += 1
        if game % 20 == 0:
            pool.append(copy.deepcopy(learner).eval())
            ratings.append(1000.0)
            if len(pool) > 5:
                weakest = int(np.argmin(ratings))
                del pool[weakest], ratings[weakest]
        if game == 150:
            break
    sums = [float(sum(p.detach().double().sum() for p in each.parameters())) for each in [learner, *pool]]
    print("end:", sums, ratings, sum(results), baseline, game, random.random(), torch.rand(1).item())


main()
