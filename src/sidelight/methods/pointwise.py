"""Pointwise losses: compare the student's output for a row with the teacher's output for the same row."""

from __future__ import annotations

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.methods.distillation import DistillationLoss
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE
from sidelight.methods.soft_labels import check_standardized
from sidelight.networks.network import Output
from sidelight.tasks import Task


class KL(DistillationLoss):
    """Soft labels: KL divergence between the teacher's and the student's softened predictions.

    T² · mean KL(softmax(t / T) ‖ softmax(s / T)) over rows (and pixels), T = 4. Eq. 4 of Hinton et al. is the
    cross-entropy with soft targets, which has the same gradient.

    Args:
        temperature: T, which divides the logits of both sides; a higher T gives softer labels.
        standardize: whether each row of logits is standardised first, (z − mean) / std, so that the student need not
            match the teacher's scale (Sun et al., CVPR 2024, with T = 2 and a weight of 9). It needs three classes.
    """

    tasks = ("classification", "segmentation")
    alternative = "it compares class probabilities; use 'mse', which matches the predicted values"
    stackable = True
    paper = "Hinton et al. 2015"
    reads_embedding = False
    ranges = {"temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(self, temperature: float = 4.0, weight: float = 1.0, standardize: bool = False):
        super().__init__()
        self.validate_settings(temperature=temperature, weight=weight)
        self.temperature, self.weight, self.standardize = temperature, weight, standardize

    def check(self, task: Task, name: str) -> None:
        super().check(task, name)
        if self.standardize:
            check_standardized(task, name)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return soft_label_kl(student.prediction, teacher.prediction, self.temperature, batch.valid, self.standardize)


class MSE(DistillationLoss):
    """Mean squared error between the predictions (default) or the fused embeddings of teacher and student.

    mean (s − t)² over rows and dimensions; the paper numbers no equation for it. Our choice: in a classification,
    "prediction" means the logits.

    Args:
        on: "prediction" (the logits, in a classification) or "fused" (the fused embeddings).
    """

    stackable = True
    paper = "Makantasis et al., IEEE TAC 2023"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, on: str = "prediction", weight: float = 1.0):
        super().__init__()
        self.validate_settings(weight=weight)
        if on not in ("prediction", "fused"):
            raise ConfigError(f"options.mse.on: expected 'prediction' or 'fused', not {on!r}")
        self.on, self.weight = on, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return squared_error(getattr(student, self.on), getattr(teacher, self.on), batch.valid)


class Cosine(DistillationLoss):
    """Cosine distance of the fused embeddings, weighted by how well the teacher predicts the row (adaptive).

    mean_i w_i (1 − cos(s_i, t_i)); the paper numbers no equation for it. Our choice of the weight, which has to lie in
    [0, 1]: the teacher's probability of the true class (of the predicted class for an unlabelled row); in a regression,
    1 − the teacher's loss on the batch (`Task.trust`).

    Args:
        adaptive: whether rows are weighted by the teacher's success on them; False: equal weights.
    """

    stackable = True
    paper = "Aslam et al., CVPRW 2023"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, adaptive: bool = True, weight: float = 1.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.adaptive, self.weight = adaptive, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        weight = task.teacher_confidence(teacher.prediction, batch.target, batch.counted) if self.adaptive else None
        return cosine_distance(student.embedding, teacher.embedding, weight, batch.valid)
