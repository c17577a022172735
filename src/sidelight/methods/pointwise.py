"""Point-to-point terms: each row of the student against the same row of the teacher."""

from __future__ import annotations

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.pointwise import cosine_distance, soft_label_kl, squared_error
from sidelight.methods.distillation import DistillationLoss
from sidelight.methods.ranges import ABOVE_0, FROM_0
from sidelight.networks.network import Output
from sidelight.tasks import Task


class KL(DistillationLoss):
    """Soft labels: KL divergence between the teacher's and the student's softened predictions.

    T² · mean KL(softmax(t / T) ‖ softmax(s / T)) over rows (and pixels), T = 4; eq. 4 of Hinton et al. by its
    divergence, whose gradient is that of the cross-entropy with soft targets.

    Args:
        temperature: T, by which both sides' logits are divided; higher is softer.
    """

    tasks = ("classification", "segmentation")
    instead = "it compares class probabilities; use 'mse', which matches the predicted values"
    paper = "Hinton et al. 2015"
    ranges = {"temperature": ABOVE_0, "weight": FROM_0}

    def __init__(self, temperature: float = 4.0, weight: float = 1.0):
        super().__init__()
        self.within(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return soft_label_kl(student.prediction, teacher.prediction, self.temperature)


class MSE(DistillationLoss):
    """Mean squared error between the predictions (default) or the fused embeddings of teacher and student.

    mean (s − t)² over rows and dimensions; no numbered equation is cited. Our reading: of classes, "prediction" means
    the logits.

    Args:
        on: "prediction" (of classes: the logits) or "embedding" (the fused embeddings).
    """

    paper = "Makantasis et al., IEEE TAC 2023"
    ranges = {"weight": FROM_0}

    def __init__(self, on: str = "prediction", weight: float = 1.0):
        super().__init__()
        self.within(weight=weight)
        if on not in ("prediction", "fused"):
            raise ConfigError(f"mse works on 'prediction' or 'fused', not {on!r}")
        self.on, self.weight = on, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        return squared_error(getattr(student, self.on), getattr(teacher, self.on))


class Cosine(DistillationLoss):
    """Cosine distance of the fused embeddings, weighted by how well the teacher does on the row (adaptive).

    mean_i w_i (1 − cos(s_i, t_i)); no numbered equation is cited. Our reading of the weight, which has to stay in
    [0, 1]: the teacher's probability of the true class, or of its own choice where a row has no label; of values, 1 −
    its loss on the batch (`Task.trust`).

    Args:
        adaptive: whether the teacher's success on a row weighs the row; False: every row counts the same.
    """

    paper = "Aslam et al., CVPRW 2023"
    ranges = {"weight": FROM_0}

    def __init__(self, adaptive: bool = True, weight: float = 1.0):
        super().__init__()
        self.within(weight=weight)
        self.adaptive, self.weight = adaptive, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        weight = task.teacher_confidence(teacher.prediction, batch.target, batch.labelled) if self.adaptive else None
        return cosine_distance(student.embedding, teacher.embedding, weight)
