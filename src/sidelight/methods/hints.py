"""Terms that read the teacher's features of each modality through a network of their own, which stays behind."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.methods.distillation import DistillationLoss, Part, Teacher
from sidelight.methods.ranges import FROM_0
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task


def squared_distance(made: Tensor, real: Tensor, there: Tensor | None) -> Tensor:
    """Mean squared error over the rows that have the modality; 0 with a gradient of 0 where none has."""
    real = real.detach()
    if there is None:
        return (made - real).square().mean()
    each = (made - real).square().mean(1) * there
    return each.sum() / there.sum().clamp(min=1)


class FitNet(DistillationLoss):
    """Hints: the student's available features, through a linear regressor, against the teacher's of every modality.

    Σ_m mean |r_m(s) − t_m|² / number of modalities, over the rows that have m; s are the student's available features
    (pooled over time or positions and concatenated), the layer before the fusion on both sides. FitNets' first stage
    (hints alone, then soft labels) is one stage here: the hint is a term beside the task loss. No numbered equation is
    cited.
    """

    reads_features = True
    reaches: ClassVar[Part] = "encoders"
    paper = "Romero et al., ICLR 2015"
    ranges = {"weight": FROM_0}

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.within(weight=weight)
        self.weight = weight
        self.regressors = nn.ModuleDict()

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        width = sum(teacher.outputs.sample.vector(m).shape[1] for m in self.slots)
        for m in self.targets(teacher.outputs.sample):
            self.regressors[m] = self.regressor(width, teacher.outputs.sample.vector(m).shape[1])

    def targets(self, outputs: Output) -> list[str]:
        return list(outputs.features)

    def regressor(self, width: int, out: int) -> nn.Module:
        return nn.Linear(width, out)

    def source(self, student: Output) -> Tensor:
        """What the regressors read, (B, ΣD)."""
        return torch.cat([student.vector(m) for m in self.slots], 1)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        read = self.source(student)
        losses = [
            squared_distance(regressor(read), teacher.vector(m), batch.present.get(m))
            for m, regressor in self.regressors.items()
        ]
        return torch.stack(losses).mean()


class Autoencoder(FitNet):
    """Decoders that restore the teacher's privileged features from the student's fused embedding.

    Mean over privileged m of mean |d_m(z) − t_m|² over the rows that have m, d_m = Linear-ReLU-Linear, t_m the
    teacher's features, pooled over time or positions: the stand-in with which OS-MD (sec. 4.3.3, table 5, without a
    numbered equation) replaces its translation, with the fused embedding as the code.
    """

    compares_privileged = True
    reaches = "fusion"
    paper = "Wei et al. 2023, arXiv 2309.08204 (ablation)"

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        width = teacher.outputs.sample.embedding.shape[1]
        for m in self.targets(teacher.outputs.sample):
            self.regressors[m] = self.regressor(width, teacher.outputs.sample.vector(m).shape[1])

    def targets(self, outputs: Output) -> list[str]:
        return [m for m in outputs.features if m not in self.slots]

    def regressor(self, width: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))

    def source(self, student: Output) -> Tensor:
        return student.embedding
