"""One of C classes."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.losses.pointwise import soft_label_kl
from sidelight.metrics import Metric
from sidelight.tasks.base import Task
from sidelight.utils.precision import full_precision


class Classification(Task):
    """Cross-entropy over C classes (PKDOT eq. 8); `match` is the KL divergence of softened logits.

    With `balanced`, `fit` gives class c the weight w_c = n / (C n_c), where n_c of the n labelled train rows are of c
    and C classes occur, and the loss is Σ w_y ℓ / Σ w_y over the labelled rows.
    """

    name, primary = "classification", "accuracy"
    kind, answers = "classification", "class"
    stackable = True
    balanced = False
    """Whether `fit` weighs classes; the experiment's `training.class_weights` sets it."""
    class_weights: Tensor | None = None
    """(C,) float32, the weights of the classes in the loss."""

    def __init__(self, class_names: tuple[str, ...], temperature: float = 4.0):
        self.class_names, self.outputs, self.temperature = tuple(class_names), len(class_names), temperature

    def fit(self, target: Tensor, labelled: Tensor) -> Task:
        """With `balanced`, the same task with the weights of these rows' classes."""
        if not self.balanced:
            return self
        counts = torch.bincount(target[labelled].cpu(), minlength=self.outputs).double()
        fitted = copy.copy(self)
        # A class without a row has no loss: its weight is never read.
        fitted.class_weights = (counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))).float()
        return fitted

    @full_precision
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        # Unlabelled rows get class 0 for the moment: their code may be no class, and their loss is dropped below.
        losses = F.cross_entropy(prediction, target.where(labelled, 0), reduction="none")
        if self.class_weights is None:
            return (losses * labelled).sum() / labelled.sum().clamp(min=1)
        weights = self.class_weights.to(losses)[target.where(labelled, 0)] * labelled
        total = weights.sum()
        return (losses * weights).sum() / total.where(total > 0, 1.0)

    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_label_kl(student, teacher, self.temperature)

    def class_codes(self, target: Tensor) -> Tensor:
        return target

    @full_precision
    def teacher_confidence(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """The probability of the true class where it is known, else of the teacher's own choice.

        Args:
            teacher: (B, C) logits.
            target: (B,) class codes.
            labelled: (B,) bool.

        Returns:
            (B,) in [0, 1].
        """
        p = teacher.detach().softmax(-1)
        true = p.gather(1, target.where(labelled, 0)[:, None])[:, 0]
        return true.where(labelled, p.amax(-1))

    def decide(self, prediction: Tensor) -> NDArray:
        return np.asarray(prediction.detach().argmax(-1).cpu())

    def metrics(self) -> dict[str, Metric]:
        return metrics.CLASSIFICATION
