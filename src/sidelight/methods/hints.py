"""Losses that predict the teacher's features of each modality with a network that is not deployed."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sidelight.data.batch import Batch
from sidelight.methods.distillation import DistillationLoss, StudentPart, Teacher
from sidelight.methods.ranges import NON_NEGATIVE
from sidelight.networks.network import Network, Output
from sidelight.tasks import Task
from sidelight.utils.precision import full_precision


@full_precision
def squared_distance(made: Tensor, real: Tensor, present: Tensor | None) -> Tensor:
    """Compute the mean squared error over the rows that have the modality.

    Args:
        made: the student's prediction of the features, (B, D).
        real: the teacher's features, (B, D); they get no gradient.
        present: (B,) bool, which rows have the modality; None for all.

    Returns:
        A scalar; 0, with a gradient of 0, if no row has the modality.
    """
    real = real.detach()
    if present is None:
        return (made - real).square().mean()
    per_row = (made - real).square().mean(1) * present
    return per_row.sum() / present.sum().clamp(min=1)


class FitNet(DistillationLoss):
    """Hints: the student's available features, through a linear regressor, against the teacher's of every modality.

    Σ_m mean |r_m(s) − t_m|² / number of modalities, over the rows that have m. s are the student's available features,
    pooled over time or positions and concatenated; both sides are taken before the fusion. FitNets train the hints
    first and soft labels after; here the hint is added to the task loss in one stage. The paper numbers no equation for
    it.
    """

    stackable = True
    reads_features = True
    reaches: ClassVar[StudentPart] = "encoders"
    paper = "Romero et al., ICLR 2015"
    ranges = {"weight": NON_NEGATIVE}

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.validate_settings(weight=weight)
        self.weight = weight
        self.regressors = nn.ModuleDict()

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        width = sum(teacher.outputs.sample.vector(m).shape[1] for m in self.slots)
        for m in self.target_modalities(teacher.outputs.sample):
            self.regressors[m] = self.build_regressor(width, teacher.outputs.sample.vector(m).shape[1])

    def target_modalities(self, outputs: Output) -> list[str]:
        """The modalities of the teacher that are predicted."""
        return list(outputs.features)

    def build_regressor(self, width: int, out: int) -> nn.Module:
        """Build the network that predicts `out` features from `width` ones."""
        return nn.Linear(width, out)

    def regressor_input(self, student: Output) -> Tensor:
        """The input of the regressors, (B, ΣD)."""
        return torch.cat([student.vector(m) for m in self.slots], 1)

    def forward(self, student: Output, teacher: Output, batch: Batch, task: Task) -> Tensor:
        read = self.regressor_input(student)
        losses = []
        for m, regressor in self.regressors.items():
            losses.append(squared_distance(regressor(read), teacher.vector(m), batch.rows_with(m)))
        return torch.stack(losses).mean()


class Autoencoder(FitNet):
    """Decoders that reconstruct the teacher's privileged features from the student's fused embedding.

    The mean over privileged modalities m of mean |d_m(z) − t_m|² over the rows that have m, where d_m is
    Linear-ReLU-Linear, t_m are the teacher's features, pooled over time or positions, and z is the student's fused
    embedding. OS-MD replaces its translation by this in an ablation (sec. 4.3.3, table 5, without a numbered equation).
    """

    compares_privileged = True
    reaches = "fusion"
    paper = "Wei et al. 2023, arXiv 2309.08204 (ablation)"

    def prepare(self, student: Network, teacher: Teacher, rows: Batch, task: Task) -> None:
        self.slots = student.reads
        width = teacher.outputs.sample.embedding.shape[1]
        for m in self.target_modalities(teacher.outputs.sample):
            self.regressors[m] = self.build_regressor(width, teacher.outputs.sample.vector(m).shape[1])

    def target_modalities(self, outputs: Output) -> list[str]:
        return [m for m in outputs.features if m not in self.slots]

    def build_regressor(self, width: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))

    def regressor_input(self, student: Output) -> Tensor:
        return student.embedding
