"""Training steps of several processes that share each batch, beside those of one process with the whole batch.

    torchrun --nproc-per-node 2 benchmarks/data_parallel.py

ResNet-18 on spectrograms through our loop (`materialized_batches`, `Method.steps`, `TrainingLoop.update`), with one thread for each
process, gloo between them, and the same batches. Blocks of steps are taken by turns, in changing order: by process 0 alone, while the
others wait, and by all. What counts is seconds of the clock, so other work on the machine tells: the load of the machine is printed, and
beside them stand seconds of the processor, of the process that takes most, which other work changes less and which leave waiting out.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time

import torch

from sidelight.config import BalanceConfig, TrainingConfig, load_config
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.methods import Supervised, TrainState
from sidelight.networks.build import build_network
from sidelight.tasks import make_task
from sidelight.training.loop import TrainingLoop
from sidelight.utils.distributed import alone, barrier, is_first, joined, share

CLASSES = tuple("abcdefghij")


class Steps:
    """Takes steps of one network, and says how long they took."""

    def __init__(self, network: torch.nn.Module, rows: Batch, size: int):
        method = Supervised(copy.deepcopy(network), make_task("classification", CLASSES))
        settings = TrainingConfig(batch_size=size)
        self.loop = TrainingLoop(method, settings, len(rows), 0, BalanceConfig(), None, 0, torch.device("cpu"))
        self.method, self.rows, self.size = method, rows, size

    def take(self, count: int) -> tuple[float, float]:
        """Seconds of a step, of the clock and of the processor."""
        self.method.train()
        order = [torch.arange(self.size)] * count
        start, busy = time.perf_counter(), time.process_time()
        for batch in materialized_batches(self.rows, order, None, self.loop.step):
            for group, terms in self.method.steps(batch, TrainState(step=self.loop.step)):
                self.loop.update(group, terms, TrainState(step=self.loop.step))
            self.loop.step += 1
        return (time.perf_counter() - start) / count, (time.process_time() - busy) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--batch", type=int, default=128, help="rows of a batch, over all processes")
    parser.add_argument("--shape", type=int, nargs="+", default=[1, 64, 256], help="of a row")
    parser.add_argument("--steps", type=int, default=1, help="of a block")
    parser.add_argument("--rounds", type=int, default=6, help="of one block of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with joined() as world:
        torch.manual_seed(0)
        config = load_config({"data": "x", "network.encoder": args.encoder})
        network = build_network({"x": args.shape}, ["x"], len(CLASSES), config.network)
        rows = Batch(
            {"x": torch.randn(args.batch, *args.shape)}, torch.arange(args.batch) % len(CLASSES),
            torch.ones(args.batch, dtype=torch.bool), {}, torch.arange(args.batch), {},
        )  # fmt: skip
        one, all_of_them = Steps(network, rows, args.batch), Steps(network, rows, args.batch)

        def alone_for(steps: int) -> tuple[float, float]:
            seconds = 0.0, 0.0
            if is_first():
                with alone():
                    seconds = one.take(steps)
            barrier()
            return seconds

        def together_for(steps: int) -> tuple[float, float]:
            clock, busy = all_of_them.take(steps)
            return clock, max(float(x) for x in share(torch.tensor(busy)))

        alone_for(1), together_for(1)
        clocks: list[tuple[float, float]] = []
        busy: list[tuple[float, float]] = []
        for number in range(args.rounds):
            if number % 2:
                together, single = together_for(args.steps), alone_for(args.steps)
            else:
                single, together = alone_for(args.steps), together_for(args.steps)
            clocks.append((single[0], together[0]))
            busy.append((single[1], together[1]))
        if not is_first():
            return
        print(
            f"{world.size} processes, batch {args.batch} × {args.shape}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
        )
        for what, times in (("clock", clocks), ("processor", busy)):
            single, together = (min(column) for column in zip(*times))
            ratios = [a / b for a, b in times]
            print(
                f"{what}: one process {1000 * single:.0f} ms a step, {world.size} processes {1000 * together:.0f} ms: "
                f"{single / together:.2f} times faster (best blocks), {statistics.median(ratios):.2f} (median of pairs: "
                f"{' '.join(f'{ratio:.2f}' for ratio in ratios)})"
            )
        trained = [p for p in network.parameters() if p.requires_grad]
        width = config.network.width
        ring = 2 * (world.size - 1) / world.size
        print(
            f"a process receives {args.batch * width * 4 * (world.size - 1) / world.size / 1e6:.3f} MB of features and "
            f"sends {ring * sum(p.nbytes for p in trained) / 1e6:.1f} MB of gradients a step"
        )


if __name__ == "__main__":
    main()
