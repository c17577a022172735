"""What a task is: the loss, how a student matches a teacher's prediction, and what is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod

from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import RunError
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
        """What `metrics` and users read: class codes (B,) or (B, H, W), or values (B, K)."""

    def fitted(self, target: Tensor, labelled: Tensor) -> Task:
        """The task with what it learns from the labelled train rows (a regression's units); by default itself."""
        return self

    def express(self, prediction: Tensor) -> Tensor:
        """A network's prediction in the units of the target; logits as they are."""
        return prediction

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Name -> metric, the primary one first."""

    def measure(self, decided: NDArray, target: NDArray) -> dict[str, float]:
        """Every metric of what was decided on labelled rows, as it is usually written (not signed)."""
        return {name: metric.function(decided, target) for name, metric in self.metrics().items()}

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
