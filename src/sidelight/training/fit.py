"""The only training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sidelight.config import AugmentConfig, BalanceConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import RunError
from sidelight.methods.base import Method, TrainState
from sidelight.training.checkpoint import load_checkpoint, save_checkpoint
from sidelight.training.loss_weighting import make_balance
from sidelight.training.optimisers import advance, make_optimiser, make_schedule, parts_of
from sidelight.video.crop import CropSampler

CALM = (
    "Lower training.learning_rate or the term's weight, and look for extreme values in the inputs with "
    "`sidelight inspect`."
)


class Callback(Protocol):
    """Looks on: called with the method and the number of finished epochs, before the first and after each.

    What it has gathered is part of the checkpoint.
    """

    def __call__(self, method: Method, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class History:
    """What happened: one record per epoch (`epoch`, `select`, every term's mean, `seconds`), and the chosen epoch."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0


def batches(
    rows: Tensor, teacher_fold: Tensor | None, size: int, generator: torch.Generator, count: int | None = None
) -> list[Tensor]:
    """Row numbers of an epoch's batches, shuffled, of nearly equal size and each inside one teacher fold.

    rows: (N,) int64. teacher_fold: (≥ max row + 1,) or None. Every row occurs once. With `count` there are just so many
    batches, so that all methods take the same number of steps: few labelled rows are gone through again, and where
    parts make more (smaller) batches, some are left out, others in each epoch.
    """
    if count is not None:
        passes = [
            batches(rows, teacher_fold, size, generator) for _ in range(math.ceil(count / math.ceil(len(rows) / size)))
        ]
        return [batch for epoch in passes for batch in epoch][:count]
    if teacher_fold is None:
        order = rows[torch.randperm(len(rows), generator=generator)]
        return list(order.tensor_split(math.ceil(len(rows) / size)))
    chunks: list[Tensor] = []
    for p in torch.unique(teacher_fold[rows]).tolist():
        chunks += batches(rows[teacher_fold[rows] == p], None, size, generator)
    return [chunks[i] for i in torch.randperm(len(chunks), generator=generator).tolist()]


def fit(
    method: Method,
    train: Batch,
    select: Batch,
    settings: TrainingConfig,
    *,
    seed: int,
    balance: BalanceConfig | None = None,
    teacher_fold: Tensor | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    identity: str = "",
    callback: Callback | None = None,
    augment: AugmentConfig | None = None,
    threads: int | None = None,
) -> History:
    """Train a method and leave it at the epoch with the best score on `select`.

    The loop asks the method for a step, weighs its terms, takes the gradient with respect to that step's group alone,
    updates the group, and resumes the method. With `checkpoint`, everything that the rest of the run depends on is
    saved atomically at ends of epochs, and a file that is there is continued: the result is the same to the bit.

    Args:
        method: what is trained; moved in place.
        train, select: rows that teach and rows that choose the epoch.
        settings: the optimisation budget.
        seed: of the order of rows and of dropout.
        balance: how terms are weighed against one another; by default as the method does.
        teacher_fold: (len(train),) int64, the cross-fitted teacher of each row; a batch has rows of one where the
            method asks.
        identity: what the checkpoint must have been written for.
        augment: how the views of rows that are files are drawn; the centre by default. A row's view depends on the
            seed, the step and the row alone.
        threads: that decode files ahead of the step; by default as many as there are cores. The result is the same.

    Raises:
        DataError: a file that cannot be decoded, with its row.
        RunError: a term became NaN or infinite (named, with its epoch), no row to learn from, or a foreign checkpoint.
    """
    loop = _Loop(method, settings, len(train), seed, balance or BalanceConfig(), augment, threads)
    rows = train.labelled.nonzero()[:, 0] if method.learns_from == "labelled" else torch.arange(len(train))
    if len(rows) == 0:
        raise RunError("no labelled training row to learn from")
    teacher_fold = teacher_fold if method.within_teacher_folds else None
    if method.reads is not None:  # what is not read is not copied; which rows lack a modality stays known
        train = replace(train.select_modalities(method.reads), present=train.present)
    start = time.perf_counter()
    if checkpoint is not None and checkpoint.exists():
        state = load_checkpoint(checkpoint, identity)
        try:
            loop.load_state(state)
            if callback:
                callback.load_state_dict(state["watch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{checkpoint} does not hold the state of this method: {error}. Delete it to train this job from its "
                "beginning."
            ) from error
    elif callback:
        callback(method, 0)
    saved = start
    before = loop.history.seconds
    while not loop.finished():
        loop.epoch(train, rows, teacher_fold, select)
        loop.history.seconds = before + time.perf_counter() - start
        if callback:
            callback(method, len(loop.history.epochs))
        if checkpoint is not None and time.perf_counter() - saved >= checkpoint_seconds:
            save_checkpoint(checkpoint, loop.state() | {"watch": callback.state_dict() if callback else {}}, identity)
            saved = time.perf_counter()
    method.load_state_dict(loop.best)
    method.eval()
    return loop.history


class _Loop:
    """The state of a training run between epochs."""

    def __init__(
        self,
        method: Method,
        settings: TrainingConfig,
        rows: int,
        seed: int,
        balance: BalanceConfig,
        augment: AugmentConfig | None,
        threads: int | None,
    ):
        self.crops = CropSampler(seed, augment.crop, augment.flip, augment.time) if augment else None
        self.threads = threads
        self.method, self.settings, self.balance = method, settings, make_balance(method, balance)
        torch.manual_seed(seed)  # dropout
        self.generator = torch.Generator().manual_seed((seed + 1) % 2**63)  # another stream for the order of rows
        self.groups = {name: params for name, params in method.groups().items() if params}
        parts = parts_of(method) if settings.learning_rates else {}
        self.optimisers = {name: make_optimiser(params, settings, parts) for name, params in self.groups.items()}
        total = settings.epochs * math.ceil(rows / settings.batch_size)
        moving = {name: make_schedule(o, settings, total) for name, o in self.optimisers.items()}
        self.schedules = {name: schedule for name, schedule in moving.items() if schedule is not None}
        self.history = History()
        self.best = _copy(method.state_dict())
        self.step = 0

    def finished(self) -> bool:
        done = len(self.history.epochs)
        return done >= self.settings.epochs or done - self.history.best_epoch >= self.settings.patience

    def epoch(self, train: Batch, rows: Tensor, teacher_fold: Tensor | None, select: Batch) -> None:
        number = len(self.history.epochs) + 1
        start = time.perf_counter()
        self.method.train()
        values: dict[str, list[Tensor]] = {}
        size = self.settings.batch_size
        order = batches(rows, teacher_fold, size, self.generator, math.ceil(len(train) / size))
        for batch in materialized_batches(train, order, self.crops, self.step, self.threads):
            clock = TrainState(number - 1, self.settings.epochs, self.step)
            for name, terms in self.method.steps(batch, clock):
                self._move(name, terms, clock)
                for term, value in terms.items():
                    values.setdefault(term, []).append(value.detach())
            advance(self.schedules)
            self.step += 1
        means = _means(values, number)
        _check_weights(self.method, number)
        score = float(self.method.score(select))
        if not math.isfinite(score):
            raise RunError(f"the score on the select rows is {score} in epoch {number}; it cannot choose an epoch")
        record = {"epoch": float(number), "select": score, **means, "seconds": time.perf_counter() - start}
        self.history.epochs.append(record)
        if score > self.history.best_score:
            self.history.best_epoch, self.history.best_score = number, score
            self.best = _copy(self.method.state_dict())

    def _move(self, group: str, terms: Mapping[str, Tensor], clock: TrainState) -> None:
        loss = self.balance.loss(terms, clock)
        params = self.groups[group]
        for p, g in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
            p.grad = g
        self.optimisers[group].step()
        self.optimisers[group].zero_grad(set_to_none=True)

    def state(self) -> dict[str, object]:
        return {
            "method": self.method.state_dict(),
            "best": self.best,
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "schedules": {name: schedule.state_dict() for name, schedule in self.schedules.items()},
            "random": torch.get_rng_state(),
            "order": self.generator.get_state(),
            "step": self.step,
            "balance": self.balance.state_dict(),
            "history": dict(vars(self.history)),
        }

    def load_state(self, state: dict) -> None:
        self.method.load_state_dict(state["method"])
        self.best = state["best"]
        for name, o in self.optimisers.items():
            o.load_state_dict(state["optimisers"][name])
        for name, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][name])
        torch.set_rng_state(state["random"])
        self.generator.set_state(state["order"])
        self.step = state["step"]
        self.balance.load_state_dict(state["balance"])
        self.history = History(**state["history"])


def _means(values: Mapping[str, list[Tensor]], epoch: int) -> dict[str, float]:
    """Every term's mean over the epoch.

    Raises:
        RunError: the term that was the first to leave the finite numbers (the others follow it a step later).
    """
    series = {term: torch.stack(v) for term, v in values.items()}
    means = {term: float(v.mean()) for term, v in series.items()}
    if all(map(math.isfinite, means.values())):
        return means
    bad = {term: (~v.isfinite()).nonzero()[:, 0].tolist() for term, v in series.items()}
    term = min((t for t in bad if bad[t]), key=lambda t: bad[t][0], default=next(iter(means)))
    value = float(series[term][bad[term][0]]) if bad[term] else means[term]
    raise RunError(f"the loss term {term!r} became {value} in epoch {epoch}. {CALM}")


def _check_weights(method: Method, epoch: int) -> None:
    """Raises RunError where the last step of an epoch left NaN or infinity in a weight, which no term has shown yet."""
    for name, value in method.named_parameters():
        if not bool(value.isfinite().all()):
            raise RunError(f"the weight {name!r} became NaN or infinite in epoch {epoch}. {CALM}")


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
