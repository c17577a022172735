"""The training loop: the state of a training run, and how one epoch changes it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sidelight.config import AugmentConfig, BalanceConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.data.prefetch import materialized_batches
from sidelight.errors import RunError
from sidelight.methods.base import Method, TrainState
from sidelight.training.loss_weighting import build_loss_weighting
from sidelight.training.optimizers import (
    build_optimizer,
    build_scheduler,
    map_parameters_to_parts,
    step_schedulers,
)
from sidelight.training.pace import count_epochs, set_pace
from sidelight.training.precision import Precision
from sidelight.training.random_state import get_random_states, seed_everything, set_random_states
from sidelight.utils.device import describe_device
from sidelight.utils.distributed import from_first
from sidelight.utils.phases import phase
from sidelight.video.crop import CropSampler

ADVICE = (
    "Lower training.learning_rate or the term's weight, and look for extreme values in the inputs with "
    "`sidelight inspect`."
)


@dataclass
class History:
    """The record of a training run.

    Attributes:
        epochs: one record per epoch: `epoch`, `select` (the score), the mean of every term and of what the method
            logs beside them, and `seconds`.
        best_epoch: the epoch with the best score, from 1; 0 before the first.
        best_score: its score on the select rows.
        seconds: the duration of the training; in a stack, the share of one model.
        stacked: the number of models that were trained at once.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    stacked: int = 1

    def add(self, epoch: int, score: float, means: Mapping[str, float], seconds: float) -> None:
        """Add the record of an epoch; it is the best epoch if no earlier one had its score.

        Raises:
            RunError: the score is NaN or infinite.
        """
        if not math.isfinite(score):
            raise RunError(f"the score on the select rows is {score} in epoch {epoch}; it cannot choose an epoch")
        self.epochs.append({"epoch": float(epoch), "select": score, **means, "seconds": seconds})
        # The first of equal scores stays, so that a plateau does not postpone the chosen epoch.
        if score > self.best_score:
            self.best_epoch, self.best_score = epoch, score


def is_finished(history: History, settings: TrainingConfig, scores: Sequence[float] = ()) -> bool:
    """Whether all epochs are done, or early stopping ends the training; with known scores, whether the best is done."""
    done = len(history.epochs)
    if scores:
        return done >= count_epochs(scores)
    return done >= settings.epochs or done - history.best_epoch >= settings.patience


