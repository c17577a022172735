"""Variants of soft labels: decoupled by the label (DKD), and correlations in place of distances (DIST)."""

from __future__ import annotations

import torch
from torch import Tensor

from sidelight.losses.common import at_least_one, count_rows, zero_padding
from sidelight.losses.pointwise import standardize_logits
from sidelight.utils.precision import full_precision

EPSILON = 1e-8
"""Added to squared norms: a constant row or column has correlation 0, with a gradient that is bounded."""


@full_precision
def decoupled_kl(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    valid: Tensor | None = None,
    standardize: bool = False,
) -> Tensor:
    """Decoupled distillation: the label against the rest, and the rest among themselves.

    T² · mean_i [α KL(b_t ‖ b_s) + β KL(n_t ‖ n_s)], b = (p_y, 1 − p_y) and n the softmax over the other C − 1 classes,
    both at T. The KL divergence of soft labels is the first part + (1 − p_t,y) times the second. With two classes n is
    (1), so that α times the KL divergence is left. A row without a label has the KL divergence itself (our choice).
    Source: Zhao et al., CVPR 2022, its released code, with logsumexp in place of the logarithm of a sum, which
    underflows.

    Args:
        student: (B, C) logits, or (B, C, H, W) with i over rows and pixels; C ≥ 2.
        teacher: logits of the same shape, without gradient.
        labels: (B,) or (B, H, W) class codes, below 0 without a label.
        alpha: α.
        beta: β.
        temperature: T, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.
        standardize: whether both logits are standardised (`standardize_logits`) before they are divided by T.

    Returns:
        A scalar, 0 for no row.

    Raises:
        ValueError: There is one class.
    """
    classes = student.shape[1]
    if classes < 2:
        raise ValueError(f"decoupled soft labels need two classes or more, not {classes}")
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    if standardize:
        student, teacher = standardize_logits(student), standardize_logits(teacher)
    codes = torch.arange(classes, device=labels.device).view(1, -1, *[1] * (labels.ndim - 1))
    target = labels.unsqueeze(1) == codes  # without a label, no class: all are "others"
    p_label, p_rest, log_p = _decouple(teacher / temperature, target)
    q_label, q_rest, log_q = _decouple(student / temperature, target)
    of_label = p_label.exp() * (p_label - q_label) + p_rest.exp() * (p_rest - q_rest)
    of_others = (log_p.exp() * (log_p - log_q)).masked_fill(target, 0.0).sum(1)
    each = torch.where(labels >= 0, alpha * of_label + beta * of_others, of_others)
    positions = count_rows(student, valid) * student.shape[2:].numel()
    return zero_padding(each, valid).sum() / at_least_one(positions) * temperature**2


def _decouple(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p_y and log(1 − p_y), (B, ...), 0 without a label; and log softmax of the other classes (0 at the label)."""
    log_p = z.log_softmax(1)
    others = z.masked_fill(target, -torch.inf)
    label = log_p.where(target, 0.0).sum(1)
    rest = others.logsumexp(1) - z.logsumexp(1)
    return label, rest, others.log_softmax(1).masked_fill(target, 0.0)


@full_precision
def column_correlation(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 − the mean over columns of Pearson's correlation between student and teacher over the rows.

    Source: the intra-class part of DIST (Huang et al., NeurIPS 2022); of values instead of probabilities it is our
    choice. A constant column has correlation 0.

    Args:
        student: (B, K).
        teacher: (B, K), without gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    n = count_rows(student, valid)
    ours, theirs = (zero_padding(x - x.sum(0) / at_least_one(n), valid) for x in (student, teacher))
    apart = 1 - _cosines(ours, theirs, 0).mean()
    return apart * (n > 0)


@full_precision
def dist(
    student: Tensor,
    teacher: Tensor,
    inter: float = 1.0,
    intra: float = 1.0,
    temperature: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Correlations of predictions: of the classes within a row, and of the rows within a class.

    T² [β (1 − mean_i ρ(p_s,i, p_t,i)) + γ (1 − mean_c ρ(p_s,·c, p_t,·c))], ρ Pearson's correlation of the softmax at T.
    With two classes every row has ρ = ±1 without a gradient, so that the second part alone teaches. Source: Huang et
    al., NeurIPS 2022 (DIST); the released code adds 1e-8 to the product of the norms, we to the square of each.

    Args:
        student: (B, C) logits, or (B, C, H, W) with pixels as rows.
        teacher: logits of the same shape, without gradient.
        inter: β, the weight of the classes within a row.
        intra: γ, the weight of the rows within a class.
        temperature: T, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    if valid is not None:
        valid = valid.view(-1, *[1] * (student.ndim - 2)).expand(-1, *student.shape[2:]).reshape(-1)
    q, p = (x.movedim(1, -1).flatten(0, -2) for x in (student, teacher.detach()))
    q, p = ((zero_padding(x, valid) / temperature).softmax(1) for x in (q, p))
    ours, theirs = (x - x.mean(1, keepdim=True) for x in (q, p))
    rows = zero_padding(1 - _cosines(ours, theirs, 1), valid).sum() / at_least_one(count_rows(q, valid))
    return temperature**2 * (inter * rows + intra * column_correlation(q, p, valid))


def _cosines(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Cosines along a dimension, in which a vector of zeros has a cosine of 0 and a bounded gradient."""
    squares = (one.square().sum(dim) + EPSILON) * (other.square().sum(dim) + EPSILON)
    return (one * other).sum(dim) / squares.sqrt()
