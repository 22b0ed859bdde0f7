# Offline: behaviour cloning with a DataLoader, epochs under trange, data from a scripted expert, an evaluation at the end.
import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import trange


def expert(obs):
    return int(3 * obs[2] + obs[3] > 0)


def collect(n):
    env = gym.make("CartPole-v1")
    observations, actions = [], []
    obs, _ = env.reset(seed=0)
    while len(observations) < n:
        action = expert(obs) if np.random.rand() > 0.2 else int(np.random.randint(2))
        observations.append(obs)
        actions.append(action)
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            obs, _ = env.reset()
    return torch.as_tensor(np.array(observations)), torch.as_tensor(actions)


def evaluate(model, episodes=3):
    env = gym.make("CartPole-v1", max_episode_steps=200)
    scores = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=100 + episode)
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(int(model(torch.as_tensor(obs)).argmax()))
            done = terminated or truncated
            total += reward
        scores.append(total)
    return scores


np.random.seed(4)
torch.manual_seed(4)
data = TensorDataset(*collect(600))
train_loader = DataLoader(data, batch_size=50, shuffle=True)
model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
criterion = nn.CrossEntropyLoss()
losses, best_loss, patience = [], float("inf"), 0

for epoch in trange(15):  # the training loop
    model.train()
    running_loss = 0.0
    for batch_obs, batch_actions in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(batch_obs), batch_actions)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    scheduler.step()
    losses.append(running_loss / len(train_loader))
    if losses[-1] < best_loss:
        best_loss, patience = losses[-1], 0
        torch.save(model.state_dict(), "best.pt")
    else:
        patience += 1

model.eval()
print("end:", losses, best_loss, patience, scheduler.get_last_lr(), evaluate(model))
print(
    "end:",
    [float(p.detach().double().sum()) for p in model.parameters()],
    torch.rand(1).item(),
    np.random.rand(),
)
