"""What is predicted: the loss, how a student matches a teacher's prediction, and what is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

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

    def fitted(self, target: Tensor, labelled: Tensor) -> Task:
        """The task with what it learns from the labelled train rows (a regression's units); by default itself."""
        return self

    def express(self, prediction: Tensor) -> Tensor:
        """A network's prediction in the units of the target; logits as they are."""
        return prediction

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
    """1 − CCC averaged over K targets (PKDOT eq. 7); NaN targets are masked; match is the mean squared error.

    Networks predict in units of the targets' spread: target = mean + scale · prediction, so that a head starts near its
    target whatever its units. Targets are given, and decisions returned, as they are.
    """

    name, primary = "regression", "ccc"

    def __init__(self, labels: tuple[str, ...], mean: Sequence[float] = (), scale: Sequence[float] = ()):
        self.labels, self.outputs = tuple(labels), len(labels)
        self.mean, self.scale = tuple(mean) or (0.0,) * len(labels), tuple(scale) or (1.0,) * len(labels)
        self._mean, self._scale = torch.tensor(self.mean), torch.tensor(self.scale)

    def fitted(self, target: Tensor, labelled: Tensor) -> Regression:
        """The same task in units of these rows' mean and standard deviation (1 for a constant target)."""
        known = [column[column.isfinite()].double() for column in target[labelled].T]
        mean = [float(c.mean()) if len(c) else 0.0 for c in known]
        spread = [float(c.std(correction=0)) if len(c) else 1.0 for c in known]
        return Regression(self.labels, mean, [s if s > 1e-12 * max(1.0, abs(m)) else 1.0 for s, m in zip(spread, mean)])

    def express(self, prediction: Tensor) -> Tensor:
        return prediction * self._scale.to(prediction) + self._mean.to(prediction)

    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        target = (target - self._mean.to(target)) / self._scale.to(target)
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
        return np.asarray(self.express(prediction.detach().cpu().double()))

    def metrics(self) -> dict[str, Metric]:
        return metrics.REGRESSION


TASKS: dict[str, type[Classification] | type[Regression]] = {
    "classification": Classification,
    "regression": Regression,
}


def make_task(name: str, labels: tuple[str, ...], **learnt: Any) -> Task:
    """The task of that name; `labels` are class names or target names, `learnt` what `describe_task` said."""
    if name not in TASKS:
        raise ConfigError(unknown("task", name, TASKS))
    return TASKS[name](labels, **learnt)


def describe_task(task: Task) -> dict[str, Any]:
    """What `make_task` needs to make the task again, as JSON can hold it."""
    told: dict[str, Any] = {"name": task.name, "labels": task.labels}
    return told | {"mean": task.mean, "scale": task.scale} if isinstance(task, Regression) else told
