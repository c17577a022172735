"""What one training needs: a method, its rows, and its seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sidelight.config import TrainingConfig
from sidelight.data.batch import Batch
from sidelight.methods.base import Method

if TYPE_CHECKING:
    from sidelight.training.loop import History


class Callback(Protocol):
    """Observes a training: called with the method and the number of finished epochs, before the first and after each.

    Its state is part of the checkpoint.
    """

    def __call__(self, method: Method, epoch: int) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Observer = Callable[["History"], None]
"""Is told of the record of a training after each epoch. It has no state that a checkpoint would hold."""


@dataclass
class TrainingJob:
    """One training: `fit` explains the fields.

    Attributes:
        name: what checkpoints belong to, such as a job and stage.
        method: the method; its networks are trained in place.
        train: the training rows.
        select: the rows whose score chooses the epoch.
        seed: the seed of the order of rows and of dropout.
        teacher_fold: (training rows,) int64, the cross-fitted teacher of each row; None without cross-fitting.
        callback: called before the first epoch and after each.
        epoch_rows: the number of rows that gives the steps of an epoch; 0: that of `train`.
        scores: the score of each epoch, if inner trainings have chosen it: training ends after the first of the best
            scores, and `select` is not read.
        observer: called with the record of the training after each epoch; it must not change anything.
    """

    name: str
    method: Method
    train: Batch
    select: Batch
    seed: int
    teacher_fold: Tensor | None = None
    callback: Callback | None = None
    epoch_rows: int = 0
    scores: Sequence[float] = ()
    observer: Observer | None = None

    @property
    def rows_per_epoch(self) -> int:
        """The number of rows that gives the steps of an epoch."""
        return self.epoch_rows or len(self.train)

    def rows_to_draw(self) -> Tensor:
        """(N,) int64, the training rows that batches are drawn from."""
        if self.method.learns_from == "labelled":
            return self.train.labelled.nonzero()[:, 0]
        return torch.arange(len(self.train))

    def classes_to_draw(self, settings: TrainingConfig) -> Tensor | None:
        """(training rows,) int64, the class of each row or −1, by which batches are balanced; None if they are not.

        Stages whose losses read no labels (a T-Net's) draw every row alike.
        """
        if settings.batches == "shuffled" or not self.method.reads_labels:
            return None
        codes = self.method.task.class_codes(self.train.target)
        return None if codes is None else codes.where(self.train.labelled, -1)

    def train_batch(self) -> Batch:
        """The training rows without the inputs that the method does not read."""
        if self.method.reads is None:
            return self.train
        # `present` stays complete: losses ask which rows lack a modality.
        return replace(self.train.select_modalities(self.method.reads), present=self.train.present)


class Trained(NamedTuple):
    """A finished training: its record, the state of torch's random numbers after it, and its error if it has one."""

    history: History
    random: Tensor
    error: str = ""
