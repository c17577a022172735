"""What is predicted: the loss, how a student matches a teacher's prediction, and what is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.errors import ConfigError, RunError, unknown
from sidelight.losses.pointwise import soft_label_kl
from sidelight.metrics import Metric


class Task(ABC):
    """A kind of prediction. `outputs` is the width of the head; `primary` the metric that selects epochs."""

    name: str
    primary: str
    outputs: int
    labels: tuple[str, ...]

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """Scalar over the labelled rows; exactly 0 (with a gradient of 0) when there is none."""

    @abstractmethod
    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Scalar: how far the student's prediction is from the teacher's (teacher without gradient)."""

    @abstractmethod
    def groups(self, target: Tensor) -> Tensor | None:
        """(B,) int64 that says which rows are of the same class; None where that has no meaning."""

    @abstractmethod
    def trust(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """(B,) in [0, 1]: how far the teacher's prediction of each row can be believed (Aslam et al. 2023)."""

    @abstractmethod
    def decide(self, prediction: Tensor) -> NDArray:
        """What `metrics` and users read: class codes (B,) or values (B, K)."""

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Name -> metric, the primary one first."""

    def score(self, prediction: Tensor, target: Tensor, labelled: Tensor, name: str | None = None) -> float:
        """One metric (the primary by default) over the labelled rows, signed so that higher is better.

        Raises:
            RunError: no row is labelled.
        """
        if not labelled.any():
            raise RunError("no labelled row to measure a prediction on; epochs are chosen on labelled `select` rows")
        metric = self.metrics()[name or self.primary]
        value = metric.function(self.decide(prediction[labelled]), target[labelled].cpu().numpy())
        return value if metric.higher_is_better else -value


class Classification(Task):
    """Cross-entropy over C classes (PKDOT eq. 8); match is KL of softened logits."""

    name, primary = "classification", "accuracy"

    def __init__(self, labels: tuple[str, ...], temperature: float = 4.0):
        self.labels, self.outputs, self.temperature = tuple(labels), len(labels), temperature

    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        losses = F.cross_entropy(prediction, target.where(labelled, 0), reduction="none")
        return (losses * labelled).sum() / labelled.sum().clamp(min=1)

    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_label_kl(student, teacher, self.temperature)

    def groups(self, target: Tensor) -> Tensor:
        return target

    def trust(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """Probability of the true class where it is known, else of the teacher's own choice."""
        p = teacher.detach().softmax(-1)
        true = p.gather(1, target.where(labelled, 0)[:, None])[:, 0]
        return true.where(labelled, p.amax(-1))

    def decide(self, prediction: Tensor) -> NDArray:
        return np.asarray(prediction.detach().argmax(-1).cpu())

    def metrics(self) -> dict[str, Metric]:
        return metrics.CLASSIFICATION


class Regression(Task):
    """1 − CCC averaged over K targets (PKDOT eq. 7); NaN targets are masked; match is the mean squared error."""

    name, primary = "regression", "ccc"

    def __init__(self, labels: tuple[str, ...]):
        self.labels, self.outputs = tuple(labels), len(labels)

    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        if torch.isfinite(target[labelled]).all():
            used = labelled if int(labelled.sum()) > 1 else labelled & False
            return (1 - metrics.concordance(prediction[used], target[used])).mean() * bool(used.any())
        columns = []
        for k in range(self.outputs):
            used = labelled & torch.isfinite(target[:, k])
            if int(used.sum()) > 1:
                columns.append(1 - metrics.concordance(prediction[used, k : k + 1], target[used, k : k + 1])[0])
        return torch.stack(columns).mean() if columns else prediction.sum() * 0

    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(student, teacher.detach())

    def groups(self, target: Tensor) -> None:
        return None

    def trust(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """1 − the teacher's own loss on the batch's labelled rows, clamped to [0, 1]; 1 where none is labelled."""
        own = self.loss(teacher.detach(), target, labelled)
        return (1 - own).clamp(0, 1).expand(len(teacher))

    def decide(self, prediction: Tensor) -> NDArray:
        return np.asarray(prediction.detach().cpu(), dtype=np.float64)

    def metrics(self) -> dict[str, Metric]:
        return metrics.REGRESSION


TASKS: dict[str, type[Classification] | type[Regression]] = {
    "classification": Classification,
    "regression": Regression,
}


def make_task(name: str, labels: tuple[str, ...]) -> Task:
    """The task of that name; `labels` are class names or target names."""
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    return TASKS[name](labels)
