"""In each of several processes: training with the others equals training alone with the whole batch."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import torch
from torch import Tensor

from sidelight.config import BalanceConfig, TrainingConfig
from sidelight.methods import Supervised
from sidelight.methods.base import Method
from sidelight.networks.network import compute_outputs
from sidelight.testing import Subject, make_subject
from sidelight.testing.synthetic import SHAPES, make_network, make_rows, task_of
from sidelight.training.loop import TrainingLoop
from sidelight.utils.distributed import alone, joined

BOUND = 1e-10
Record = dict[str, Tensor]


def subject_of(method: str, task: str) -> Subject:
    """The subject of a method; "teacher" is the task loss alone on every modality."""
    if method != "teacher":
        return make_subject(method, task)
    factory = lambda dtype: Supervised(make_network(SHAPES, task_of(task)).to(dtype), task_of(task))  # noqa: E731
    return Subject(factory, make_rows(task, "both"), tuple(SHAPES), ())


def train(method: Method, subject: Subject, balance: BalanceConfig, epochs: int = 2, batch_size: int = 7) -> Record:
    """Train in float64; every term, gradient and score, the final state, and the outputs of the deployed network."""
    rows = subject.rows.to(torch.float64)
    settings = TrainingConfig(epochs=epochs, patience=epochs, batch_size=batch_size, learning_rate=0.01)
    loop = TrainingLoop(method, settings, len(rows), 3, balance, None, 0, torch.device("cpu"))
    found: Record = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found[f"gradient {len(found)}"] = torch.cat([g.reshape(-1) for g in grads])

    for optimizer in loop.optimizers.values():
        optimizer.register_step_pre_hook(keep)
    drawn = rows.labelled.nonzero()[:, 0] if method.learns_from == "labelled" else torch.arange(len(rows))
    fold = subject.teacher_fold if method.within_teacher_folds else None
    if method.reads is not None:
        rows = replace(rows.select_modalities(method.reads), present=rows.present)
    for _ in range(epochs):
        loop.train_epoch(rows, drawn, fold, rows)
    for record in loop.history.epochs:
        found |= {f"{name} {record['epoch']}": torch.tensor(v) for name, v in record.items() if name != "seconds"}
    found |= {name: value.clone() for name, value in method.state_dict().items()}
    if subject.exports:
        said = compute_outputs(method.deployed_network(), rows, torch.arange(len(rows)))
        found |= {"prediction": said.prediction, "fused": said.fused}
    return found


def compare(one: Record, other: Record) -> tuple[float, str]:
    """The largest difference, and where it is."""
    assert one.keys() == other.keys()
    worst = (0.0, "")
    for name, value in one.items():
        apart = (value.double() - other[name].double()).abs()
        apart = apart.masked_fill(value.isnan() & other[name].isnan(), 0)
        assert value.shape == other[name].shape, name
        worst = max(worst, (float(apart.max()) if apart.numel() else 0.0, name))
    return worst


def main(names: list[str]) -> None:
    """Compare each METHOD:TASK[:BALANCE]."""
    with joined() as world:
        for name in names:
            method, task, kind = [*name.split(":"), "method"][:3]
            start = time.process_time()
            with alone():
                subject = subject_of(method, task)
                mine = train(subject.fresh(torch.float64), subject, BalanceConfig(kind))  # type: ignore[arg-type]
            made = time.process_time()
            together = train(subject.fresh(torch.float64), subject, BalanceConfig(kind))  # type: ignore[arg-type]
            apart, where = compare(mine, together)
            seconds = f"{made - start:.1f}+{time.process_time() - made:.1f} s"
            print(f"{name} process {world.rank} of {world.size}: {apart:.1e} ({where}), {len(mine)} values, {seconds}")
            assert apart <= BOUND, name


if __name__ == "__main__":
    main(sys.argv[1:])
