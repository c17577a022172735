"""The PKDOT loss in anybody's training loop: a student on half of the digits' pixels, a teacher on all of them.

python examples/own_loop.py
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sidelight.losses import StructuralTransport, soft_label_kl


class Net(nn.Module):
    """A fused embedding (what the structural loss reads) and a head."""

    def __init__(self, inputs: int):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.embed(x)
        return z, self.head(z)


def train(net: Net, x: torch.Tensor, y: torch.Tensor, loss, epochs: int) -> Net:
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            optimiser.zero_grad()
            loss(net, x[rows], y[rows], rows).backward()
            optimiser.step()
    return net.eval()


def main(epochs: int = 100) -> dict[str, float]:
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    split = train_test_split(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y), random_state=0, stratify=y)
    x_train, x_test, y_train, y_test = split
    half = slice(0, 32)  # the upper half of the image is what remains at deployment
    few = torch.arange(len(y_train)) < 100  # the others have no label

    def supervised(net, x, y, rows):
        return nn.functional.cross_entropy(net(x)[1], y)

    teacher = train(Net(64), x_train[few], y_train[few], supervised, 200)
    with torch.no_grad():
        told = teacher(x_train)
    transport = StructuralTransport("sidelight")

    def distilled(net, x, y, rows):
        z, logits = net(x)
        known = few[rows]
        task = nn.functional.cross_entropy(logits[known], y[known]) if known.any() else 0.0
        return task + soft_label_kl(logits, told[1][rows]) + transport(z, told[0][rows])

    baseline = train(Net(32), x_train[few][:, half], y_train[few], supervised, 200)
    student = train(Net(32), x_train[:, half], y_train, distilled, epochs)
    scores = {}
    nets = {"baseline": (baseline, half), "student": (student, half), "teacher": (teacher, slice(64))}
    for name, (net, columns) in nets.items():
        scores[name] = (net(x_test[:, columns])[1].argmax(1) == y_test).float().mean().item()
        print(f"{name:9} {100 * scores[name]:.1f} % of the test digits")
    return scores


if __name__ == "__main__":
    main()
