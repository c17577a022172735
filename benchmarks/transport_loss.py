"""The PKDOT loss: against the same loss built on geomloss, and as a share of training steps. Run by transport.py --loss."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sidelight.losses.structural import StructuralTransport
from sidelight.transport import sinkhorn, sinkhorn_divergence

BATCH, DIM = 128, 512


def fastest(step: Callable[[], object], seconds: float = 3.0, least: int = 3) -> float:
    """Milliseconds of the fastest call."""
    spent: list[float] = []
    while len(spent) < least or sum(spent) < seconds:
        start = time.perf_counter()
        step()
        spent.append(time.perf_counter() - start)
    return 1e3 * min(spent)


def embeddings(batch: int = BATCH, dim: int = DIM) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 5, (batch,), generator=generator)
    means = torch.randn(5, dim, generator=generator)
    student = 0.5 * means[label] + torch.randn(batch, dim, generator=generator)
    return student.requires_grad_(), means[label] + torch.randn(batch, dim, generator=generator)


def with_geomloss() -> Callable[[Tensor, Tensor], Tensor]:
    """The released loss as its authors build it."""
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=0.1, backend="tensorized")

    def value(student: Tensor, teacher: Tensor) -> Tensor:
        s, t = (F.normalize(z, dim=1) @ F.normalize(z, dim=1).T for z in (student, teacher))
        s, t = s - s.min(), t - t.min()
        index = t.topk(30, dim=1, largest=False).indices
        return loss(s.gather(1, index), t.gather(1, index))

    return value


def losses() -> None:
    student, teacher = embeddings()

    def gradient(loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        s = student.detach().to(dtype).requires_grad_()
        return torch.autograd.grad(loss(s, teacher.to(dtype)), s)[0].double()

    rivals: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        p: StructuralTransport(p) for p in ("released", "paper", "sidelight")
    }
    try:
        rivals["released on geomloss"] = with_geomloss()
    except ImportError:
        print("geomloss is not installed: its row is left out")
    print(f"\n### The loss, forward + backward: B {BATCH}, D {DIM}, k 30, float32, tolerance 1e-3\n")
    print("| loss | ms | gradient error |\n|---|---|---|")
    for name, loss in rivals.items():
        preset = name.split()[0]
        exact = gradient(StructuralTransport(preset, tolerance=1e-10, max_iterations=20000), torch.float64)
        error = (gradient(loss) - exact).norm() / exact.norm()

        def step(loss: Callable[[Tensor, Tensor], Tensor] = loss) -> None:
            student.grad = None
            loss(student, teacher).backward()

        print(f"| {name} | {fastest(step, 2.0):.2f} | {error.item():.1e} |", flush=True)


# ---------------------------------------------------------------- training steps


class Block(nn.Module):
    """A residual block of ResNet-18 in two or three dimensions."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride, 1, bias=False), norm(outputs), nn.ReLU(),
            conv(outputs, outputs, 3, 1, 1, bias=False), norm(outputs),
        )  # fmt: skip
        same = stride == 1 and inputs == outputs
        self.skip = (
            nn.Identity() if same else nn.Sequential(conv(inputs, outputs, 1, stride, bias=False), norm(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def resnet18(dims: int, channels: int) -> nn.Sequential:
    if dims == 2:
        stem: list[nn.Module] = [
            nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
    else:
        stem = [nn.Conv3d(channels, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False), nn.BatchNorm3d(64), nn.ReLU()]
    blocks = [
        Block(dims, inputs, outputs, stride)
        for inputs, outputs, stride in (
            (64, 64, 1),
            (64, 64, 1),
            (64, 128, 2),
            (128, 128, 1),
            (128, 256, 2),
            (256, 256, 1),
            (256, 512, 2),
            (512, 512, 1),
        )
    ]
    pool = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
    return nn.Sequential(*stem, *blocks, pool, nn.Flatten())


def share(name: str, network: nn.Module, inputs: Tensor, width: int) -> None:
    """One optimiser step with the paper's loss: how much of it the loss takes."""
    head = nn.Linear(width, 5)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, 1e-4)
    label = torch.randint(0, 5, (len(inputs),))
    teacher, loss = torch.randn(len(inputs), width), StructuralTransport("paper", k=min(30, len(inputs)))

    def train(distil: bool) -> None:
        fused = network(inputs)
        total = F.cross_entropy(head(fused), label)
        if distil:
            total = total + 0.4 * loss(fused, teacher)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()

    train(True)
    step = fastest(lambda: train(False), 2.0, 2)
    fused = network(inputs).detach().requires_grad_()

    def alone() -> None:
        fused.grad = None
        (0.4 * loss(fused, teacher)).backward()

    alone()
    own = fastest(alone, 1.0)
    print(f"| {name} | {step:.4g} | {own:.2f} | {100 * own / step:.2f} % |", flush=True)


def debiasing(seconds: float = 6.0) -> None:
    """A divergence over a plain solve: called over and over, and once after each step of a network, as in training.

    In a loop of nothing else both live in the processor's first cache, where the divergence, which is more code and
    more memory, has less room: no training step is like that.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(BATCH, 5, generator=generator), dim=1) for _ in range(2))
    x.requires_grad_()
    mlp = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, 5))
    rows, optimiser = torch.randn(BATCH, DIM), torch.optim.Adam(mlp.parameters(), 1e-4)
    settings: dict[str, Any] = {"epsilon": 0.1, "cost": "sqeuclidean", "tolerance": 1e-3}

    def nothing() -> None:
        x.grad = None

    def train() -> None:
        x.grad = None
        optimiser.zero_grad()
        mlp(rows).square().mean().backward()
        optimiser.step()

    solves: dict[str, Callable[[], None]] = {
        "plain": lambda: sinkhorn(x, y, **settings).objective.backward(),
        "divergence": lambda: sinkhorn_divergence(x, y, **settings).divergence.backward(),
    }
    for where, before in (("in a loop of its own", nothing), ("after each step of an MLP", train)):
        spent: dict[str, list[float]] = {name: [] for name in solves}
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for name, solve in solves.items():
                for _ in range(10 if before is nothing else 1):
                    before()
                    start = time.perf_counter()
                    solve()
                    spent[name].append(1e3 * (time.perf_counter() - start))
        middle = {name: statistics.median(times) for name, times in spent.items()}
        print(
            f"| {where} | {middle['plain']:.2f} | {middle['divergence']:.2f} | "
            f"{middle['divergence'] / middle['plain']:.2f} |",
            flush=True,
        )


def report() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    losses()
    print(f"\n### The divergence over a plain solve: B {BATCH}, epsilon 0.1, tolerance 1e-3 (medians)\n")
    print("| called | plain, ms | divergence, ms | ratio |\n|---|---|---|---|")
    debiasing()
    print("\n### Its share of a training step (preset paper, float32, 1 thread)\n")
    print("| network and batch | step without it, ms | the loss, ms | share |\n|---|---|---|---|")
    mlp = nn.Sequential(nn.Linear(60, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    share("MLP over 60 window statistics, B 128 (the demo's kind)", mlp, torch.randn(128, 60), 64)
    share("ResNet-18, 1 x 67 x 127 spectrograms, B 128", resnet18(2, 1), torch.randn(128, 1, 67, 127), 512)
    share("R3D-18, 3 x 16 x 112 x 112 clips, B 8", resnet18(3, 3), torch.randn(8, 3, 16, 112, 112), 512)
