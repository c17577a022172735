"""Losses between distributions: of rows (MMD) and of predictions (Jensen-Shannon, Jeffreys)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from sidelight.losses.common import at_least_one, check_rows, count_rows, mean_row, sum_kl, zero_padding
from sidelight.losses.pointwise import soft_label_kl
from sidelight.transport.double_backward import refuse_double_backward
from sidelight.utils.precision import full_precision


@full_precision
def gaussian_mmd(
    student: Tensor, teacher: Tensor, kernels: int = 5, factor: float = 2.0, valid: Tensor | None = None
) -> Tensor:
    """Squared maximum mean discrepancy with a sum of Gaussian kernels (biased estimate).

    MMD² = mean K(s, s) + mean K(t, t) − 2 mean K(s, t), K = Σ_i exp(−d² / (b · factor^i)), i = 0 … kernels − 1, with
    b = (mean pairwise squared distance over s ∪ t, self excluded) / factor^(kernels // 2), without gradient.
    Source: OS-MD (arXiv 2309.08204) eq. 1-3; the bandwidths of Long et al. 2015 as released, since OS-MD names none.

    Args:
        student: (B, D).
        teacher: (B', D), without gradient.
        kernels: number of kernels.
        factor: ratio of consecutive bandwidths.
        valid: (B,) bool, False for padding rows of both (then B' = B), which do not count; None: every row is real.

    Returns:
        A scalar ≥ 0; 0 with a gradient of 0 where a set is empty or all rows of both are the same.
    """
    teacher = teacher.detach()
    if valid is not None:
        return _padded_mmd(student, teacher, kernels, factor, valid)
    a, b = len(student), len(teacher)
    if a == 0 or b == 0:
        return student.sum() * 0
    centre = torch.cat([student.detach(), teacher]).mean(0)  # centred rows have the same distances, with more digits
    x, y = student - centre, teacher - centre
    # Σ_ij |z_i − z_j|² = 2 n Σ_i |z_i|² for n centred rows; below the rounding of the centre, all rows are the same
    spread = x.detach().square().sum() + y.square().sum()
    rounding = (a + b) * (8 * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(centre)) ** 2
    bandwidth = 2 * spread / (a + b - 1) / factor ** (kernels // 2)
    rate = torch.where(spread > rounding, 1 / bandwidth, 0.0)
    rates = [rate / factor**i for i in range(kernels)]
    with torch.no_grad():  # the teacher's own term has no gradient, but belongs to the value
        among_teachers = _sum_kernels(_squared_distances_between(y, y), rates)[0].mean()
    k: Tensor = _Kernels.apply(_squared_distances_between(x, torch.cat([x, y])), rates)  # type: ignore[no-untyped-call]
    return k[:, :a].mean() + among_teachers - 2 * k[:, a:].mean()


def _padded_mmd(student: Tensor, teacher: Tensor, kernels: int, factor: float, valid: Tensor) -> Tensor:
    """:func:`gaussian_mmd` with padding rows, without a branch on a value, so that it runs under `torch.vmap`."""
    x, y = zero_padding(student, valid), zero_padding(teacher, valid)
    n, pairs = at_least_one(valid.sum()), valid[:, None] & valid
    centre = (mean_row(x.detach(), valid) + mean_row(y, valid)) / 2
    x, y = zero_padding(x - centre, valid), zero_padding(y - centre, valid)
    spread = x.detach().square().sum() + y.square().sum()
    rounding = 2 * n * (8 * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(centre)) ** 2
    bandwidth = 2 * spread / (2 * n - 1) / factor ** (kernels // 2)
    rate = torch.where(spread > rounding, 1 / bandwidth, 0.0)

    def mean_kernel(one: Tensor, other: Tensor) -> Tensor:
        squares = one.square().sum(1)[:, None] + other.square().sum(1)
        distance = (squares - 2 * one @ other.T).clamp(min=0)
        kernel = torch.stack([torch.exp(distance * (-rate / factor**i)) for i in range(kernels)]).sum(0)
        return kernel.where(pairs, 0.0).sum() / n**2

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)


def _squared_distances_between(x: Tensor, y: Tensor) -> Tensor:
    """|x_i − y_j|² (B, B') between rows (B, D) and (B', D)."""
    squares = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.addmm(squares, x, y.T, alpha=-2).clamp_(min=0)


def _sum_kernels(distance: Tensor, rates: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Σ_i exp(−r_i d) and its derivative by d."""
    total, slope = torch.zeros_like(distance), torch.zeros_like(distance)
    for rate in rates:
        kernel = (distance * -rate).exp_()
        total += kernel
        slope -= kernel.mul_(rate)
    return total, slope


class _Kernels(Function):
    """:func:`_sum_kernels` with one matrix kept for the backward pass instead of two per kernel."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, rates: list[Tensor]) -> Tensor:
        total, slope = _sum_kernels(distance, rates)
        ctx.save_for_backward(slope, distance)
        return total

    @staticmethod
    @refuse_double_backward("gaussian_mmd is differentiable once: leave out create_graph")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        slope, _ = ctx.saved_tensors
        return grad * slope, None


def sampled_positions(
    *maps: Tensor, samples: int | None, generator: torch.Generator | None = None, channels: int = 1
) -> list[Tensor]:
    """Rows of maps at random positions, the same in all maps.

    Positions are drawn without replacement over the whole batch, so that a loss over pairs of rows costs O(samples²)
    however large the maps are. Source: our reading of OS-MD eq. 2 for dense tasks, which the paper does not specify.

    Args:
        maps: (B, C, ...) of equal batch and extent.
        samples: n, the number of positions; None, or more than there are, for every position.
        generator: source of random numbers.
        channels: the dimension of C (1 for maps, −1 for tokens (B, T, C)).

    Returns:
        Rows (n, C) of each map.

    Raises:
        ValueError: The maps differ in batch or extent.
    """
    rows = [x.movedim(channels, -1) for x in maps]
    extents = {tuple(x.shape[:-1]) for x in rows}
    if len(extents) != 1:
        raise ValueError(f"maps need the same batch and extent to be sampled together, got {sorted(extents)}")
    flat = [x.reshape(-1, x.shape[-1]) for x in rows]
    n = len(flat[0])
    if samples is None or samples >= n:
        return flat
    device = generator.device if generator is not None else flat[0].device
    index = torch.randperm(n, generator=generator, device=device)[:samples].to(flat[0].device)
    return [x[index] for x in flat]


def joint_adaptation(
    student: Tensor, teacher: Tensor, student_logits: Tensor, teacher_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """The two parts of OS-MD's L_JDN (eq. 7): the distance of marginal and of conditional distributions.

    (MMD²(φ_s, φ_p) (eq. 2), mean_i KL(p_i ‖ q_i) (eq. 5)) with p the softmax of the privileged branch (teacher) and q
    that of the hallucination branch (student). Source: arXiv 2309.08204, eq. 1-7. Our reading: eq. 5 leaves out "j =
    i", which compares a sample's number with a class's, so all classes count; and it sums over samples, which we
    average, so that the weight of the term does not depend on the batch size.

    Args:
        student: (B, D) features (for maps, use :func:`sampled_positions`).
        teacher: (B, D) features, without gradient.
        student_logits: (B', C).
        teacher_logits: (B', C), without gradient.

    Returns:
        Two scalars.
    """
    return gaussian_mmd(student, teacher), soft_label_kl(student_logits, teacher_logits, temperature=1.0)


@full_precision
def cross_translation(hallucinated: Sequence[Tensor], ordinary: Sequence[Tensor]) -> Tensor:
    """OS-MD's L_CTN: Σ_b MSE(T_b(φ_s), T_b(φ_o)) over the transform blocks T_b.

    Source: arXiv 2309.08204, eq. 8. Our reading: neither side is detached, since the blocks are shared and the
    paper names no stop-gradient; the task's loss on the same maps keeps them from shrinking.

    Args:
        hallucinated: the blocks' outputs for the hallucinated representation.
        ordinary: their outputs for the ordinary representation, of equal shapes.

    Returns:
        A scalar, with a gradient to both sides.

    Raises:
        ValueError: The numbers of outputs differ, or there is none.
    """
    if len(hallucinated) != len(ordinary) or not hallucinated:
        raise ValueError(f"each block needs both outputs, got {len(hallucinated)} and {len(ordinary)}")
    parts = [F.mse_loss(s, o, reduction="sum") / max(1, s.numel()) for s, o in zip(hallucinated, ordinary)]
    return torch.stack(parts).sum()


@full_precision
def jensen_shannon(student: Tensor, teacher: Tensor, detach: bool = True, valid: Tensor | None = None) -> Tensor:
    """Lin's Jensen-Shannon divergence between predictions, between 0 and log 2.

    mean_i [KL(p_i ‖ m_i) + KL(q_i ‖ m_i)] / 2, m = (p + q) / 2, with p, q the softmax of the logits, natural logarithm.
    Source: Lin 1991, eq. 3.14 with equal weights.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits.
        detach: whether the teacher gets no gradient; False for a teacher that learns along (AMID eq. 16).
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    log_q, log_p = _log_probabilities(student, teacher, detach, valid)
    log_m = torch.logaddexp(log_q, log_p) - torch.log(log_q.new_tensor(2.0))
    return (_mean_kl(log_p, log_m, valid) + _mean_kl(log_q, log_m, valid)) / 2


@full_precision
def jeffreys(student: Tensor, teacher: Tensor, detach: bool = True, valid: Tensor | None = None) -> Tensor:
    """Half of Jeffreys' divergence between predictions, which released code calls the Jensen-Shannon divergence.

    mean_i [KL(p_i ‖ q_i) + KL(q_i ‖ p_i)] / 2, with p, q the softmax of the logits. Source: the released code of CCL
    (Chen et al., CVPR 2021), halved; Lin 1991, eq. 2.3.

    Args:
        student: (B, C) logits.
        teacher: (B, C) logits.
        detach: whether the teacher gets no gradient.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no row.
    """
    log_q, log_p = _log_probabilities(student, teacher, detach, valid)
    return (_mean_kl(log_p, log_q, valid) + _mean_kl(log_q, log_p, valid)) / 2


def _log_probabilities(student: Tensor, teacher: Tensor, detach: bool, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of padding rows both are uniform: at a divergence of 0."""
    check_rows(student, teacher, same_width=True)
    student, teacher = zero_padding(student, valid), zero_padding(teacher, valid)
    return F.log_softmax(student, dim=1), F.log_softmax(teacher.detach() if detach else teacher, dim=1)


def _mean_kl(log_p: Tensor, log_q: Tensor, valid: Tensor | None) -> Tensor:
    return sum_kl(log_p, log_q, valid) / at_least_one(count_rows(log_p, valid))
