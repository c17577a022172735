"""Shared by the losses over rows: checks of shapes, padding rows, rows of norm 1, squared distances."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def check_rows(student: Tensor, teacher: Tensor, *, same_width: bool = False) -> None:
    """Refuse embeddings that do not have one row per sample.

    Args:
        student: (B, D) embeddings of the student.
        teacher: (B, D') embeddings of the teacher.
        same_width: whether D and D' must be equal, for losses that compare rows of one with rows of the other.

    Raises:
        ValueError: The shapes do not fit.
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        expected = "student (B, D) and teacher (B, D') need one row per sample"
    elif same_width and student.shape[1] != teacher.shape[1]:
        expected = "rows of student and teacher need the same width (a linear map of one of them gives it)"
    else:
        return
    raise ValueError(f"{expected}, got {tuple(student.shape)} and {tuple(teacher.shape)}")


def check_labels(labels: Tensor, rows: Tensor) -> None:
    """Refuse labels that are not one integer class code per row."""
    if labels.shape != rows.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels need one class code per row ({len(rows)},), got {labels.dtype} {tuple(labels.shape)}")


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """Rows (B, …) with zeros in the padding rows, whatever they held, and no gradient there; `x` itself without any.

    Args:
        x: (B, …).
        valid: (B,) bool, False for padding rows; None: every row is real.
    """
    return x if valid is None else x.where(valid.view(-1, *[1] * (x.ndim - 1)), 0.0)


def count_rows(x: Tensor, valid: Tensor | None) -> int | Tensor:
    """The number of rows of `x` (B, …) that are no padding: an int, or a scalar tensor where there may be padding."""
    return len(x) if valid is None else valid.sum()


def at_least_one(count: int | Tensor) -> int | Tensor:
    """A number of rows or of pairs to divide by: 1 where it is 0."""
    return count.clamp(min=1) if isinstance(count, Tensor) else max(1, count)


def mean_over_rows(per_row: Tensor, valid: Tensor | None) -> Tensor:
    """The mean of (B,) over the rows that are no padding; 0 without any."""
    return zero_padding(per_row, valid).sum() / at_least_one(count_rows(per_row, valid))


def sum_kl(log_p: Tensor, log_q: Tensor, valid: Tensor | None) -> Tensor:
    """Σ_i KL(p_i ‖ q_i) over rows (B, …) of log-probabilities, those of padding rows included."""
    if valid is None:
        return F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return (log_p.exp() * (log_p - log_q)).sum()  # `torch.vmap` would call kl_div once for each model


def normalise_rows(z: Tensor) -> Tensor:
    """Rows (B, D) divided by their norms; a row whose square underflows counts as 0 and gets a gradient of 0."""
    # The inner `where` keeps 0 / 0, and with it NaN, out of the gradient.
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    somewhere = norm > torch.finfo(z.dtype).tiny ** 0.5
    return torch.where(somewhere, z / norm.where(somewhere, 1.0), 0.0)


def pairwise_squared_distances(z: Tensor, valid: Tensor | None = None) -> Tensor:
    """|z_i − z_j|² (B, B) between rows (B, D), with gradient; 0 where it is less than the rounding of the squares.

    Args:
        z: (B, D).
        valid: (B,) bool, False for padding rows, whose distances are 0; None: every row is real.
    """
    z = z - mean_row(z.detach(), valid)  # distances are the same, and lose fewer digits to cancellation
    squares = z.square().sum(1)
    total = squares[:, None] + squares[None]
    distance = torch.addmm(total, z, z.T, alpha=-2)
    apart = distance > 4 * torch.finfo(z.dtype).eps * total
    if valid is not None:
        return distance.where(apart & different_pairs(valid), 0.0)
    return distance.where(apart.fill_diagonal_(False), 0.0)


def mean_row(z: Tensor, valid: Tensor | None) -> Tensor:
    """The mean (D,) of the rows (B, D) that are no padding; of padding rows, which must hold zeros, none counts."""
    return z.mean(0) if valid is None else z.sum(0) / at_least_one(valid.sum())


def different_pairs(valid: Tensor) -> Tensor:
    """(B, B) bool, the pairs of two different rows that are no padding."""
    row = torch.arange(len(valid), device=valid.device)
    return valid[:, None] & valid & (row[:, None] != row)
