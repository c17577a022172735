"""Point-to-point losses: one row of the student against the same row of the teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import at_least_one, count_rows, mean_over_rows, sum_kl, zero_padding
from sidelight.utils.precision import full_precision


@full_precision
def standardize_logits(logits: Tensor) -> Tensor:
    """(z − mean) / (std + 1e-7) of the logits of each row (or pixel), with the unbiased std; 0 for a constant row.

    Source: Sun et al., CVPR 2024, as released. Two classes always become ±0.71, whatever they were.

    Args:
        logits: (B, C, ...), C ≥ 2.

    Returns:
        The same shape.
    """
    centred = logits - logits.mean(1, keepdim=True)
    variance = centred.square().sum(1, keepdim=True) / max(1, logits.shape[1] - 1)
    # What is left of a constant row is its rounding.
    rounding = 8 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(1, keepdim=True)
    varies = variance > rounding.square()
    return torch.where(varies, centred / (variance.where(varies, 1.0).sqrt() + 1e-7), 0.0)


@full_precision
def soft_label_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    valid: Tensor | None = None,
    standardize: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of softened predictions.

    T² · mean_i KL(softmax(teacher_i / T) ‖ softmax(student_i / T)). Source: Hinton et al. 2015, eq. 4; T = 4 as in the
    comparisons of PKDOT.

    Args:
        student: (B, C) logits, or (B, C, H, W) with i over rows and pixels.
        teacher: logits of the same shape, without gradient.
        temperature: T, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.
        standardize: whether both logits are standardised (`standardize_logits`) before they are divided by T.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher, valid)  # equal, so at a distance of 0
    if standardize:
        student, teacher = standardize_logits(student), standardize_logits(teacher)
    log_p = F.log_softmax(teacher.detach() / temperature, dim=1)
    log_q = F.log_softmax(student / temperature, dim=1)
    positions = count_rows(student, valid) * student.shape[2:].numel()
    return sum_kl(log_p, log_q, valid) / at_least_one(positions) * temperature**2


@full_precision
def squared_error(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared error over rows and dimensions, as in feature distillation (FitNets, Romero et al. 2015, eq. 3).

    Args:
        student: (B, D), or (B, …).
        teacher: of the same shape, without gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    numbers = count_rows(student, valid) * student.shape[1:].numel()
    return F.mse_loss(student, teacher, reduction="sum") / at_least_one(numbers)


@full_precision
def cosine_distance(
    student: Tensor, teacher: Tensor, weight: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """mean_i w_i (1 − cos(student_i, teacher_i)).

    Rows of norm 0 count as cosine 0 and get a gradient of 0, where the cosine itself has none.
    Source: Aslam et al., CVPRW 2023 (privileged KD with adaptive weighting).

    Args:
        student: (B, D).
        teacher: (B, D), without gradient.
        weight: (B,) in [0, 1], or None for 1.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher, valid)
    somewhere = (student != 0).any(-1)  # the cosine has no gradient at a row of zeros
    distance = 1 - F.cosine_similarity(student, teacher.detach(), dim=-1) * somewhere
    return mean_over_rows(distance if weight is None else distance * weight, valid)
