"""The base class of tasks: the loss, the distance between student and teacher, and the metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor

from sidelight.errors import RunError
from sidelight.metrics import Metric

if TYPE_CHECKING:
    from sidelight.networks.network import Output
    from sidelight.recordings.label_maps import LabelMaps


TOO_FEW_ROWS = "Ask for fewer folds, or another share of select rows (select=…)."
"""The fix where a fold's rows are too few to measure."""


def select_labelled(target: Tensor | LabelMaps, labelled: Tensor) -> Any:
    """The labelled rows of a `Batch.truth` for the metrics: an array, or label maps that are still files."""
    return target[labelled].cpu().numpy() if isinstance(target, Tensor) else target[labelled.cpu().numpy()]


class Task(ABC):
    """A kind of prediction. `outputs` is the width of the head; `primary` the metric that selects epochs.

    A task is a value: `fit` and `calibrate` return new tasks. The arguments that recur: `prediction` is a network's
    output, (B, C) logits or (B, K) values, `target` the (B,), (B, K) or (B, H, W) targets, and `labelled` a mask (B,).
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    """The type of the targets, a `Dataset.task`. A method that suits one task of a kind suits the others."""
    answers: ClassVar[str]
    """The answer for a row: a "class" of `class_names`, "values", "pixels" (a class for each) or an "embedding"."""
    exports: ClassVar[str] = "prediction"
    """The name of the answer in an exported graph; classes have probabilities and logits instead."""
    settings: ClassVar[tuple[str, ...]] = ()
    """The experiment's settings that are its arguments, by their names in `Config`."""
    stackable: ClassVar[bool] = False
    """Whether `loss` and `teacher_confidence` run under `torch.vmap`: no branch depends on the value of a tensor."""
    primary: str
    """The metric that is compared and selects epochs: the class's own, unless the experiment names another."""
    metric_note: str = ""
    """Why `metric: auto` chose another metric than the class's own."""
    outputs: int
    class_names: tuple[str, ...]

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """The loss over the labelled rows.

        Args:
            prediction: (B, C) logits, (B, K) values, or (B, C, H, W) logits.
            target: (B,) class codes, (B, K) values, or (B, H, W) class codes.
            labelled: (B,) bool.

        Returns:
            A scalar, exactly 0 (with a gradient of 0) where no row is labelled.
        """

    @abstractmethod
    def match(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The distance of the student's prediction from the teacher's: a scalar, without gradient to the teacher."""

    @abstractmethod
    def class_codes(self, target: Tensor) -> Tensor | None:
        """(B,) int64 class codes, for methods that compare rows of one class; None where the targets are no classes."""

    @abstractmethod
    def teacher_confidence(self, teacher: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        """How far the teacher's prediction of each row can be trusted (Aslam et al. 2023).

        Args:
            teacher: the teacher's prediction, shaped as in `loss`.
            target: targets, shaped as in `loss`.
            labelled: (B,) bool.

        Returns:
            (B,) in [0, 1].
        """

    @abstractmethod
    def decide(self, prediction: Tensor) -> NDArray:
        """The answers as users read them: class codes (B,) or (B, H, W), values (B, K), or embeddings (B, F)."""

    def fit(self, target: Tensor, labelled: Tensor) -> Task:
        """A task that has learned from the labelled train rows (a regression its units); by default the task itself."""
        return self

    def answer(self, output: Output) -> Tensor:
        """The part of a network's output that is scored, stored and deployed; by default its prediction."""
        return output.prediction

    def compact_answer(self, output: Output) -> Tensor:
        """The answer in the form that is stored until it is measured; by default `answer` itself.

        Where answers are large, this is the result of `decide`, which `decide` then leaves as it is.
        """
        return self.answer(output)

    def explain_unmeasurable(self, target: NDArray) -> str:
        """Why nothing can be measured on labelled rows with these targets, and the fix; "" where it can."""
        return ""

    def calibrate(self, answer: Tensor, target: Tensor, labelled: Tensor) -> Task:
        """A task that has chosen a threshold on the select rows once training is done; by default the task itself.

        Args:
            answer: the answers for the select rows.
            target: their targets.
            labelled: (B,) bool.

        Returns:
            The calibrated task.
        """
        return self

    def get_params(self) -> dict[str, Any]:
        """The arguments beside `class_names` that make the task again, as JSON can store them."""
        return {}

    def to_target_units(self, prediction: Tensor) -> Tensor:
        """A network's prediction in the units of the target; logits as they are."""
        return prediction

    def metric_input(self, answer: Tensor) -> NDArray:
        """The input of the metrics for some answers: by default the decisions."""
        return self.decide(answer)

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Name -> metric."""

    def measure(self, read: NDArray, target: NDArray) -> dict[str, float]:
        """Every metric of labelled rows, as it is usually written (not signed); `read` is from `metric_input`."""
        return {name: metric.function(read, target) for name, metric in self.metrics().items()}

    def score(self, answer: Tensor, target: Tensor | LabelMaps, labelled: Tensor, name: str | None = None) -> float:
        """One metric over the labelled rows, signed so that higher is better.

        Args:
            answer: the answers (B, …).
            target: a `Batch.truth` of the same rows.
            labelled: (B,) bool.
            name: the metric; the primary one by default.

        Returns:
            The metric.

        Raises:
            RunError: No row is labelled.
        """
        if not labelled.any():
            raise RunError("no labelled row to measure a prediction on; choosing epochs needs labelled `select` rows")
        metric = self.metrics()[name or self.primary]
        value = metric.function(self.metric_input(answer[labelled]), select_labelled(target, labelled))
        return value if metric.higher_is_better else -value
