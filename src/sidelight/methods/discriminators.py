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
"""Of the negative half of LeakyReLU; the paper gives none."""


def discriminator(width: int, layers: int, hidden: int | None = None, outputs: int = 1) -> nn.Sequential:
    """An MLP with LeakyReLU between, (B, width) -> (B, outputs) logits; `hidden` units a layer, `width` by default."""
    sizes = [width, *[hidden or width] * (layers - 1)]
    inner: list[nn.Module] = []
    for a, b in pairwise(sizes):
        inner += [nn.Linear(a, b), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*inner, nn.Linear(sizes[-1], outputs))


class Discriminators(nn.Module):
    """D1 tells teacher M from student S by any row, D2 by rows whose class the batch has more than once.

    Their weights λ follow, epoch by epoch, how well M and S are aligned (eq. 14), and are equal at first. What an epoch
    has summed up is a buffer, as are λ̃ and the epoch's number, so that a run that is resumed goes on the same.

    Args:
        width: F of the embeddings.
        second: with D2; without, λ = (1, 0).
        adaptive: λ as above; else λ = (½, ½).
        beta: of the moving average.
    """

    smooth: Tensor
    sums: Tensor
    numbers: Tensor
    epoch: Tensor

    def __init__(self, width: int, second: bool = True, adaptive: bool = True, beta: float = 0.9):
        super().__init__()
        self.first = discriminator(width, 5)
        self.second = discriminator(width, 3) if second else None
        self.adaptive, self.beta = adaptive, beta
        self.register_buffer("smooth", torch.zeros(2))  # λ̃
        self.register_buffer("sums", torch.zeros(2))  # of the cosines of this epoch, and how many there were
        self.register_buffer("numbers", torch.zeros(2))
        self.register_buffer("epoch", torch.tensor(-1))

    def weights(self) -> Tensor:
        """(2,), λ."""
        return self.smooth.softmax(0) if self.second is not None else torch.eye(2).to(self.smooth)[0]

    @torch.no_grad()
    def observe(self, epoch: int, student: Tensor, teacher: Tensor, labels: Tensor) -> None:
        """Take in how well a batch is aligned; the first batch of another epoch moves λ by the epoch before.

        student, teacher: (B, F). labels: (B,) class codes, −1 where there is none.
        """
        if not self.adaptive:
            return
        if int(self.epoch) != epoch:
            self.smooth.copy_(adapted_weights(self.smooth, self.sums / self.numbers, self.beta)[0])
            self.sums.zero_()
            self.numbers.zero_()
            self.epoch.fill_(epoch)
        sums, numbers = alignment(teacher, student, labels)
        self.sums += sums.to(self.sums)
        self.numbers += numbers.to(self.numbers)

    def fool(self, student: Tensor, labels: Tensor) -> Tensor:
        """L_adv = −λ₁ mean_i log D1(S_i) − λ₂/d Σ_v log D2(S_v^η) (eq. 12)."""
        loss = self.weights()[0] * adversarial(self.first(student))
        if self.second is not None:
            loss = loss + self.weights()[1] * adversarial(self.second(student[class_partners(labels).partner]))
        return loss

    def discriminate(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """L_D = −λ₁ mean_i (log D1(M_i) + log(1 − D1(S_i))) − λ₂/d Σ_v (log D2(M_v) + log(1 − D2(S_v^η))) (eq. 13)."""
        loss = self.weights()[0] * self._told_apart(self.first, teacher, student)
        if self.second is not None:
            rows, partner = class_partners(labels)
            loss = loss + self.weights()[1] * self._told_apart(self.second, teacher[rows], student[partner])
        return loss

    @staticmethod
    def _told_apart(critic: nn.Module, teacher: Tensor, student: Tensor) -> Tensor:
        """One part of eq. 13, from one pass over both."""
        outputs = critic(torch.cat([teacher, student]))
        return discrimination(outputs[: len(teacher)], outputs[len(teacher) :])
