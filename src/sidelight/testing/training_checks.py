"""Checks that train: a resumed run equals an uninterrupted one, and training makes the student better."""

from __future__ import annotations

import contextlib
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods.base import Method, TrainState
from sidelight.networks.network import compute_outputs
from sidelight.testing.driving import weighed
from sidelight.testing.subject import Subject, require
from sidelight.training import fit


def check_resume_is_exact(subject: Subject) -> None:
    """3 epochs at once, and 1 then 2 through a checkpoint into a fresh object, give the same bits (invariant 6)."""
    settings = TrainingConfig(epochs=3, patience=3, batch_size=max(2, len(subject.rows) // 3), least_steps=1)
    whole, resumed = subject.fresh(), subject.fresh()
    history = fit(whole, subject.rows, subject.rows, settings, seed=1, teacher_fold=subject.teacher_fold)
    with TemporaryDirectory() as place:
        path = Path(place) / "state.pt"
        with contextlib.suppress(_Killed):
            fit(
                subject.fresh(), subject.rows, subject.rows, settings,
                seed=1, teacher_fold=subject.teacher_fold, checkpoint=path, checkpoint_seconds=0, callback=_KillIn(2),
            )  # fmt: skip
        torch.manual_seed(999)
        again = fit(
            resumed, subject.rows, subject.rows, settings,
            seed=1, teacher_fold=subject.teacher_fold, checkpoint=path, callback=_KillIn(None),
        )  # fmt: skip
    nothing: dict[str, float] = {}
    for one, two in zip_longest(history.epochs, again.epochs, fillvalue=nothing):
        for name in sorted((one.keys() | two.keys()) - {"seconds"}):
            same = one.get(name) == two.get(name)
            require(same, f"after a resume {name!r} of epoch {one.get('epoch')} differs from an uninterrupted run")
    first, second = whole.state_dict(), resumed.state_dict()
    differ = [name for name in first if not torch.equal(first[name], second[name])]
    require(not differ, f"after a resume {differ[:3]} differ from an uninterrupted run")


class _Killed(Exception):
    pass


class _KillIn:
    """A callback that stops training in the middle of the given epoch's bookkeeping, before its checkpoint."""

    def __init__(self, epoch: int | None):
        self.epoch = epoch

    def __call__(self, method: Method, epoch: int) -> None:
        if epoch == self.epoch:
            raise _Killed

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def check_learns(subject: Subject) -> None:
    """Thirty steps on one batch lower the weighted loss of the last group that steps, and the task is done better.

    The second half sees a sign that is wrong, which the loss itself cannot: the exported network's task loss on the
    batch falls, or where nothing is exported the method's score rises. What a method remembers outside that
    network (memory banks) stands still after the first step: against a bank that moves along, a loss may well rise.
    """
    method = subject.fresh()
    batch = subject.used(method)
    optimisers = {
        name: torch.optim.Adam(params, 3e-3, fused=True) for name, params in method.groups().items() if params
    }
    losses: list[float] = []
    own = {id(x) for x in method.deployed_network().buffers()} if subject.exports else set()
    memory = [x for x in method.buffers() if id(x) not in own]
    remembered: list[Tensor] = []
    before = _skill(method, batch, subject)
    for number in range(30):
        method.train()
        for step in method.steps(batch, TrainState(step=number)):
            loss = weighed(method, step)
            params = method.groups()[step.group]
            for p, g in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
                p.grad = g
            optimisers[step.group].step()
        losses.append(float(loss.detach()))
        remembered = remembered or [x.clone() for x in memory]
        for x, old in zip(memory, remembered):
            x.copy_(old)
    early, late = sum(losses[:3]) / 3, sum(losses[-3:]) / 3
    require(late < early, f"thirty steps on one batch took the loss from {early:.4f} to {late:.4f}")
    after = _skill(method, batch, subject)
    require(after > before, f"thirty steps on one batch took the score from {before:.4f} to {after:.4f}")


def _skill(method: Method, batch: Batch, subject: Subject) -> float:
    """Higher is better: minus the task loss of the exported network, or the method's own score where there is none."""
    if not subject.exports:
        return float(method.score(batch))
    said = compute_outputs(method.deployed_network(), batch, torch.arange(len(batch)))
    return -float(method.task.loss(said.prediction, batch.target, batch.labelled))
