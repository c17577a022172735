"""Values of K targets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sidelight import metrics
from sidelight.data.scaling import is_constant
from sidelight.metrics import Metric
from sidelight.tasks.base import Task
from sidelight.utils.precision import full_precision
from sidelight.utils.stacking import is_stacked


class Regression(Task):
    """1 − CCC averaged over K targets (PKDOT eq. 7); NaN targets are masked; `match` is the mean squared error.

    Networks predict in units of the targets' spread: target = mean + scale · prediction, so that a head starts near its
    target whatever its units. Targets and decisions are in the original units.
    """

    name, primary = "regression", "ccc"
    kind, answers = "regression", "values"
    stackable = True

    def __init__(self, class_names: tuple[str, ...], mean: Sequence[float] = (), scale: Sequence[float] = ()):
        self.class_names, self.outputs = tuple(class_names), len(class_names)
        self.mean, self.scale = tuple(mean) or (0.0,) * len(class_names), tuple(scale) or (1.0,) * len(class_names)
        self._mean, self._scale = torch.tensor(self.mean), torch.tensor(self.scale)

    def fit(self, target: Tensor, labelled: Tensor) -> Regression:
        """The same task in units of these rows' mean and standard deviation (1 for a constant target)."""
        known = [column[column.isfinite()].double() for column in target[labelled].T]
        mean = [float(c.mean()) if len(c) else 0.0 for c in known]
        spread = [float(c.std(correction=0)) if len(c) else 0.0 for c in known]
        constant = is_constant(
            torch.tensor(spread, dtype=torch.float64), torch.tensor(mean, dtype=torch.float64).abs()
        ).tolist()
        fitted = Regression(self.class_names, mean, [1.0 if same else s for s, same in zip(spread, constant)])
        if self.primary != fitted.primary:
            fitted.primary = self.primary
        return fitted

    def get_params(self) -> dict[str, Any]:
        return {"mean": self.mean, "scale": self.scale}

    def to_target_units(self, prediction: Tensor) -> Tensor:
        return prediction * self._scale.to(prediction) + self._mean.to(prediction)

    @full_precision
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        target = (target - self._mean.to(target)) / self._scale.to(target)
        if is_stacked():
            return self._masked_loss(prediction, target, labelled)
        # Without missing values all targets share one pass; one row has no concordance.
        if torch.isfinite(target[labelled]).all():
            used = labelled if int(labelled.sum()) > 1 else labelled & False
            return (1 - metrics.concordance(prediction[used], target[used])).mean() * bool(used.any())
        # A missing value leaves its row out of that target alone.
        columns = []
        for k in range(self.outputs):
            used = labelled & torch.isfinite(target[:, k])
            if int(used.sum()) > 1:
                columns.append(1 - metrics.concordance(prediction[used, k : k + 1], target[used, k : k + 1])[0])
        return torch.stack(columns).mean() if columns else prediction.sum() * 0

    def _masked_loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """`loss` without a branch on values: every row is computed, and counts where it has a target."""
        used = labelled[:, None] & target.isfinite()
        count, target = used.sum(0), target.where(used, 0.0)
        first = used.int().argmax(0, keepdim=True)  # values are counted from it, as in `metrics.concordance`
        first_p, first_t = prediction.detach().gather(0, first), target.gather(0, first)
        n = count.clamp(min=1)
        p, t = (prediction - first_p) * used, (target - first_t) * used
        mean_p, mean_t = p.sum(0) / n, t.sum(0) / n
        cp, ct = (p - mean_p) * used, (t - mean_t) * used
        apart = mean_p - mean_t + (first_p - first_t)[0]
        denominator = (cp.square().sum(0) + ct.square().sum(0)) / n + apart.square()
        safe = denominator > torch.finfo(denominator.dtype).tiny
        agreement = 2 * (cp * ct).sum(0) / n / denominator.where(safe, 1.0) * safe
        scored = count > 1  # one row has no concordance
        return ((1 - agreement) * scored).sum() / scored.sum().clamp(min=1)

    @full_precision
    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.mse_loss(student, teacher.detach())

    def class_codes(self, target: Tensor) -> None:
        return None

    def teacher_confidence(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """1 − the teacher's own loss on the batch's labelled rows, clamped to [0, 1]; 1 where none is labelled.

        Args:
            teacher: (B, K) predictions.
            target: (B, K) values, NaN where one is missing.
            labelled: (B,) bool.

        Returns:
            (B,) in [0, 1], the same for all rows.
        """
        own = self.loss(teacher.detach(), target, labelled)
        return (1 - own).clamp(0, 1).expand(len(teacher))

    def decide(self, prediction: Tensor) -> NDArray:
        return np.asarray(self.to_target_units(prediction.detach().cpu().double()))

    def metrics(self) -> dict[str, Metric]:
        if self.outputs == 1:
            return metrics.REGRESSION
        each = {f"ccc_{name}": Metric(partial(metrics.column_ccc, column=k)) for k, name in enumerate(self.class_names)}
        return metrics.REGRESSION | each
