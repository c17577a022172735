"""AMID's two discriminators and the weights between them (AMID, CVPR 2023, section 3.2)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from sidelight.losses.mutual_information import (
    adapted_weights,
    adversarial,
    alignment,
    class_partners,
    discrimination,
)

SLOPE = 0.2
"""The negative slope of LeakyReLU; the paper gives no value."""


def build_discriminator(width: int, layers: int, hidden: int | None = None, outputs: int = 1) -> nn.Sequential:
    """Build an MLP with LeakyReLU between its layers, (B, width) -> (B, outputs) logits.

    Args:
        width: the size of the input.
        layers: the number of linear layers.
        hidden: the units of each hidden layer; `width` by default.
        outputs: the number of logits.
    """
    sizes = [width, *[hidden or width] * (layers - 1)]
    inner: list[nn.Module] = []
    for a, b in pairwise(sizes):
        inner += [nn.Linear(a, b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*inner, nn.Linear(sizes[-1], outputs))


class Discriminators(nn.Module):
    """D1 discriminates teacher M from student S on every row, D2 on rows that share their class with another row.

    Their weights λ start equal and follow the alignment of M and S from epoch to epoch (eq. 14). The sums of an epoch,
    λ̃ and the number of the epoch are buffers, so that a resumed run continues with the same bits.

    Args:
        width: F, the size of the embeddings.
        second: whether D2 exists; without it λ = (1, 0).
        adaptive: whether λ follows the alignment; otherwise λ = (½, ½).
        beta: β of the moving average.
    """

    smooth: Tensor
    sums: Tensor
    numbers: Tensor
    epoch: Tensor

    def __init__(self, width: int, second: bool = True, adaptive: bool = True, beta: float = 0.9):
        super().__init__()
        self.first = build_discriminator(width, 5)
        self.second = build_discriminator(width, 3) if second else None
        self.adaptive, self.beta = adaptive, beta
        self.register_buffer("smooth", torch.zeros(2))  # λ̃
        self.register_buffer("sums", torch.zeros(2))  # sums of this epoch's cosines; `numbers` counts them
        self.register_buffer("numbers", torch.zeros(2))
        self.register_buffer("epoch", torch.tensor(-1))

    def weights(self) -> Tensor:
        """λ, (2,)."""
        return self.smooth.softmax(0) if self.second is not None else torch.eye(2).to(self.smooth)[0]

    @torch.no_grad()
    def observe(self, epoch: int, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Add the alignment of a batch to the sums of the epoch; the first batch of an epoch updates λ before that.

        Args:
            epoch: the epoch of the batch.
            student: the student's embeddings, (B, F).
            teacher: the teacher's embeddings, (B, F).
            labels: class codes, (B,); −1 for unlabelled rows.
        """
        if not self.adaptive:
            return
        if int(self.epoch) != epoch:
            # λ is constant within an epoch (eq. 14); the sums of the last epoch move it.
            self.smooth.copy_(adapted_weights(self.smooth, self.sums / self.numbers, self.beta)[0])
            self.sums.zero_()
            self.numbers.zero_()
            self.epoch.fill_(epoch)
        sums, numbers = alignment(teacher, student, labels)
        self.sums += sums.to(self.sums)
        self.numbers += numbers.to(self.numbers)

    def fool(self, student: Tensor, labels: Tensor) -> Tensor:
        """Compute L_adv = −λ₁ mean_i log D1(S_i) − λ₂/d Σ_v log D2(S_v^η) (eq. 12)."""
        loss = self.weights()[0] * adversarial(self.first(student))
        if self.second is not None:
            loss = loss + self.weights()[1] * adversarial(self.second(student[class_partners(labels).partner]))
        return loss

    def discriminate(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of the discriminators (eq. 13).

        L_D = −λ₁ mean_i (log D1(M_i) + log(1 − D1(S_i))) − λ₂/d Σ_v (log D2(M_v) + log(1 − D2(S_v^η)))

        Args:
            student: the student's embeddings, (B, F).
            teacher: the teacher's embeddings, (B, F).
            labels: class codes, (B,); −1 for unlabelled rows.
        """
        loss = self.weights()[0] * self._discrimination_loss(self.first, teacher, student)
        if self.second is not None:
            rows, partner = class_partners(labels)
            loss = loss + self.weights()[1] * self._discrimination_loss(self.second, teacher[rows], student[partner])
        return loss

    @staticmethod
    def _discrimination_loss(critic: nn.Module, teacher: Tensor, student: Tensor) -> Tensor:
        """One summand of eq. 13, from one forward pass over both embeddings."""
        # One pass over both is faster than two.
        outputs = critic(torch.cat([teacher, student]))
        return discrimination(outputs[: len(teacher)], outputs[len(teacher) :])
