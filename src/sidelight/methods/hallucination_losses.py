"""Losses on hallucinated features: a network on the available modalities learns to produce the privileged features.

OS-MD (arXiv 2309.08204) compares with these methods. It trains them in stages, first the hallucination network and then
the fusion; here the losses are added to the task loss, and the whole student is trained at once from the teacher's
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.pointwise import soft_label_kl, squared_error
from sidelight.losses.relational import dask, similarity_preserving
from sidelight.methods.distillation import DistillationLoss, Teacher
from sidelight.methods.hints import squared_distance
from sidelight.methods.ranges import NON_NEGATIVE, POSITIVE
from sidelight.networks.network import Network, Output
from sidelight.tasks import Regression, Task


class HallucinationLoss(DistillationLoss):
    """Base class: compares the student's hallucinated features with the teacher's features.

    With several teachers (`teacher.sets`), each is compared on the modalities that it reads.
    """

    reads_features = True
    compares_privileged = True
    reaches = "hallucinators"
    hallucinates = "encoder"
    stages = ("teacher", "student")

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        if config.student.hallucinate == "no":
            raise ConfigError(
                f"method {name!r} compares hallucinated features, which student.hallucinate=no leaves out: set it to "
                "auto or encoder, or use 'fitnet', which needs none."
            )

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = tuple(m for m in student.hallucinators if m in teacher.outputs.sample.features)
        if not self.slots:
            name = type(self).__name__.lower()
            raise ConfigError(
                f"{name} compares hallucinated features, but the student hallucinates no modality that the teacher "
                "reads: give the student hallucinators of privileged modalities."
            )

    def pairs(self, student: Output, teacher: Output, batch: Batch) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield (hallucinated, real) feature vectors of each modality, over the rows that have the modality.

        The third is None, or in a batch with padding rows (which keeps its shape) a mask (B,) of the rows that count.
        """
        for m in self.slots:
            made, real, rows = student.vector(m), teacher.vector(m), batch.rows_with(m)
            if batch.valid is None and rows is not None:
                made, real, rows = made[rows], real[rows], None
            yield made, real, rows


class MERS(HallucinationLoss):
    """Modality distillation with multiple stream networks: hallucinated features and soft labels (T = 10).

    hint = mean over privileged modalities m of mean |h_m − t_m|² over the rows that have m, with both features pooled
    over time or positions; labels = T² KL(t ‖ s) of softened predictions (in a regression, their mean squared error).
    Both have the same weight. The paper trains the hallucination stream first and then fine-tunes all streams; here
    both happen in one stage, beside the task loss. The paper numbers no equation for it.

    Args:
        temperature: T of the soft labels.
    """

    stackable = True
    paper = "Garcia et al., ECCV 2018"
    ranges = {"temperature": POSITIVE, "weight": NON_NEGATIVE}

    def __init__(self, temperature: float = 10.0, weight: float = 1.0):
        super().__init__()
        self.validate_settings(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        hints = []
        for m in self.slots:
            hints.append(squared_distance(student.vector(m), teacher.vector(m), batch.rows_with(m)))
        if isinstance(task, Regression):
            labels = squared_error(student.prediction, teacher.prediction, batch.valid)
        else:
            labels = soft_label_kl(student.prediction, teacher.prediction, self.temperature, batch.valid)
        return {"hint": torch.stack(hints).mean(), "labels": labels}


class CMKD(HallucinationLoss):
    """Relation-based hallucination: hallucinated features keep the similarities between rows of the privileged ones.

    Similarity-preserving loss (Tung & Mori, eq. 4) on each privileged modality. OS-MD calls its relation-based baseline
    CMKD, with an inconsistent citation; this is our interpretation of "relation-based", in one stage beside the task
    loss.
    """

    relational = True
    stackable = True
    paper = "as compared with in Wei et al. 2023, arXiv 2309.08204"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weight: float = 100.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        losses = [similarity_preserving(*pair) for pair in self.pairs(student, teacher, batch)]
        return torch.stack(losses).mean()


class DASK(HallucinationLoss):
    """Global and local knowledge for hallucinated features: 25 · RKD-D + 50 · RKD-A + MSE.

    The mean over privileged modalities of `sidelight.losses.dask` on features pooled over time or positions. The sum
    and its weights follow the released code; the paper numbers no equation for it. Ni et al. distil from video into the
    network of a wearable. OS-MD trains hallucination networks with it, as here, and fuses them in a second stage; here
    both are one stage.

    Args:
        distance: the weight of RKD-D.
        angle: the weight of RKD-A.
        point: the weight of the squared error.
    """

    relational = True
    stackable = True
    paper = "Ni et al., ICASSP 2022"
    ranges = {"distance": NON_NEGATIVE, "angle": NON_NEGATIVE, "point": NON_NEGATIVE, "weight": NON_NEGATIVE}

    def __init__(self, distance: float = 25.0, angle: float = 50.0, point: float = 1.0, weight: float = 1.0):
        super().__init__()
        self.validate_settings(distance=distance, angle=angle, point=point, weight=weight)
        self.distance, self.angle, self.point, self.weight = distance, angle, point, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        losses = []
        for made, real, rows in self.pairs(student, teacher, batch):
            losses.append(dask(made, real, self.distance, self.angle, self.point, rows))
        return torch.stack(losses).mean()
