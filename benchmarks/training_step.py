"""A training step through sidelight's loop beside the same step in a plain PyTorch loop.

    python benchmarks/training_step.py                   # on the CPU: R3D-18 on clips (B 8), ResNet-18 on spectrograms (B 128)
    python benchmarks/training_step.py --device cuda     # on a GPU, with rows of full size
    python benchmarks/training_step.py --compile         # our loop with training.compile=true beside our loop without

Both train the same network (encoder, fusion, dropout, head) with the same initial weights, cross-entropy and fused AdamW, on the same
rows in host memory. The plain loop is what one would write by hand: index the rows, copy them to the device from pinned memory
without waiting, forward, backward, step; on the CPU it also mends the gradients that torch's fused optimizers read wrongly
(`restride`), without which its steps are others (`--as-written`). Ours is `materialized_batches`, `Method.steps` and `TrainingLoop.update`. Blocks of steps are
taken by turns, in changing order, and the median of their ratios is what counts: 1.00 means that the loop costs nothing. On the CPU
they are ratios of processor time.

On the CPU rows are small (clips 3 x 8 x 56 x 56, spectrograms 1 x 32 x 64), so that it ends in minutes; the larger a step, the smaller
the share of a loop in it, so smaller rows are the harder test. `--full` takes clips of 3 x 16 x 112 x 112 and spectrograms of
1 x 64 x 256.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sidelight.config import BalanceConfig, TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.methods import Supervised, TrainState
from sidelight.networks.build import build_network
from sidelight.networks.network import Network
from sidelight.tasks import make_task
from sidelight.training.compiling import compiled_encoders
from sidelight.training.loop import TrainingLoop
from sidelight.utils.device import choose_device, describe_device

CASES = {
    "R3D-18, clips": ("r3d18", 8, (3, 8, 56, 56), (3, 16, 112, 112)),
    "ResNet-18, spectrograms": ("resnet18", 128, (1, 32, 64), (1, 64, 256)),
}
"""Name -> encoder, batch size, shape of a small row, and of one of full size."""
MORE = {"CNN, signals": ("cnn", 128, (256, 3), (1024, 3))}
"""Cases that are measured where they are named."""
CLASSES = tuple("abcdefghij")
Fetch = Callable[..., Iterable[Batch]]
"""Like `materialized_batches`."""


class Plain(nn.Module):
    """The network's layers, called as a script would call them."""

    def __init__(self, network: Network):
        super().__init__()
        self.encoder, self.fusion, self.head = network.encoders["x"], network.fusion.out, network.head
        self.dropout = network.fusion.head_dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.fusion(self.encoder(x).flatten(1))))


def plain_steps(
    network: Network, rows: Batch, size: int, device: torch.device, as_written: bool = False
) -> Callable[[int], None]:
    """A function that takes so many steps of a plain loop; `as_written`: with torch's fault (`restride`)."""
    model = Plain(copy.deepcopy(network)).to(device).train()
    settings = TrainingConfig()
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=device.type in ("cpu", "cuda"))

    def fetch(index: Tensor) -> tuple[Tensor, Tensor]:
        batch = rows.inputs["x"][index], rows.target[index]
        if device.type == "cuda":
            batch = tuple(t.pin_memory().to(device, non_blocking=True) for t in batch)
        return tuple(t.to(device) for t in batch)

    def take(steps: int) -> None:
        for index in order_of(len(rows), size, steps):
            x, target = fetch(index)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), target).backward()
            if device.type == "cpu" and not as_written:
                restride(model)
            optimizer.step()

    return take


def restride(model: nn.Module) -> None:
    """Give each gradient the strides of its weight.

    torch's fused optimizers on the CPU read it as if it had them (findings/torch_fused_optimizer_strides.sh): without
    this the plain loop takes another step, with other weights' gradients.
    """
    for p in model.parameters():
        if p.grad is not None and p.grad.stride() != p.stride():
            p.grad = torch.empty_like(p).copy_(p.grad)


def our_steps(
    network: Network, rows: Batch, size: int, device: torch.device, fetch: Fetch = materialized_batches, **settings: Any
) -> Callable[[int], None]:
    """A function that takes so many steps of our loop; `fetch` gives its batches, `settings` are those of training."""
    compiled = settings.pop("compile", False)  # earlier builds have no such setting
    method = Supervised(copy.deepcopy(network), make_task("classification", CLASSES)).to(device)
    config = TrainingConfig(batch_size=size, **settings)
    loop = TrainingLoop(method, config, len(rows), 0, BalanceConfig(), None, None, device)
    precision = getattr(loop, "precision", None)

    def take(steps: int) -> None:
        method.train()
        with compiled_encoders(method) if compiled else nullcontext():
            for batch in fetch(rows, order_of(len(rows), size, steps), device=device):
                state = TrainState(0, 1, loop.step)
                for group, terms in precision.steps(method, batch, state) if precision else method.steps(batch, state):
                    loop.update(group, terms, state)
                loop.step += 1

    return take


