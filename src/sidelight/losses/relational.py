"""Losses between the relations of rows within a batch; student and teacher may have different widths."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from sidelight.losses.by_model import apply_by_model
from sidelight.losses.common import (
    at_least_one,
    check_rows,
    count_rows,
    normalise_rows,
    pairwise_squared_distances,
    zero_padding,
)
from sidelight.losses.pointwise import squared_error
from sidelight.transport.double_backward import refuse_double_backward
from sidelight.utils.precision import full_precision


@full_precision
def rkd_distance(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Relational distillation of distances (RKD-D).

    mean_ij huber(d(s_i, s_j) / μ_s − d(t_i, t_j) / μ_t), huber(x) = x²/2 for |x| < 1 and |x| − 1/2 beyond, d the
    Euclidean distance and μ its mean over different rows of the batch. Rows in the same place are at distance 0 with a
    gradient of 0. Source: Park et al. 2019, eq. 5-7; the mean runs over all B² pairs as in the released code.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for fewer than two rows.
    """
    return _compare_distances(*_squared_distances_of_both(student, teacher, valid), valid)


@full_precision
def rkd_angle(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Relational distillation of angles (RKD-A).

    mean_ijk huber(cos ∠(s_j, s_i, s_k) − cos ∠(t_j, t_i, t_k)), with row i the vertex; an angle with a side of length
    0 has cosine 0 and a gradient of 0. Angles follow from squared distances and are computed a block of sides at a
    time, in O(B²) memory. Differentiable once. Source: Park et al. 2019, eq. 8-10; the mean runs over all B³ triples
    as in the released code.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar.
    """
    return _compare_angles(*_squared_distances_of_both(student, teacher, valid), valid)


@full_precision
def rkd(
    student: Tensor, teacher: Tensor, distance: float = 25.0, angle: float = 50.0, valid: Tensor | None = None
) -> Tensor:
    """Relational distillation: ``distance`` · RKD-D + ``angle`` · RKD-A.

    Source: Park et al. 2019, eq. 5-10, with the weights of the released code's comparison on classification (25, 50).

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        distance: weight of :func:`rkd_distance`.
        angle: weight of :func:`rkd_angle`.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar.
    """
    s, t = _squared_distances_of_both(student, teacher, valid)  # both terms read them
    return distance * _compare_distances(s, t, valid) + angle * _compare_angles(s, t, valid)


@full_precision
def dask(
    student: Tensor,
    teacher: Tensor,
    distance: float = 25.0,
    angle: float = 50.0,
    point: float = 1.0,
    valid: Tensor | None = None,
) -> Tensor:
    """Global and local knowledge: ``distance`` · RKD-D + ``angle`` · RKD-A + ``point`` · MSE.

    Source: the DASK baseline of OS-MD (arXiv 2309.08204, sec. 4), Ni et al., ICASSP 2022; the weights 25, 50, 1 are
    those of the released code.

    Args:
        student: (B, D).
        teacher: (B, D), without gradient.
        distance: weight of :func:`rkd_distance`.
        angle: weight of :func:`rkd_angle`.
        point: weight of :func:`squared_error`.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar.
    """
    check_rows(student, teacher, same_width=True)
    return rkd(student, teacher, distance, angle, valid) + point * squared_error(student, teacher, valid)


@full_precision
def similarity_preserving(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """Similarity-preserving distillation.

    ‖G_s − G_t‖²_F / B², G = Z Zᵀ with rows divided by their norm. A row of Z at 0 has a row of G at 0. Source: Tung &
    Mori 2019, eq. 1-4.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar.
    """
    check_rows(student, teacher)
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    g_s, g_t = normalise_rows(student @ student.T), normalise_rows(teacher @ teacher.T)
    return F.mse_loss(g_s, g_t, reduction="sum") / at_least_one(count_rows(student, valid) ** 2)


@full_precision
def pkt(student: Tensor, teacher: Tensor, epsilon: float = 1e-7, valid: Tensor | None = None) -> Tensor:
    """Probabilistic knowledge transfer.

    mean_ij p_ij log((p_ij + ε) / (q_ij + ε)), p (teacher) and q (student) the rows of (1 + cos) / 2, divided by their
    sum. Rows at 0 have cosine 0. Source: Passalis & Tefas 2018, eq. 4-9, with the released code's cosine kernel: its
    rows include the row itself, and its mean runs over all B² pairs, not over rows.

    Args:
        student: (B, D).
        teacher: (B, D'), without gradient.
        epsilon: ε, which keeps the logarithm finite.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    check_rows(student, teacher)
    q, p = _compute_affinities(student, valid), _compute_affinities(teacher.detach(), valid)
    return (p * torch.log((p + epsilon) / (q + epsilon))).sum() / at_least_one(count_rows(p, valid) ** 2)


def _compute_affinities(z: Tensor, valid: Tensor | None) -> Tensor:
    """Conditional probabilities (B, B) from cosines: each row sums to 1; those of and to padding rows are 0."""
    unit = normalise_rows(zero_padding(z, valid))
    kernel = (unit @ unit.T + 1) / 2
    if valid is not None:
        kernel = kernel.where(valid[:, None] & valid, 0.0)
        return kernel / kernel.sum(1, keepdim=True).where(valid[:, None], 1.0)
    return kernel / kernel.sum(1, keepdim=True)  # at least 1/2: the row itself


def _squared_distances_of_both(student: Tensor, teacher: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """The squared distances (B, B) between the rows of each; 0 to a padding row, as between equal rows."""
    check_rows(student, teacher)
    s, t = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    return pairwise_squared_distances(s, valid), pairwise_squared_distances(t, valid)


def _compare_distances(s: Tensor, t: Tensor, valid: Tensor | None) -> Tensor:
    n = count_rows(s, valid)
    return F.smooth_l1_loss(_divide_by_mean(s, n), _divide_by_mean(t, n), reduction="sum") / at_least_one(n * n)


def _divide_by_mean(squared: Tensor, n: int | Tensor) -> Tensor:
    """Distances divided by their mean over the pairs of ``n`` different rows; the root has no gradient at 0."""
    apart = squared > 0
    distance = torch.where(apart, squared.where(apart, 1.0).sqrt(), 0.0)
    mean = distance.sum() / at_least_one(n * n - n)
    return distance / mean.where(mean > 0, 1.0)


def _compare_angles(s: Tensor, t: Tensor, valid: Tensor | None) -> Tensor:
    # Sides to padding rows have length 0, so their angles have cosine 0 on both sides.
    value: Tensor
    if valid is None:
        value = _Angles.apply(s, t)  # type: ignore[no-untyped-call]
        return value
    value = apply_by_model(_angles_of_models, s, t)
    return value / at_least_one(valid.sum() ** 3)


# Rows in a block, and the numbers that fit in the cache: blocks of many rows get smaller.
BLOCK, CACHE = 8, 2**18


class _Angles(Function):
    """Mean Huber loss of all cosines of angles, from the squared distances of student and teacher."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor) -> Tensor:
        value, grad = _sum_angles(s, t, ctx.needs_input_grad[0])
        half = max(1, len(s) ** 3) / 2
        ctx.save_for_backward(grad / half if grad is not None else None, s)
        return value / half

    @staticmethod
    @refuse_double_backward("the angle term of rkd and dask is differentiable once: leave out create_graph")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        slope, _ = ctx.saved_tensors
        return grad * slope, None


def _angles_of_models(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Sums (M,) over all triples, and gradients (M, B, B), for squared distances (M, B, B)."""
    values, gradients = zip(*[_sum_angles(own, other, True) for own, other in zip(s, t)])
    return 2 * torch.stack(values), 2 * torch.stack(gradients)


def _sum_angles(s: Tensor, t: Tensor, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """Half the sum over all triples of the Huber loss of cosines, and its gradient where it is wanted.

    The two sides of an angle come in two orders: j runs over a block of rows, k from the block's first row on, and each
    pair of a j in the block and a k after it stands for both. The vertex i is the last dimension.
    """
    n = len(s)
    inverse_s, inverse_t = _inverse_root(s), _inverse_root(t)
    value, grad = s.new_zeros(()), torch.zeros_like(s) if wanted else None
    step = max(4, min(BLOCK, CACHE // max(1, n * n)))
    for start in range(0, n, step):
        first, second = slice(start, start + step), slice(start, n)
        # huber(x) = slope · (x − slope / 2), with slope = x clamped to [−1, 1]
        cosine = _cosines(s, inverse_s, first, second)
        difference = _cosines(t, inverse_t, first, second).neg_().add_(cosine)
        slope = difference.clamp(-1, 1)
        difference.add_(slope, alpha=-0.5)
        slope[:, :step] /= 2  # with j and k both in the block, both orders are already there
        value += torch.dot(slope.flatten(), difference.flatten())
        if grad is not None:
            _add_gradient(grad, inverse_s, cosine, slope, first, second)
    return value, grad


def _inverse_root(squared: Tensor) -> Tensor:
    """1 / √(2 d): the product of two of them halves the sum of three distances; 0 where d is 0."""
    apart = squared > 0
    return torch.where(apart, (2 * squared).where(apart, 1.0).rsqrt(), 0.0)


def _cosines(squared: Tensor, inverse: Tensor, first: slice, second: slice) -> Tensor:
    """cos_jki = (d_ij + d_ik − d_jk) / (2 √d_ij √d_ik) of j in ``first`` and k in ``second``, (b, c, B)."""
    cosine = squared[first, None] + squared[second]
    return cosine.sub_(squared[first, second, None]).mul_(inverse[first, None]).mul_(inverse[second])


def _add_gradient(grad: Tensor, inverse: Tensor, cosine: Tensor, slope: Tensor, first: slice, second: slice) -> None:
    """Add Σ slope · ∂cos by d_ij, d_ik and d_jk to ``grad``; cosine and slope are used up."""
    cosine.mul_(slope)
    share = slope.mul_(inverse[first, None]).mul_(inverse[second])
    grad[first] += share.sum(1) - cosine.sum(1) * inverse[first].square()
    grad[second] += share.sum(0) - cosine.sum(0) * inverse[second].square()
    grad[first, second] -= share.sum(2)
