"""AMID's losses: a label-aware bound on mutual information and adversarial terms for conditional entropy.

Source: Chen et al., "Enhanced Multimodal Representation Learning with Cross-modal KD", CVPR 2023. No code was
published. Teacher and student learn together, so :func:`mutual_information` gives a gradient to both; detach the side
that must not move.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import check_labels, check_rows, normalise_rows
from sidelight.losses.contrastive import class_contrast
from sidelight.utils.precision import full_precision


@full_precision
def critic(anchor: Tensor, other: Tensor, temperature: float = 0.5) -> Tensor:
    """log h(M_i, S_j) = log softmax_j(cos(M_i, S_j) / τ).

    AMID eq. 7: the softmax runs over S, anchored at M.

    Args:
        anchor: (B, D) rows of the full-modality teacher M.
        other: (B, D) rows of the student S or of the auxiliary model A.
        temperature: τ, above 0.

    Returns:
        (B, B), with gradients to both.
    """
    check_rows(anchor, other, same_width=True)
    return F.log_softmax(normalise_rows(anchor) @ normalise_rows(other).T / temperature, dim=1)


@full_precision
def mutual_information(anchor: Tensor, other: Tensor, labels: Tensor, temperature: float = 0.5) -> Tensor:
    """Negative label-aware lower bound on the mutual information of M and S (or A), up to a constant.

    −1/B Σ_i [Σ_{j ∈ P_i} log h(M_i, S_j) + Σ_{j ∈ N_i} log(1 − h(M_i, S_j))], h of :func:`critic`, P_i the rows of
    i's class (i included), N_i the rows of other classes. A batch of one class has no second sum, one of singletons a
    first sum of one term each. log(1 − h) is exact, and its gradient bounded, as h goes to 1. AMID eq. 8 and 9. Our
    reading: rows without a label (−1) take no part, not even in the softmax, and B counts the labelled rows.

    Args:
        anchor: (B, D) rows of M, with gradient.
        other: (B, D) rows of S or A, with gradient.
        labels: (B,) class codes, −1 for none.
        temperature: τ, above 0.

    Returns:
        A scalar, 0 for no labelled row.
    """
    check_rows(anchor, other, same_width=True)
    log_h, log_not, same = class_contrast(anchor, other, labels, temperature)
    return -torch.where(same, log_h, log_not).sum() / max(1, len(same))


@full_precision
def adversarial(logits: Tensor) -> Tensor:
    """The student's adversarial loss: −mean_i log D(S_i), D = sigmoid(logits).

    AMID eq. 11; eq. 12 is ``λ[0] * adversarial(D1(S)) + λ[1] * adversarial(D2(S[partner]))`` with
    :func:`class_partners`. Our reading: d, "the frequency of the data with samples of the same classes", is the number
    of such rows, so that both parts are means.

    Args:
        logits: the discriminator's logits for the student's rows, of any shape.

    Returns:
        A scalar, 0 for no row.
    """
    return F.softplus(-logits).sum() / max(1, logits.numel())


@full_precision
def discrimination(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """The discriminator's loss: −mean_i [log D(M_i) + log(1 − D(S_i))], D = sigmoid(logits). One part of AMID eq. 13.

    Args:
        teacher_logits: the discriminator's logits for the teacher's rows, of any shape.
        student_logits: its logits for the student's rows. Detach the rows where only the discriminator must move.

    Returns:
        A scalar, 0 for no row.
    """
    real = F.softplus(-teacher_logits).sum() / max(1, teacher_logits.numel())
    return real + F.softplus(student_logits).sum() / max(1, student_logits.numel())


class Partners(NamedTuple):
    """Rows v whose class has more than one row in the batch, and for each of them another row of its class, η_1(v)."""

    rows: Tensor
    partner: Tensor


def class_partners(labels: Tensor, generator: torch.Generator | None = None) -> Partners:
    """For every row of a class with more than one row, another row of that class, drawn at random.

    Each row of a class is the partner of exactly one other: the class in random order, each paired with the next. The
    pairs (M_v, S_v^{η_1}) of AMID eq. 12 and 13; the paper does not say which of several it takes.

    Args:
        labels: (B,) class codes; rows of −1 have no class.
        generator: source of random numbers.

    Returns:
        ``rows`` (w,), ascending, and ``partner`` (w,).

    Raises:
        ValueError: ``labels`` is not one code per row.
    """
    if labels.ndim != 1:
        raise ValueError(f"labels need one class code per row (B,), got {tuple(labels.shape)}")
    device = generator.device if generator is not None else labels.device
    order = torch.randperm(len(labels), generator=generator, device=device).to(labels.device)
    # Sort the shuffled rows by class: each class is a run in random order.
    order = order[torch.argsort(labels[order], stable=True)]
    _, position, count = torch.unique_consecutive(labels[order], return_inverse=True, return_counts=True)
    first = count.cumsum(0) - count
    place = torch.arange(len(labels), device=labels.device)
    start, size = first[position], count[position]
    # The next row of the same run, and the first after the last.
    following = order[start + (place - start + 1) % size]
    partner = torch.empty_like(order).scatter_(0, order, following)
    size_of = torch.empty_like(order).scatter_(0, order, size)
    rows = torch.nonzero((size_of > 1) & (labels >= 0)).flatten()
    return Partners(rows, partner[rows])


@torch.no_grad()
@full_precision
def alignment(anchor: Tensor, other: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sums and numbers of Φ(M_i, S_i) and of Φ(M_v, S_j), j another row of v's class, Φ the cosine (for eq. 14).

    An epoch's averages are the sums over its batches divided by the numbers. AMID, text above eq. 14.

    Args:
        anchor: (B, D) rows of M.
        other: (B, D) rows of S.
        labels: (B,) class codes, −1 for none.

    Returns:
        Sums (2,) and numbers (2,), in float64.
    """
    check_rows(anchor, other, same_width=True)
    check_labels(labels, anchor)
    cosine = normalise_rows(anchor) @ normalise_rows(other).T
    same = (labels[:, None] == labels[None]) & (labels >= 0)
    same.fill_diagonal_(False)
    sums = torch.stack([cosine.diagonal().double().sum(), (cosine * same).double().sum()])
    return sums, torch.stack([same.new_tensor(len(cosine), dtype=torch.float64), same.sum().double()])


@full_precision
def adapted_weights(smooth: Tensor, average: Tensor, beta: float = 0.9) -> tuple[Tensor, Tensor]:
    """One epoch's step of the discriminators' weights: λ̃ ← β λ̃ + (1 − β) (1 − average), λ = softmax(λ̃).

    AMID eq. 14. Better aligned pairs get a smaller weight.

    Args:
        smooth: λ̃ (2,), zeros at first, so that the weights start equal.
        average: (2,) mean cosines of the epoch from :func:`alignment`, NaN where there was no pair (that λ̃ stays).
        beta: β, the share of the old value.

    Returns:
        λ̃ and λ, each (2,).
    """
    moved = beta * smooth + (1 - beta) * (1 - average)
    smooth = torch.where(average.isnan(), smooth, moved)  # an epoch without pairs changes nothing
    return smooth, smooth.softmax(0)
