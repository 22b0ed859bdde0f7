# In the way of Rainbow: noisy and dueling network, n-step returns in a deque, double Q, in a main() with a `while`.
import argparse
import random
from collections import deque, namedtuple

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

Step = namedtuple("Step", ("state", "action", "reward", "next_state", "done"))


class NoisyLinear(nn.Module):
    def __init__(self, n_in, n_out, std_init=0.5):
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        bound = n_in**-0.5
        self.weight_mu = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.weight_sigma = nn.Parameter(torch.full((n_out, n_in), std_init * bound))
        self.bias_mu = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))
        self.bias_sigma = nn.Parameter(torch.full((n_out,), std_init * bound))
        self.register_buffer("weight_epsilon", torch.zeros(n_out, n_in))
        self.register_buffer("bias_epsilon", torch.zeros(n_out))
        self.reset_noise()

    @staticmethod
    def _scale(size):
        x = torch.randn(size)
        return x.sign() * x.abs().sqrt()

    def reset_noise(self):
        e_in, e_out = self._scale(self.n_in), self._scale(self.n_out)
        self.weight_epsilon.copy_(e_out.outer(e_in))
        self.bias_epsilon.copy_(e_out)

    def forward(self, x):
        return F.linear(
            x,
            self.weight_mu + self.weight_sigma * self.weight_epsilon,
            self.bias_mu + self.bias_sigma * self.bias_epsilon,
        )


class Dueling(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 32)
        self.value, self.advantage = NoisyLinear(32, 1), NoisyLinear(32, 2)

    def forward(self, x):
        h = F.relu(self.body(x))
        a = self.advantage(h)
        return self.value(h) + a - a.mean(-1, keepdim=True)

    def reset_noise(self):
        for module in self.modules():
            if isinstance(module, NoisyLinear):
                module.reset_noise()


class NStep:
    def __init__(self, n, gamma):
        self.n, self.gamma = n, gamma
        self.memory = []
        self.window = deque(maxlen=n)

    def push(self, step):
        self.window.append(step)
        if len(self.window) == self.n or step.done:
            reward = sum(s.reward * self.gamma**i for i, s in enumerate(self.window))
            first = self.window[0]
            self.memory.append(Step(first.state, first.action, reward, step.next_state, step.done))
        if step.done:
            self.window.clear()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--total-timesteps", type=int, default=450)
    parser.add_argument("--seed", type=int, default=6)
    args = parser.parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    env = gym.make("CartPole-v1")
    online, target = Dueling(), Dueling()
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-3)
    replay = NStep(3, 0.99)
    state, _ = env.reset(seed=args.seed)
    global_step, lengths, length = 0, [], 0
    losses = deque(maxlen=20)
    while global_step < args.total_timesteps:  # the training loop
        global_step += 1
        with torch.no_grad():
            action = online(torch.as_tensor(state)).argmax().item()
        next_state, reward, terminated, truncated, _ = env.step(action)
        replay.push(Step(state, action, reward, next_state, terminated))
        state, length = next_state, length + 1
        if terminated or truncated:
            replay.window.clear()
            state, _ = env.reset()
            lengths.append(length)
            length = 0
        if len(replay.memory) < 50 or global_step % 2:
            continue
        batch = Step(*(torch.as_tensor(np.array(part)) for part in zip(*random.sample(replay.memory, 16))))
        online.reset_noise()
        target.reset_noise()
        q = online(batch.state).gather(1, batch.action[:, None])[:, 0]
        with torch.no_grad():
            best = online(batch.next_state).argmax(1, keepdim=True)
            wanted = (
                batch.reward.float() + 0.99**3 * target(batch.next_state).gather(1, best)[:, 0] * ~batch.done
            )
        loss = F.smooth_l1_loss(q, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if global_step % 100 == 0:
            target.load_state_dict(online.state_dict())
    print("end:", global_step, lengths, length, list(losses), len(replay.memory), list(replay.window)[:1])
    print(
        "end:",
        [float(p.detach().double().sum()) for p in online.parameters()],
        online.value.bias_epsilon.item(),
    )
    print("end:", random.random(), np.random.rand(), torch.rand(1).item())


if __name__ == "__main__":
    main()
