import torch
from torch import nn


class Agent(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, 24), nn.ReLU(), nn.Linear(24, n_out))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        self.baseline = 0.0
        self._log_probs = []

    def act(self, obs):
        dist = torch.distributions.Categorical(logits=self.net(torch.as_tensor(obs)))
        action = dist.sample()
        self._log_probs.append(dist.log_prob(action))
        return action.item()

    def end_episode(self, score):
        loss = -(score - self.baseline) * torch.stack(self._log_probs).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.baseline += 0.1 * (score - self.baseline)
        self._log_probs.clear()
