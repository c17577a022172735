"""What a task is: the loss, how a student matches a teacher's prediction, and what is measured."""

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


MEND = "Ask for fewer folds, or another share of select rows (select=…)."
"""What to do where a fold's rows are too few to measure."""


def labelled_of(target: Tensor | LabelMaps, labelled: Tensor) -> Any:
    """The labelled rows of a `Batch.truth` as metrics read them: an array, or label maps that are still files."""
    return target[labelled].cpu().numpy() if isinstance(target, Tensor) else target[labelled.cpu().numpy()]


class Task(ABC):
    """A kind of prediction. `outputs` is the width of the head; `primary` the metric that selects epochs."""

    name: ClassVar[str]
    kind: ClassVar[str]
    """What the targets are: a `Dataset.task`. Methods ask for it: what suits one task of a kind suits the others."""
    answers: ClassVar[str]
    """What a row is answered with: a "class" of `class_names`, "values", "pixels" (a class for each) or an "embedding"."""
    exports: ClassVar[str] = "prediction"
    """What the answer is called in an exported graph; classes have probabilities and logits instead."""
    settings: ClassVar[tuple[str, ...]] = ()
    """The experiment's settings that it is made with, by their names in `Config`."""
    primary: ClassVar[str]
    outputs: int
    class_names: tuple[str, ...]

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
        """An answer as users read it: class codes (B,) or (B, H, W), values (B, K), or embeddings (B, F)."""

    def fitted(self, target: Tensor, labelled: Tensor) -> Task:
        """The task with what it learns from the labelled train rows (a regression's units); by default itself."""
        return self

    def answer(self, said: Output) -> Tensor:
        """What of a network's output is its answer, which is scored, stored and deployed; by default its prediction."""
        return said.prediction

    def kept(self, said: Output) -> Tensor:
        """What is kept of an output until it is measured, in the place of `answer`, which it is by default.

        Where answers are large, what `decide` makes of them, which `decide` then leaves as it is.
        """
        return self.answer(said)

    def unmeasurable(self, target: NDArray) -> str:
        """Why nothing can be measured on labelled rows with these targets, and the mend; "" where it can."""
        return ""

    def calibrated(self, answer: Tensor, target: Tensor, labelled: Tensor) -> Task:
        """The task with what it chooses on the select rows once training is done (a threshold); by default itself."""
        return self

    def learnt(self) -> dict[str, Any]:
        """The arguments beside `class_names` that make the task again, as JSON can hold them."""
        return {}

    def express(self, prediction: Tensor) -> Tensor:
        """A network's prediction in the units of the target; logits as they are."""
        return prediction

    def read(self, answer: Tensor) -> NDArray:
        """What `metrics` read of the answers: by default what is decided."""
        return self.decide(answer)

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """Name -> metric, the primary one first."""

    def measure(self, read: NDArray, target: NDArray) -> dict[str, float]:
        """Every metric of what was `read` of labelled rows, as it is usually written (not signed)."""
        return {name: metric.function(read, target) for name, metric in self.metrics().items()}

    def score(self, answer: Tensor, target: Tensor | LabelMaps, labelled: Tensor, name: str | None = None) -> float:
        """One metric (the primary by default) over the labelled rows, signed so that higher is better.

        target: a `Batch.truth`.

        Raises:
            RunError: no row is labelled.
        """
        if not labelled.any():
            raise RunError("no labelled row to measure a prediction on; epochs are chosen on labelled `select` rows")
        metric = self.metrics()[name or self.primary]
        value = metric.function(self.read(answer[labelled]), labelled_of(target, labelled))
        return value if metric.higher_is_better else -value