def draw_batches(
    rows: Tensor,
    teacher_fold: Tensor | None,
    size: int,
    generator: torch.Generator,
    count: int | None = None,
    classes: Tensor | None = None,
) -> list[Tensor]:
    """Draw the batches of an epoch: shuffled rows in batches of nearly equal size, each inside one teacher fold.

    Every row occurs once. With `count` there are exactly that many batches, so that all methods take the same number of
    steps: few labelled rows are repeated; if teacher folds give more (smaller) batches, some are left out, others in
    each epoch.

    Args:
        rows: (N,) int64, the row numbers to draw from.
        teacher_fold: (largest row + 1 or more,) int64, the teacher fold of each row; None if batches may mix folds.
        size: the largest number of rows in a batch.
        generator: the source of randomness.
        count: the number of batches.
        classes: (largest row + 1 or more,) int64, the class of each row, −1 where it has no label. Batches then hold
            the classes in equal shares: of n labelled rows of C classes, n // C of each.

    Returns:
        Row numbers (B,) of each batch.
    """
    if count is not None:
        passes = math.ceil(count / math.ceil(len(rows) / size))
        repeated: list[Tensor] = []
        for _ in range(passes):
            repeated += draw_batches(rows, teacher_fold, size, generator, None, classes)
        return repeated[:count]
    if teacher_fold is None and classes is not None:
        number = math.ceil(len(rows) / size)
        by_class = draw_balanced(rows, classes, generator)
        # Every `number`-th row of those sorted by class: the counts of a class differ by 1 at most between batches.
        return [by_class[i::number] for i in range(number) if i < len(by_class)]
    if teacher_fold is None:
        order = rows[torch.randperm(len(rows), generator=generator)]
        return list(order.tensor_split(math.ceil(len(rows) / size)))
    batches: list[Tensor] = []
    for k in torch.unique(teacher_fold[rows]).tolist():
        batches += draw_batches(rows[teacher_fold[rows] == k], None, size, generator, None, classes)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def draw_balanced(rows: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw equally many labelled rows of every class, shuffled inside their class, and every unlabelled row once.

    Args:
        rows: (N,) int64, the row numbers to draw from.
        classes: (largest row + 1 or more,) int64, the class of each row, −1 where it has no label.
        generator: the source of randomness.

    Returns:
        Row numbers (N or fewer,), sorted by class.
    """
    found = torch.unique(classes[rows])
    present = found[found >= 0]
    each = int((classes[rows] >= 0).sum()) // max(1, len(present))
    drawn = []
    for c in found.tolist():
        own = rows[classes[rows] == c]
        wanted = each if c >= 0 else len(own)
        passes = [own[torch.randperm(len(own), generator=generator)] for _ in range(math.ceil(wanted / len(own)))]
        drawn.append(torch.cat(passes)[:wanted])
    return torch.cat(drawn)


class TrainingLoop:
    """The state of a training run between epochs.

    Args:
        method: the method; its networks are trained in place.
        settings: the optimisation budget.
        rows: the number of rows that gives the steps of an epoch.
        seed: the seed of the order of rows and of dropout.
        balance: the settings of the loss weighting.
        augment: how the views of rows that are files are drawn; the centre view by default.
        threads: the threads that decode files ahead of the step; by default as many as there are cores.
        device: where the method is.
        scores: the score of each epoch, if inner trainings have measured it.
    """

    def __init__(
        self,
        method: Method,
        settings: TrainingConfig,
        rows: int,
        seed: int,
        balance: BalanceConfig,
        augment: AugmentConfig | None,
        threads: int | None,
        device: torch.device,
        scores: Sequence[float] = (),
    ):
        self.method, self.settings, self.threads, self.device = method, settings, threads, device
        self.pace, self.scores = set_pace(settings, rows), scores
        self.precision = Precision(settings.precision, device)
        self.weighting = build_loss_weighting(method, balance, self.precision)
        self.crops = CropSampler(seed, augment.crop, augment.flip, augment.time) if augment else None

        # Dropout and the order of rows have separate streams, so that one does not depend on the other.
        seed_everything(seed)
        self.generator = torch.Generator().manual_seed((seed + 1) % 2**63)

        self.groups = {name: params for name, params in method.groups().items() if params}
        parts = map_parameters_to_parts(method) if settings.learning_rates else {}
        steps = settings.epochs * self.pace.steps
        self.optimizers, self.schedulers = {}, {}
        for name, params in self.groups.items():
            self.optimizers[name] = build_optimizer(params, settings, parts)
            scheduler = build_scheduler(self.optimizers[name], settings, steps)
            if scheduler is not None:
                self.schedulers[name] = scheduler

        self.history = History()
        self.best = copy_state(method.state_dict())
        self.step = 0

    def is_finished(self) -> bool:
        """Whether all epochs are done, or early stopping ends the training."""
        return is_finished(self.history, self.settings, self.scores)

    @phase("train: batches, networks, losses")
    def train_epoch(
        self,
        train: Batch,
        rows: Tensor,
        teacher_fold: Tensor | None,
        select: Batch,
        classes: Tensor | None = None,
    ) -> None:
        """Train one epoch, and keep the weights if their score is the best.

        Args:
            train: the training rows.
            rows: (N,) int64, the training rows that batches are drawn from.
            teacher_fold: (training rows,) int64, if each batch must lie in one teacher fold.
            select: the rows whose score chooses the epoch.
            classes: (training rows,) int64, if batches hold classes in equal shares.

        Raises:
            RunError: a term, a weight or the score became NaN or infinite.
        """
        number = len(self.history.epochs) + 1
        start = time.perf_counter()
        self.method.train()
        values: dict[str, list[Tensor]] = {}
        size, steps = self.pace.batch_size, self.pace.steps
        order = draw_batches(rows, teacher_fold, size, self.generator, steps, classes)
        train = replace(train, pieces=self.settings.accumulate)  # every batch of it is read in as many
        for batch in materialized_batches(train, order, self.crops, self.step, self.threads, self.device):
            state = TrainState(number - 1, self.settings.epochs, self.step)
            for group, terms in self.precision.steps(self.method, batch, state):
                self.update(group, terms, state)
                for term, value in terms.items():
                    values.setdefault(term, []).append(value.detach())
            for name, value in self.method.logged.items():
                values.setdefault(name, []).append(value.detach())
            # Schedules count batches, not steps of a group: all groups share one schedule.
            step_schedulers(self.schedulers)
            self.step += 1

        means = compute_means({term: torch.stack(v) for term, v in values.items()}, number, self.precision.advice)
        self.precision.check(number)
        check_weights(self.method, number)
        # From the first, so that all processes choose the same epoch.
        with phase("score epochs on select rows"):
            score = self.scores[number - 1] if self.scores else from_first(float(self.method.score(select)))
        self.history.add(number, score, means, time.perf_counter() - start)
        if self.history.best_epoch == number:
            self.best = copy_state(self.method.state_dict())

    def update(self, group: str, terms: Mapping[str, Tensor], state: TrainState) -> None:
        """Update one parameter group by the gradient of its weighted terms.

        Args:
            group: the parameter group.
            terms: name -> unweighted scalar.
            state: the position in training, on which warm-up depends.
        """
        loss = self.weighting.combine(terms, state)
        self.precision.update(loss, self.groups[group], self.optimizers[group])

    def state_dict(self) -> dict[str, object]:
        """Everything that the rest of the training depends on. Checkpoints hold it, so its keys stay as they are."""
        return {
            "method": self.method.state_dict(),
            "best": self.best,
            "optimisers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "schedules": {name: scheduler.state_dict() for name, scheduler in self.schedulers.items()},
            "device": describe_device(self.device),
            **get_random_states(self.device),
            "order": self.generator.get_state(),
            "step": self.step,
            "balance": self.weighting.state_dict(),
            "precision": self.precision.state_dict(),
            "history": dict(vars(self.history)),
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue from a `state_dict`."""
        self.method.load_state_dict(state["method"])
        self.best = state["best"]
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimisers"][name])
        for name, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state["schedules"][name])
        set_random_states(self.device, state)
        self.generator.set_state(state["order"])
        self.step = state["step"]
        self.weighting.load_state_dict(state["balance"])
        self.precision.load_state_dict(state.get("precision", {}))  # earlier versions stored none
        self.history = History(**state["history"])