def order_of(rows: int, size: int, steps: int) -> list[Tensor]:
    each = rows // size
    return [torch.randperm(rows)[:size] for _ in range(each * (1 + steps // each))][:steps]


def seconds_a_step(take: Callable[[int], None], steps: int, device: torch.device) -> float:
    # Seconds of the processor, not of the clock, where nothing is waited for: other work on the machine does not count.
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronize(device)
    start = clock()
    take(steps)
    synchronize(device)
    return (clock() - start) / steps


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def measure(
    name: str,
    steps: int,
    rounds: int,
    full: bool,
    device: torch.device,
    compiled: bool = False,
    as_written: bool = False,
) -> tuple[tuple[int, ...], list[float]]:
    """The shape of a row; seconds of a step of the plain loop, of ours, and the median ratio with its quartiles."""
    encoder, size, small, large = (CASES | MORE)[name]
    shape = large if full else small
    network, rows = build(encoder, size, shape)
    makers = (
        (our_steps, partial(our_steps, compile=True))
        if compiled
        else (partial(plain_steps, as_written=as_written), our_steps)
    )
    times = take_turns([make(network, rows, size, device) for make in makers], steps, rounds, device)
    low, middle, high = statistics.quantiles([ours / plain for plain, ours in times], n=4)
    return shape, [*(statistics.median(column) for column in zip(*times)), low, middle, high]


def build(encoder: str, size: int, shape: tuple[int, ...]) -> tuple[Network, Batch]:
    """A network, and random rows of two batches."""
    torch.manual_seed(0)
    config = load_config({"data": "x", "network.encoder": encoder})
    network = build_network({"x": shape}, ["x"], len(CLASSES), config.network)
    n = 2 * size
    rows = Batch(
        {"x": torch.randn(n, *shape)}, torch.randint(len(CLASSES), (n,)), torch.ones(n, dtype=torch.bool), {},
        torch.arange(n), {},
    )  # fmt: skip
    return network, rows


def take_turns(
    takers: Sequence[Callable[[int], None]], steps: int, rounds: int, device: torch.device
) -> list[tuple[float, ...]]:
    """Seconds of a step of each loop, one tuple per round; loops take turns in changing order."""
    for take in takers:  # memory, kernels and optimizers are set up
        take(2)
    times = []
    for i in range(rounds):
        order = range(len(takers)) if i % 2 else reversed(range(len(takers)))
        found = {k: seconds_a_step(takers[k], steps, device) for k in order}
        times.append(tuple(found[k] for k in range(len(takers))))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps")
    parser.add_argument("--steps", type=int, default=0, help="in a block (default: 2 on the CPU, 20 elsewhere)")
    parser.add_argument("--rounds", type=int, default=12, help="of one block each (at least 2)")
    parser.add_argument("--full", action="store_true", help="rows of full size (always on a GPU)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; a worker of an experiment has one")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=[*CASES, *MORE])
    parser.add_argument(
        "--as-written",
        action="store_true",
        help="on the CPU: the plain loop with torch's fault, whose steps are others",
    )
    parser.add_argument("--compile", action="store_true", help="compare compiled encoders with encoders as they are")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = choose_device(args.device, "--device")
    full, steps = args.full or device.type != "cpu", args.steps or (2 if device.type == "cpu" else 20)
    print(f"{describe_device(device)}, {args.threads} threads, torch {torch.__version__}\n")
    names = (
        ("as it is", "compiled", "compiled / as it is") if args.compile else ("plain", "sidelight", "sidelight / plain")
    )
    print(f"| what | rows | {' | '.join(names)} (quartiles) |")
    print("|---|---|---|---|---|")
    for name in args.only:
        shape, (plain, ours, low, middle, high) = measure(
            name, steps, args.rounds, full, device, args.compile, args.as_written
        )
        rows = f"{(CASES | MORE)[name][1]} × {' × '.join(map(str, shape))}"
        print(
            f"| {name} | {rows} | {1000 * plain:.0f} ms | {1000 * ours:.0f} ms "
            f"| **{middle:.3f}** ({low:.3f}–{high:.3f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
