"""WKD: Wasserstein distances of class probabilities, under costs between classes, and of Gaussians of embeddings."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.wasserstein import Costs, class_costs, gaussian_wasserstein, wasserstein_logits
from sidelight.methods.distillation import DistillationLoss, Teacher
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE, POSITIVE_INT, check_ranges
from sidelight.methods.soft_labels import require_classes
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task


class WKDL(DistillationLoss):
    """Transport between the class probabilities of teacher and student, where similar classes are close.

    mean [−p_t,y log p_s,y + λ W(n_s, n_t)], n the softmax at T over the classes that are not the label, W their
    entropic cost of transport (`sidelight.losses.wasserstein_logits`) under costs between classes, 1 − exp(−κ (1 −
    similarity)), from the teacher's fused embeddings of the labelled training rows. The formulas are those of the
    released code; the paper numbers no equation that we could read.

    There CKA pairs the rows of two classes in the order of loading, and on ImageNet it is near 0 for every pair, so
    that W is a multiple of the total variation: compare with `costs=uniform`. With two classes W is 0, and only the
    first part is left. A row without a label has λ W over all classes (our choice). The released code lets λ fall to 0
    as a cosine over the training, which is not done here. Its settings on CIFAR: T = 8, λ = 600 or T = 6, λ = 200.

    Args:
        transport: λ, the weight of W.
        temperature: T, which divides the logits in W.
        costs: "cka", "centroid" (cosine of the classes' mean rows) or "uniform" (all classes equally far, a control).
        sharpness: κ, how fast costs grow with the distance of two classes.
        regularisation: η, the weight of the entropy.
        iterations: Sinkhorn iterations.
    """

    tasks = ("classification",)
    alternative = "it moves probability between the classes of a row; use 'kl' (of values: 'mse')"
    stackable = True
    paper = "Lv et al., NeurIPS 2024 (WKD-L)"
    ranges = {
        "transport": NON_NEGATIVE,
        "temperature": POSITIVE,
        "sharpness": POSITIVE,
        "regularisation": POSITIVE,
        "iterations": POSITIVE_INT,
        "weight": NON_NEGATIVE,
    }
    class_costs: Tensor

    def __init__(
        self,
        transport: float = 30.0,
        temperature: float = 2.0,
        costs: Costs = "cka",
        sharpness: float = 1.0,
        regularisation: float = 0.05,
        iterations: int = 10,
        weight: float = 1.0,
    ):
        super().__init__()
        self.settings: dict[str, Any] = {
            "transport": transport,
            "temperature": temperature,
            "regularisation": regularisation,
            "iterations": iterations,
        }
        check_ranges("options.wkd-l", self.ranges, {**self.settings, "sharpness": sharpness, "weight": weight})
        if costs not in ("cka", "centroid", "uniform"):
            raise ConfigError(f"options.wkd-l.costs: expected 'cka', 'centroid' or 'uniform', not {costs!r}.")
        self.costs, self.sharpness, self.weight = costs, sharpness, weight

    def check(self, task: Task, name: str) -> None:
        super().check(task, name)
        require_classes(task, name, 2, "probability has nowhere to go")

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        embedding = teacher.outputs.all_rows.embedding.float().cpu()
        labels = rows.target.where(rows.labelled, -1).cpu()
        if teacher.taught is not None:
            labels = labels.where(teacher.taught, -1)
        if teacher.teacher_fold is not None:  # rows of one space, the commonest
            folds = teacher.teacher_fold[labels >= 0]
            labels = labels.where(teacher.teacher_fold == (folds.mode().values if len(folds) else 0), -1)
        self.register_buffer("class_costs", class_costs(embedding, labels, task.outputs, self.costs, self.sharpness))

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        labels = batch.target.where(batch.counted, -1)
        return wasserstein_logits(
            student.prediction, teacher.prediction, labels, self.class_costs, valid=batch.valid, **self.settings
        )


class WKDF(DistillationLoss):
    """Squared Wasserstein distance between Gaussians of the fused embeddings of teacher and student.

    r Σ_d (μ_s − μ_t)² + Σ_d (σ_s − σ_t)², r = 2 (`sidelight.losses.gaussian_wasserstein`); the formula is that of the
    released code, the paper numbers no equation that we could read. The released code has the mean and spread over the
    positions of maps, in each cell of a grid (`over=positions`, for segmentations). Vectors have no positions: by
    default the Gaussian is that of the batch's rows (our choice), which compares distributions, not rows. The released
    code maps the student's features to the teacher's width; the fused embeddings have the same, so nothing maps them.

    Args:
        over: "batch" (the rows of a batch) or "positions" (those of a cell of the fused map of each row).
        mean: r, the weight of the means.
        grid: the cells along each side of a map, with `over=positions`.
    """

    relational = True
    stackable = True
    paper = "Lv et al., NeurIPS 2024 (WKD-F)"
    ranges = {"mean": NON_NEGATIVE, "grid": POSITIVE_INT, "weight": NON_NEGATIVE}

    def __init__(
        self, over: Literal["batch", "positions"] = "batch", mean: float = 2.0, grid: int = 4, weight: float = 0.02
    ):
        super().__init__()
        check_ranges("options.wkd-f", self.ranges, {"mean": mean, "grid": grid, "weight": weight})
        if over not in ("batch", "positions"):
            raise ConfigError(f"options.wkd-f.over: expected 'batch' or 'positions', not {over!r}.")
        self.over, self.mean, self.grid, self.weight = over, mean, grid, weight

    def check(self, task: Task, name: str) -> None:
        super().check(task, name)
        if self.over == "positions" and task.kind != "segmentation":
            raise ConfigError(
                f"options.{name}.over=positions needs maps, and the embeddings of {task.name} are vectors, which have "
                "no spread: use over=batch."
            )

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        size = teacher.outputs.sample.fused.shape[2:]
        if self.over == "positions" and all(side <= self.grid for side in size):
            raise ConfigError(
                f"options.wkd-f.grid={self.grid}: the fused maps have {size[0]}×{size[1]} positions, so a cell has one "
                "and no spread. Take a smaller grid."
            )

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        if self.over == "positions":
            return gaussian_wasserstein(student.fused, teacher.fused, self.mean, batch.valid, self.grid)
        return gaussian_wasserstein(student.embedding, teacher.embedding, self.mean, batch.valid)
