"""What a training step of every method costs beside one of `kl` on the same networks.

    python benchmarks/methods.py                     # prints the table
    python benchmarks/methods.py --store             # and writes the figures that `sidelight methods` shows

Two modalities of 512 numbers, encoders and fusion of width 512 (batch 128, 10 classes): the teacher, its T-Nets and every
earlier stage are trained for one epoch, then the methods take steps by turns, and each step's median time is put over that of
`kl`, and over that of `kl` on the same networks: with the student's privileged slots (T-Net or encoders of their own) that
the method asks for, which a user of `kl` would not have. One thread. The relational losses that released code computes by
loops or in O(B^3) are timed against that form.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from sidelight.config import BalanceConfig, load_config
from sidelight.data import Dataset
from sidelight.experiment.assemble import assemble
from sidelight.experiment.context import JobContext
from sidelight.experiment.models import FoldModels
from sidelight.experiment.plan import Job
from sidelight.experiment.resolve import resolve
from sidelight.losses.distribution import gaussian_mmd
from sidelight.losses.relational import rkd
from sidelight.methods import METHODS, MethodSpec, TrainState
from sidelight.training.loop import TrainingLoop
from sidelight.utils.device import CPU

WIDTH, BATCH, CLASSES, ROWS = 512, 128, 10, 1600
STORE = Path(__file__).parents[1] / "src" / "sidelight" / "methods" / "costs.json"


def make_data() -> Dataset:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, ROWS)
    middle = rng.normal(size=(CLASSES, WIDTH))
    inputs = {
        m: (middle[y] * s + rng.normal(size=(ROWS, WIDTH))).astype(np.float32)
        for m, s in (("video", 0.1), ("eda", 0.3))
    }
    labels = tuple(f"class {c}" for c in range(CLASSES))
    return Dataset("made", inputs, y, np.ones(ROWS, bool), "classification", labels, group=np.arange(ROWS).astype(str))


def steps_of(names: list[str], folder: Path, hallucinate: str = "auto") -> dict[str, object]:
    """Every method, ready to take a step: name -> function of one step; ``hallucinate`` is the student's setting."""
    data = make_data()
    settings = {
        "data": "made", "available": ["video"], "privileged": ["eda"], "output": str(folder), "folds": 2,
        "network": {"width": WIDTH}, "student": {"hallucinate": hallucinate}, "training": {"epochs": 1, "batch_size": BATCH}, "methods": names,
    }  # fmt: skip
    models = FoldModels(resolve(load_config(settings), data), data, folder, {}, 0, 0)
    made = {}
    for name in names:
        context = JobContext(models, Job(name, "", 1.0, 0, 0))
        method, _ = assemble(MethodSpec.parse(name), context)
        loop = TrainingLoop(method, context.config.training, len(context.rows()), 0, BalanceConfig(), None, None, CPU)
        rows = context.rows()
        batch = (
            rows.index_select(torch.arange(BATCH))
            if method.reads is None
            else rows.index_select(torch.arange(BATCH)).select_modalities(method.reads)
        )
        method.train()
        made[name] = stepper(loop, method, batch)
    return made


def stepper(loop, method, batch):
    def step() -> None:
        state = TrainState(49, 50, 1000)
        for group, terms in method.steps(batch, state):
            loop.update(group, terms, state)

    return step


def median_times(steps: dict, rounds: int) -> dict[str, float]:
    """Seconds of a step, all taking turns."""
    for step in steps.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(t) for name, t in times.items()}


# the released forms ---------------------------------------------------------------------------------------------------


def released_rkd(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Relational KD as its authors released it: all B x B x D differences at once, angles by a batched product."""

    def distances(e):
        square = e.pow(2).sum(1)
        d = (square[:, None] + square[None] - 2 * e @ e.T).clamp(min=1e-12).sqrt()
        d = d.clone()
        d[range(len(e)), range(len(e))] = 0
        return d / d[d > 0].mean()

    def angles(e):
        unit = torch.nn.functional.normalize(e[None] - e[:, None], p=2, dim=2)
        return torch.bmm(unit, unit.transpose(1, 2)).view(-1)

    with torch.no_grad():
        td, ta = distances(teacher), angles(teacher)
    smooth = torch.nn.functional.smooth_l1_loss
    return 25 * smooth(distances(student), td) + 50 * smooth(angles(student), ta)


def released_mmd(x: torch.Tensor, y: torch.Tensor, kernels: int = 5) -> torch.Tensor:
    """Maximum mean discrepancy by loops over pairs, as released with deep adaptation networks (linear sum over pairs)."""
    both = torch.cat([x, y])
    n = len(both)
    squared = (both[None] - both[:, None]).pow(2).sum(2)
    bandwidth = squared.detach().sum() / (n * n - n) / 2 ** (kernels // 2)
    kernel = sum(torch.exp(-squared / (bandwidth * 2**i)) for i in range(kernels))
    b, loss = len(x), 0.0
    for i in range(b):
        for j in range(b):
            loss = loss + kernel[i, j] + kernel[i + b, j + b] - kernel[i, j + b] - kernel[i + b, j]
    return loss / b**2


def against_released(batch: int, rounds: int = 15) -> dict[str, tuple[float, float]]:
    """name -> milliseconds forward and backward of (ours, the released form)."""
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(batch, 512, generator=g).requires_grad_() for _ in range(2))

    def run(loss):
        return lambda: torch.autograd.grad(loss(x, y.detach()), x)

    found = {}
    for name, ours, theirs in (("rkd", rkd, released_rkd), ("mmd", gaussian_mmd, released_mmd)):
        times = median_times({"ours": run(ours), "released": run(theirs)}, rounds)
        found[name] = (1e3 * times["ours"], 1e3 * times["released"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--methods", nargs="*", default=[name for name, method in METHODS.items() if not method.check_study]
    )
    parser.add_argument("--store", action="store_true", help="write src/sidelight/methods/costs.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    names = list(dict.fromkeys(["kl", *args.methods]))
    with tempfile.TemporaryDirectory() as folder:
        steps = steps_of(names, Path(folder))
        for slots in ("t-net", "encoder"):
            (steps[f"kl, {slots}"],) = steps_of(["kl"], Path(folder) / slots, slots).values()
        times = median_times(steps, args.rounds)
    relative = {name: round(times[name] / times["kl"], 2) for name in names}
    print("| method | step, ms | × kl | × kl on the same networks |\n|---|---|---|---|")
    for name in names:
        slots = METHODS[name].hallucinates
        same = times[name] / times[f"kl, {slots}" if slots else "kl"]
        print(f"| `{name}` | {1e3 * times[name]:.2f} | {relative[name]:.2f} | {same:.2f} |")
    print("\n| B 64, D 512, forward and backward | ours, ms | released form, ms | ratio |\n|---|---|---|---|")
    for name, (ours, theirs) in against_released(64).items():
        print(f"| {name} | {ours:.2f} | {theirs:.1f} | {theirs / ours:.0f} |")
    if args.store:
        STORE.write_text(
            json.dumps({"command": "python benchmarks/methods.py --store", "relative": relative}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
