"""Variants of soft labels: decoupled by the label (DKD), and correlations in place of distances (DIST)."""

from __future__ import annotations

from torch import Tensor

from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.logits import column_correlation, decoupled_kl, dist
from sidelight.methods.distillation import DistillationLoss
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE
from sidelight.networks.network import Output
from sidelight.tasks import Task


def require_classes(task: Task, name: str, least: int, why: str) -> None:
    """Refuse a task of fewer classes.

    Raises:
        ConfigError: names the method, the number of classes and the reason.
    """
    if task.outputs < least:
        raise ConfigError(f"method {name!r} needs {least} classes or more, and the task has {task.outputs}: {why}.")


def check_standardized(task: Task, name: str) -> None:
    """Refuse standardised logits of two classes, which say nothing."""
    if task.outputs < 3:
        raise ConfigError(
            f"options.{name}.standardize needs three classes or more, and the task has {task.outputs}: the two "
            "standardised logits of a row are always ±0.71, so that nothing can be learnt from them. Leave it out."
        )


class DKD(DistillationLoss):
    """Decoupled soft labels: the label against the rest, and the rest among themselves, each with its own weight.

    T² · mean [α KL(b_t ‖ b_s) + β KL(n_t ‖ n_s)], b = (p_y, 1 − p_y), n the softmax over the classes that are not the
    label (`sidelight.losses.decoupled_kl`); a mean over rows, or labelled pixels. The formulas are those of the
    released code; the paper numbers no equation that we could read. With two classes n is constant, and α times `kl`
    is left. A row without a label has the loss of `kl` (our choice). The released code lets the loss grow over 20
    epochs (`balance.warmup=20`), and β depends on the networks: 8, 6 or 2, on ImageNet 0.5 or 2 with T = 1.

    Args:
        alpha: α, the weight of the label against the rest.
        beta: β, the weight of the rest among themselves.
        temperature: T, which divides the logits of both sides.
        standardize: whether each row of logits is standardised first (Sun et al., CVPR 2024; they take T = 2 and
            multiply α and β by 9). It needs three classes or more. At the weights above the term then drowns the task
            loss of a short training; give it a smaller `weight`.
    """

    tasks = ("classification", "segmentation")
    alternative = "it compares class probabilities; use 'mse', which matches the predicted values"
    stackable = True
    paper = "Zhao et al., CVPR 2022"
    reads_embedding = False
    # With β = 8 and T² = 16 the task loss of a short training may rise before it falls; the released code warms up.
    check_settings = {"beta": 2.0}
    ranges = {"alpha": NON_NEGATIVE, "beta": NON_NEGATIVE, "temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        weight: float = 1.0,
        standardize: bool = False,
    ):
        super().__init__()
        self.validate_settings(alpha=alpha, beta=beta, temperature=temperature, weight=weight)
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.weight, self.standardize = weight, standardize

    def check(self, task: Task, name: str) -> None:
        super().check(task, name)
        require_classes(task, name, 2, "there is nothing beside the label")
        if self.standardize:
            check_standardized(task, name)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        counted = batch.counted.view(-1, *[1] * (student.prediction.ndim - 2))
        labels = batch.target.long().where(counted, -1)
        return decoupled_kl(
            student.prediction, teacher.prediction, labels, self.alpha, self.beta, self.temperature, batch.valid,
            self.standardize,
        )  # fmt: skip


class DIST(DistillationLoss):
    """Correlations of the predictions of teacher and student: of classes within a row, and of rows within a class.

    T² [β (1 − mean_i ρ(rows)) + γ (1 − mean_c ρ(columns))], ρ Pearson's correlation of the softmax at T
    (`sidelight.losses.dist`); the formulas are those of the released code, the paper numbers no equation that we could
    read. With two classes the rows have no gradient, and the columns alone teach. In a regression there are the columns
    alone, of the predicted values (our choice). In a segmentation pixels are rows, with weight 1 in the released code;
    on CIFAR T is 4.

    Args:
        inter: β, the weight of the correlation of classes within a row.
        intra: γ, the weight of the correlation of rows within a class.
        temperature: T, which divides the logits of both sides.
    """

    relational = True
    stackable = True
    paper = "Huang et al., NeurIPS 2022 (DIST)"
    reads_embedding = False
    ranges = {"inter": NON_NEGATIVE, "intra": NON_NEGATIVE, "temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(self, inter: float = 1.0, intra: float = 1.0, temperature: float = 1.0, weight: float = 2.0):
        super().__init__()
        self.validate_settings(inter=inter, intra=intra, temperature=temperature, weight=weight)
        self.inter, self.intra, self.temperature, self.weight = inter, intra, temperature, weight

    def check(self, task: Task, name: str) -> None:
        super().check(task, name)
        if task.kind != "regression":
            require_classes(task, name, 2, "a single probability is always 1")

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        s, t = student.prediction, teacher.prediction
        if task.kind == "regression":
            return self.intra * column_correlation(s, t, batch.valid)
        return dist(s, t, self.inter, self.intra, self.temperature, batch.valid)
