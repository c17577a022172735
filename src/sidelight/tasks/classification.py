"""One of C classes."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.losses.pointwise import soft_label_kl
from sidelight.metrics import Metric
from sidelight.tasks.base import Task
from sidelight.utils.precision import full_precision


class Classification(Task):
    """Cross-entropy over C classes (PKDOT eq. 8); `match` is the KL divergence of softened logits."""

    name, primary = "classification", "accuracy"
    kind, answers = "classification", "class"
    stackable = True

    def __init__(self, class_names: tuple[str, ...], temperature: float = 4.0):
        self.class_names, self.outputs, self.temperature = tuple(class_names), len(class_names), temperature

    @full_precision
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        # Unlabelled rows get class 0 for the moment: their code may be no class, and their loss is dropped below.
        losses = F.cross_entropy(prediction, target.where(labelled, 0), reduction="none")
        return (losses * labelled).sum() / labelled.sum().clamp(min=1)

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
