# A tree search that learns values in a table as it plays Nim; nodes are objects that refer to each other.
import math
import random


class Nim:
    def __init__(self, heaps=(3, 4, 5)):
        self.start = heaps

    def reset(self):
        return self.start, 1

    @staticmethod
    def moves(state):
        return [(i, n) for i, heap in enumerate(state) for n in range(1, heap + 1)]

    @staticmethod
    def step(state, move):
        i, n = move
        after = state[:i] + (state[i] - n,) + state[i + 1 :]
        return after, not any(after)


class Node:
    def __init__(self, state, parent=None):
        self.state, self.parent = state, parent
        self.children, self.visits, self.value = {}, 0, 0.0

    def best(self, c):
        return max(
            self.children.items(),
            key=lambda item: (
                -item[1].value / (item[1].visits + 1e-9)
                + c * math.sqrt(math.log(self.visits + 1) / (item[1].visits + 1e-9))
            ),
        )


def search(env, root, simulations):
    for _ in range(simulations):
        node = root
        while node.children:
            _, node = node.best(1.4)
        if any(node.state) and node.visits:
            for move in env.moves(node.state):
                node.children[move] = Node(env.step(node.state, move)[0], node)
            node = random.choice(list(node.children.values()))
        state, sign, over = node.state, 1.0, not any(node.state)
        while not over:
            state, over = env.step(state, random.choice(env.moves(state)))
            sign = -sign
        result = -sign
        while node is not None:
            node.visits += 1
            node.value += result
            result, node = -result, node.parent


random.seed(29)
env = Nim()
root = Node(env.reset()[0])
values, games = {}, 0
for game in range(10):  # the training loop
    state, over, player, moves = env.start, False, 1, []
    root = Node(state)
    while not over:
        search(env, root, 25)
        move, root = root.best(0.0)
        root.parent = None
        moves.append(move)
        values[root.state] = values.get(root.state, 0.0) * 0.9 + 0.1 * root.value / max(1, root.visits)
        state, over = env.step(state, move)
        player = -player
    games += 1
    print(f"game {game}: player {-player} wins after {len(moves)} moves")
print("end:", games, sorted(values.items())[:10], len(values), root.visits, moves, random.random())
