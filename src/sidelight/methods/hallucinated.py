"""Terms on hallucinated features: a network of its own on the available modalities, taught to make the privileged ones.

OS-MD (arXiv 2309.08204) compares with them. There they are stages, first the hallucination network and then the fusion;
here the terms stand beside the task loss, and the whole student is trained at once from the teacher's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sidelight.config import Config
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError
from sidelight.losses.pointwise import soft_label_kl
from sidelight.losses.relational import dask, similarity_preserving
from sidelight.methods.distillation import DistillationLoss, Teacher
from sidelight.methods.hints import squared_distance
from sidelight.methods.ranges import ABOVE_0, FROM_0
from sidelight.networks.network import Network, Output
from sidelight.tasks import Regression, Task


class OnHallucinated(DistillationLoss):
    """What the terms of this family share: the student's hallucinated slots beside the teacher's features.

    With several teachers (`teacher.sets`) each compares the slots that it reads itself.
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
                f"{name} compares hallucinated features, but the student hallucinates nothing that the teacher reads: "
                "it needs hallucinators of privileged modalities."
            )

    def pairs(self, student: Output, teacher: Output, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """(made, real) vectors of each slot, over the rows that have the modality."""
        for m in self.slots:
            made, real, there = student.vector(m), teacher.vector(m), batch.present.get(m)
            yield (made, real) if there is None else (made[there], real[there])


class MERS(OnHallucinated):
    """Modality distillation with multiple stream networks: hallucinated features and soft labels (T = 10).

    hint = mean over slots of mean |h_m − t_m|² over the rows that have m, both sides pooled over time or positions;
    labels = T² KL(t ‖ s) of softened predictions (of values, their mean squared error), both weighed alike. The paper
    trains the hallucination stream first and fine-tunes all streams after; here both are one stage, beside the task
    loss. No numbered equation is cited.

    Args:
        temperature: T of the soft labels.
    """

    paper = "Garcia et al., ECCV 2018"
    ranges = {"temperature": ABOVE_0, "weight": FROM_0}

    def __init__(self, temperature: float = 10.0, weight: float = 1.0):
        super().__init__()
        self.within(temperature=temperature, weight=weight)
        self.temperature, self.weight = temperature, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> dict[str, Tensor]:
        hints = [squared_distance(student.vector(m), teacher.vector(m), batch.present.get(m)) for m in self.slots]
        if isinstance(task, Regression):
            labels = task.match(student.prediction, teacher.prediction)
        else:
            labels = soft_label_kl(student.prediction, teacher.prediction, self.temperature)
        return {"hint": torch.stack(hints).mean(), "labels": labels}


class CMKD(OnHallucinated):
    """Relation-based hallucination: hallucinated features keep the similarities between rows of the privileged ones.

    Similarity-preserving loss (Tung & Mori, eq. 4) on each slot. OS-MD names its relation-based baseline CMKD with an
    inconsistent citation; this is our reading of "relation-based", in one stage beside the task loss.
    """

    relational = True
    paper = "as compared with in Wei et al. 2023, arXiv 2309.08204"
    ranges = {"weight": FROM_0}

    def __init__(self, weight: float = 100.0):
        super().__init__()
        self.within(weight=weight)
        self.weight = weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        losses = [similarity_preserving(made, real) for made, real in self.pairs(student, teacher, batch)]
        return torch.stack(losses).mean()


class DASK(OnHallucinated):
    """Global and local knowledge for hallucinated features: 25 · RKD-D + 50 · RKD-A + MSE.

    A mean over slots of `sidelight.losses.dask` of features pooled over time or positions; the sum and its weights as
    in the released code, no numbered equation is cited. Ni et al. distil from video into a wearable's network; OS-MD
    makes hallucination networks with it, as here, and fuses them in a second stage, which here is one.

    Args:
        distance: weight of RKD-D.
        angle: weight of RKD-A.
        point: weight of the squared error.
    """

    relational = True
    paper = "Ni et al., ICASSP 2022"
    ranges = {"distance": FROM_0, "angle": FROM_0, "point": FROM_0, "weight": FROM_0}

    def __init__(self, distance: float = 25.0, angle: float = 50.0, point: float = 1.0, weight: float = 1.0):
        super().__init__()
        self.within(distance=distance, angle=angle, point=point, weight=weight)
        self.distance, self.angle, self.point, self.weight = distance, angle, point, weight

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        losses = [
            dask(made, real, self.distance, self.angle, self.point)
            for made, real in self.pairs(student, teacher, batch)
        ]
        return torch.stack(losses).mean()