def compute_means(series: Mapping[str, Tensor], epoch: int, advice: str = "") -> dict[str, float]:
    """The mean of every term over an epoch; `series` is term -> its values (steps,), `advice` the error's first.

    Raises:
        RunError: a term became NaN or infinite. It names the first such term; the others follow a step later.
    """
    means = {term: float(v.mean()) for term, v in series.items()}
    if all(map(math.isfinite, means.values())):
        return means

    first_bad: dict[str, int] = {}
    for term, v in series.items():
        bad = (~v.isfinite()).nonzero()[:, 0]
        if len(bad):
            first_bad[term] = int(bad[0])
    if first_bad:
        term = min(first_bad, key=lambda name: first_bad[name])
        value = float(series[term][first_bad[term]])
    else:  # every value is finite, but their sum is not
        term = next(name for name, mean in means.items() if not math.isfinite(mean))
        value = means[term]
    raise RunError(f"the loss term {term!r} became {value} in epoch {epoch}. {advice}{ADVICE}")


def check_weights(method: Method, epoch: int) -> None:
    """Check that the last step of an epoch left no NaN or infinity in a weight, which no term has shown yet."""
    if bool(torch.nn.utils.get_total_norm(method.parameters()).isfinite()):
        return  # as almost always: all weights are looked at together
    for name, value in method.named_parameters():
        if not bool(value.isfinite().all()):
            raise RunError(f"the weight {name!r} became NaN or infinite in epoch {epoch}. {ADVICE}")


def copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state that later steps do not change."""
    return {name: value.detach().clone() for name, value in state.items()}
