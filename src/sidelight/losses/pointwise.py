"""Point-to-point losses: one row of the student against the same row of the teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import at_least_one, count_rows, mean_over_rows, sum_kl, zero_padding
from sidelight.utils.precision import full_precision


@full_precision
def soft_label_kl(student: Tensor, teacher: Tensor, temperature: float = 4.0, valid: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence of softened predictions.

    T² · mean_i KL(softmax(teacher_i / T) ‖ softmax(student_i / T)). Source: Hinton et al. 2015, eq. 4; T = 4 as in the
    comparisons of PKDOT.

    Args:
        student: (B, C) logits, or (B, C, H, W) with i over rows and pixels.
        teacher: logits of the same shape, without gradient.
        temperature: T, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher, valid)  # equal, so at a distance of 0
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
