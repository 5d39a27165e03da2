"""PyTorch on the CPU, one thread."""

from __future__ import annotations

import torch
from torch import nn

from bench.contenders.data import MOMENTUM, RATE, Images, Labels, Train, batches, run


def trainer(model: nn.Module) -> Train:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()

    def train(images: Images, labels: Labels) -> float:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        target, loss = torch.from_numpy(labels), torch.zeros(())
        for at in map(torch.from_numpy, batches(len(images))):
            optimizer.zero_grad()
            loss = criterion(model(x[at]), target[at])
            loss.backward()
            optimizer.step()
        return float(loss)

    return train


def mlp() -> Train:
    return trainer(nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)))


def cnn() -> Train:
    return trainer(
        nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run({"mlp": mlp, "cnn": cnn})
