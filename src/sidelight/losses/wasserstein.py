"""Wasserstein distances: of class probabilities under costs between classes, and of diagonal Gaussians of features."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import at_least_one, check_rows, count_rows, mean_over_rows, normalise_rows, zero_padding
from sidelight.utils.precision import full_precision

Costs = Literal["cka", "centroid", "uniform"]
MOST_ROWS = 256
"""The rows of a class that its costs are computed from, at most."""
EPSILON = 1e-8


@full_precision
def class_costs(embedding: Tensor, labels: Tensor, classes: int, kind: Costs = "cka", sharpness: float = 1.0) -> Tensor:
    """Costs of moving probability between two classes, 1 − exp(−κ d), d = 1 − the similarity of the classes.

    "cka": linear CKA of the rows of the two, cut to the smallest class of two rows or more; the nth row of one is
    paired with the nth of the other, in the order of the rows, as in the released code. A class with fewer rows has
    d = 1 to all others. "centroid": the cosine of the mean rows of the two, around the mean of all (our choice).
    "uniform": d = 1 between any two classes, the control of the others. Source: WKD (Lv et al., NeurIPS 2024), its
    released code.

    Args:
        embedding: (N, D) of the teacher.
        labels: (N,) class codes, below 0 for rows that do not count.
        classes: C.
        kind: what the similarity is.
        sharpness: κ.

    Returns:
        (C, C), 0 on the diagonal.
    """
    apart = 1 - torch.eye(classes, dtype=embedding.dtype, device=embedding.device)
    rows = [(labels == c).nonzero()[:, 0] for c in range(classes)]  # over classes, once in a training
    if kind == "uniform":
        similarity = torch.zeros_like(apart)
    elif kind == "centroid":
        centre = embedding[labels >= 0].mean(0)
        means = [embedding[r].mean(0) - centre if len(r) else torch.zeros_like(centre) for r in rows]
        unit = normalise_rows(torch.stack(means))
        similarity = unit @ unit.T
    else:
        similarity = _compute_cka(embedding, rows)
    return (1 - torch.exp(-sharpness * (1 - similarity).clamp(min=0))) * apart


def _compute_cka(embedding: Tensor, rows: list[Tensor]) -> Tensor:
    """Linear CKA (C, C): cosines of the centred Gram matrices of equally many rows; 0 to a class of one row or none."""
    n = min((len(r) for r in rows if len(r) > 1), default=0)
    n = min(n, MOST_ROWS)
    grams = embedding.new_zeros(len(rows), n * n)
    for c, r in enumerate(rows):
        if len(r) > 1:
            x = embedding[r[:n]]
            x = x - x.mean(0)
            grams[c] = (x @ x.T).flatten()
    unit = normalise_rows(grams) if n else grams
    return unit @ unit.T


@full_precision
def class_transport(
    student: Tensor, teacher: Tensor, costs: Tensor, regularisation: float = 0.05, iterations: int = 10
) -> Tensor:
    """Entropic cost of transport between the class probabilities of each row, by a few Sinkhorn iterations.

    Σ_ij u_i K_ij v_j c_ij with K = exp(−c / η), v then u scaled in turn; without the entropy. As it is biased, equal
    probabilities cost more than 0. Source: WKD (Lv et al., NeurIPS 2024), its released code.

    Args:
        student: (B, C) probabilities; classes with 0 on both sides are left out.
        teacher: (B, C) probabilities.
        costs: (C, C).
        regularisation: η.
        iterations: of u and v; the gradient runs through them.

    Returns:
        (B,).
    """
    kernel = torch.exp(-costs / regularisation)
    u = (teacher > 0).to(student) / at_least_one((teacher > 0).sum(1, keepdim=True))
    v = u
    for _ in range(iterations):
        v = teacher / (u @ kernel + EPSILON)
        u = student / (v @ kernel.T + EPSILON)
    return (u * (v @ (kernel * costs).T)).sum(1)


@full_precision
def wasserstein_logits(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    costs: Tensor,
    transport: float = 30.0,
    temperature: float = 2.0,
    regularisation: float = 0.05,
    iterations: int = 10,
    valid: Tensor | None = None,
) -> Tensor:
    """WKD-L: the probability of the label, and transport between those of the other classes.

    mean_i [−p_t,y log p_s,y + λ W(n_s, n_t)], n the softmax at T over the C − 1 classes that are not the label, W
    `class_transport`. Source: WKD (Lv et al., NeurIPS 2024), its released code. With two classes W is 0. A row without
    a label has λ W over all classes alone (our choice).

    Args:
        student: (B, C) logits, C ≥ 2.
        teacher: (B, C) logits, without gradient.
        labels: (B,) class codes, below 0 without a label.
        costs: (C, C), as from `class_costs`.
        transport: λ.
        temperature: T of W, above 0.
        regularisation: η.
        iterations: of Sinkhorn.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.

    Raises:
        ValueError: There is one class.
    """
    check_rows(student, teacher, same_width=True)
    if student.shape[1] < 2:
        raise ValueError("transport between classes needs two classes or more, not 1")
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    target = labels[:, None] == torch.arange(student.shape[1], device=labels.device)
    p, log_q = teacher.softmax(1), student.log_softmax(1)
    of_label = -(p * log_q).where(target, 0.0).sum(1)
    ours, theirs = ((x / temperature).masked_fill(target, -torch.inf).softmax(1) for x in (student, teacher))
    moved = class_transport(ours, theirs, costs.to(student), regularisation, iterations)
    return mean_over_rows(of_label + transport * moved, valid)


@full_precision
def gaussian_wasserstein(
    student: Tensor, teacher: Tensor, mean: float = 2.0, valid: Tensor | None = None, grid: int = 0
) -> Tensor:
    """WKD-F: the squared Wasserstein distance of diagonal Gaussians, r Σ_d (μ_s − μ_t)² + Σ_d (σ_s − σ_t)².

    σ = √(var + 1e-5), unbiased. Over the rows of a batch (our choice, where rows are vectors), or over the positions of
    each cell of a grid of a map, with the mean over rows and cells. Source: WKD (Lv et al., NeurIPS 2024), its released
    code. A single row or position has a variance of 0.

    Args:
        student: (B, D), or maps (B, D, h, w) with `grid`.
        teacher: of the same shape, without gradient.
        mean: r, the weight of the means.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.
        grid: g, the cells of a map along each side; 0: rows are vectors.

    Returns:
        A scalar, 0 for no row.
    """
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    if grid:
        (m, s), (n, t) = _describe_cells(student, grid), _describe_cells(teacher, grid)
        each = (mean * (m - n).square() + (s - t).square()).sum(1).mean((1, 2))
        return mean_over_rows(each, valid)
    check_rows(student, teacher, same_width=True)
    (m, s), (n, t) = _describe_rows(student, valid), _describe_rows(teacher, valid)
    return (mean * (m - n).square() + (s - t).square()).sum()


def _describe_rows(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and spread (D,) of the rows."""
    n = count_rows(x, valid)
    mean = x.sum(0) / at_least_one(n)
    variance = zero_padding(x - mean, valid).square().sum(0) / at_least_one(n - 1)
    return mean, (variance + 1e-5).sqrt()


def _describe_cells(x: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Mean and spread (B, D, g, g) of the positions of each cell."""
    centre = x.detach().mean((2, 3), keepdim=True)  # the square of a large mean would cost digits
    mean = F.adaptive_avg_pool2d(x - centre, grid)
    square = F.adaptive_avg_pool2d((x - centre).square(), grid)
    sides = [[-(-(i + 1) * side // grid) - i * side // grid for i in range(grid)] for side in x.shape[2:]]
    count = torch.tensor(sides[0], device=x.device)[:, None] * torch.tensor(sides[1], device=x.device)
    count = count.to(x)
    variance = (square - mean.square()).clamp(min=0) * count / (count - 1).clamp(min=1)
    return mean + centre, (variance + 1e-5).sqrt()
