"""Low and high frequencies of embeddings along their channels, compared apart (FD-CMKD)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sidelight.losses.common import at_least_one, check_rows, count_rows, zero_padding
from sidelight.utils.precision import full_precision

Split = Literal["fft", "random"]
Reduction = Literal["sum", "mean"]
LEAST_NORM = 1e-4
"""The norm by which shorter bands are divided: that of the released code, 1e-8, makes gradients of 1e8."""


def band_projections(width: int, split: Split = "fft", seed: int = 0) -> Tensor:
    """(2, D, D), the projections of rows onto their low and their high band, in float32.

    "fft": bins 1 … D // 4 of a real Fourier transform along the channels, and the bins after; bin 0, the mean, is in
    neither, as in the released code of FD-CMKD. "random": two halves of a random orthogonal basis, as a control, since
    the order of channels means nothing.

    Args:
        width: D.
        split: which bands.
        seed: of the random basis.
    """
    if split == "random":
        drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        basis = torch.linalg.qr(drawn)[0]
        halves = [basis[:, : width // 2], basis[:, width // 2 :]]
        return torch.stack([half @ half.T for half in halves]).float()
    bins = torch.fft.rfft(torch.eye(width, dtype=torch.float64))
    number = torch.arange(bins.shape[1])
    low, high = (number > 0) & (number <= width // 4), number > width // 4
    return torch.stack([torch.fft.irfft(bins * band, n=width) for band in (low, high)]).float()


@full_precision
def frequency_distance(
    student: Tensor,
    teacher: Tensor,
    high: bool = False,
    reduction: Reduction = "sum",
    valid: Tensor | None = None,
) -> Tensor:
    """Squared distance of the bands of embeddings, each divided by its norm.

    mean_i |n(s_i) − n(t_i)|² of low bands, mean_i |ℓ(n(s_i)) − ℓ(n(t_i))|² of high ones, n(v) = v / |v| and
    ℓ(v) = sign(v) log(1 + |v|). Source: FD-CMKD (AAAI 2026, arXiv 2511.19887), a released copy of its code, which takes
    the mean over channels too ("mean"): of rows of D = 512 that is 0.004 where a cross-entropy is 2.

    Args:
        student: (B, D), a band.
        teacher: (B, D), the same band, without gradient.
        high: whether ℓ is taken.
        reduction: "sum" over channels, or "mean".
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    check_rows(student, teacher, same_width=True)
    ours, theirs = (_scale(zero_padding(x, valid)) for x in (student, teacher.detach()))
    if high:
        ours, theirs = (x.sign() * torch.log1p(x.abs()) for x in (ours, theirs))
    total = (ours - theirs).square().sum() / at_least_one(count_rows(student, valid))
    return total / student.shape[1] if reduction == "mean" else total


def _scale(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.clamp(min=LEAST_NORM)
