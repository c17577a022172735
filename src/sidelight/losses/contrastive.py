"""Contrastive losses: a row's counterpart against other rows of the batch or of a memory bank.

:func:`gmc` gives a gradient to both sides, for representations that are learned together: pass ``x.detach()`` for a
side that must not move. The others give the second side no gradient; for :func:`class_nce` and :func:`crd` that is an
argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import (
    at_least_one,
    check_labels,
    check_rows,
    mean_over_rows,
    normalise_rows,
    zero_padding,
)
from sidelight.utils.precision import full_precision


@full_precision
def info_nce(student: Tensor, teacher: Tensor, temperature: float = 0.1, valid: Tensor | None = None) -> Tensor:
    """InfoNCE between a student's row and the teacher's row of the same sample; the rest of the batch is negative.

    −mean_i log [exp(cos(s_i, t_i) / τ) / Σ_j exp(cos(s_i, t_j) / τ)]. Needs no labels: rows of one class are negatives
    of each other. Source: van den Oord et al. 2018, eq. 4, with cosine / τ as the critic (our reading).

    Args:
        student: (B, D).
        teacher: (B, D), without gradient.
        temperature: τ, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for fewer than two rows.
    """
    check_rows(student, teacher, same_width=True)
    student, teacher = zero_padding(student, valid), zero_padding(teacher.detach(), valid)
    scores = normalise_rows(student) @ normalise_rows(teacher).T / temperature
    if valid is not None:
        scores = scores.where(valid, -math.inf)
    return -mean_over_rows(F.log_softmax(scores, dim=1).diagonal(), valid)


@full_precision
def class_nce(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    detach: bool = True,
    valid: Tensor | None = None,
) -> Tensor:
    """Contrast over classes (CCL): a student's row against the teacher's rows of its class and of the others.

    −mean_i [mean_{j ∈ P_i} log h_ij + mean_{j ∈ N_i} log(1 − h_ij)], h_i = softmax_j(cos(s_i, t_j) / τ), P_i the rows
    of i's class (i included), N_i the rows of other classes. Without rows of other classes their mean is 0 (the
    released code divides 0 by 0). CCL's whole loss is this plus a divergence between predictions: ``class_nce(...) +
    jeffreys(...)`` as released, :func:`jensen_shannon` as written. Source: Chen et al., CVPR 2021 (compositional
    contrastive learning), released code; log(1 − h) is exact here.

    Args:
        student: (B, D).
        teacher: (B, D).
        labels: (B,) class codes; rows of −1 take no part.
        temperature: τ, above 0.
        detach: whether the teacher gets no gradient; False for a teacher that learns along.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for no labelled row.
    """
    check_rows(student, teacher, same_width=True)
    teacher = teacher.detach() if detach else teacher
    if valid is not None:
        return _padded_class_nce(student, teacher, labels, temperature, valid)
    log_h, log_not, same = class_contrast(student, teacher, labels, temperature)
    positive = (log_h * same).sum(1) / same.sum(1).clamp(min=1)
    negative = (log_not * ~same).sum(1) / (~same).sum(1).clamp(min=1)
    return -(positive + negative).sum() / max(1, len(same))


def _padded_class_nce(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """:func:`class_nce` with padding rows, without a branch on a value, so that it runs under `torch.vmap`."""
    known = valid & (labels >= 0)
    scores = normalise_rows(zero_padding(student, known)) @ normalise_rows(zero_padding(teacher, known)).T / temperature
    scores = scores.where(known, -math.inf)
    pairs = known[:, None] & known
    same = (labels[:, None] == labels) & pairs
    different = pairs & ~same
    # With a single row, no other is left: its complement is empty, and the rows beside it are replaced by anything.
    complement = log_softmax_complement(scores.where(known | (known.sum() > 1), 0.0))
    positive = F.log_softmax(scores, dim=1).where(same, 0.0).sum(1) / at_least_one(same.sum(1))
    negative = complement.where(different, 0.0).sum(1) / at_least_one(different.sum(1))
    return -mean_over_rows(positive + negative, known)


def class_contrast(anchor: Tensor, other: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of pairs of labelled rows, h_i = softmax_j(cos(a_i, o_j) / τ).

    Args:
        anchor: (B, D).
        other: (B, D).
        labels: (B,) class codes; rows of −1 are left out.
        temperature: τ, above 0.

    Returns:
        log h, log(1 − h) and the mask of pairs of one class, each (L, L) over the L labelled rows.
    """
    check_labels(labels, anchor)
    # Rows without a label are left out before the softmax, so that they are no negatives either.
    known = labels >= 0
    if not bool(known.all()):
        anchor, other, labels = anchor[known], other[known], labels[known]
    scores = normalise_rows(anchor) @ normalise_rows(other).T / temperature
    log_h = F.log_softmax(scores, dim=1)
    return log_h, log_softmax_complement(scores), labels[:, None] == labels[None]


def log_softmax_complement(scores: Tensor) -> Tensor:
    """log(1 − softmax(scores)) along the last dimension, exact and with bounded gradients where softmax rounds to 1.

    1 − h is at least 1/2 for every score but the largest, and for that it is the others' share:
    logsumexp of the others − logsumexp of all. (B, K) -> (B, K); 0 for a single score, whose complement is empty.
    """
    if scores.shape[-1] < 2:
        return scores * 0
    place = torch.arange(scores.shape[-1], device=scores.device)
    largest = scores.detach().argmax(-1, keepdim=True) == place
    others = scores.masked_fill(largest, -math.inf).logsumexp(-1, keepdim=True)
    all_of_them = scores.logsumexp(-1, keepdim=True)
    h = torch.exp(scores - all_of_them).masked_fill(largest, 0.0)
    return torch.where(largest, others - all_of_them, torch.log1p(-h))


def _nt_xent(x: Tensor, joint: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """NT-Xent between one modality (B, D) and the joint representation (B, D)."""
    z = torch.cat([normalise_rows(zero_padding(x, valid)), normalise_rows(zero_padding(joint, valid))])
    n = len(x)
    own = torch.arange(2 * n, device=z.device).roll(n)  # the row of the same sample on the other side
    if valid is not None:
        both = torch.cat([valid, valid])
        itself = own == own[:, None]
        scores = (z @ z.T / temperature).where(both & ~itself, -math.inf)
        return -mean_over_rows(F.log_softmax(scores, dim=1).gather(1, own[:, None])[:, 0], both)
    scores = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    return F.cross_entropy(scores, own, reduction="sum") / max(1, 2 * n)


@full_precision
def gmc(modalities: Sequence[Tensor], joint: Tensor, temperature: float = 0.3, valid: Tensor | None = None) -> Tensor:
    """Geometric multimodal contrast: each modality's representation against the joint one (NT-Xent, summed over them).

    Σ_m mean over the 2B rows z of (x^m, joint) of −log [exp(cos(z, z⁺) / τ) / Σ_{z' ≠ z} exp(cos(z, z') / τ)], z⁺ the
    row of the same sample on the other side. Source: Poklukar et al. 2022, eq. 2-3; the released code with the joint
    one last.

    Args:
        modalities: (B, D) for each modality, with gradient.
        joint: (B, D), with gradient.
        temperature: τ, above 0.
        valid: (B,) bool, False for padding rows, which do not count; None: every row is real.

    Returns:
        A scalar, 0 for fewer than two rows.
    """
    for x in modalities:
        check_rows(x, joint, same_width=True)
    return torch.stack([_nt_xent(x, joint, temperature, valid) for x in modalities]).sum()


@full_precision
def crd(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    rows: int,
    log_normaliser: Tensor | float,
    mask: Tensor | None = None,
    temperature: float = 0.07,
    detach: bool = True,
) -> Tensor:
    """One direction of contrastive representation distillation, with pairs from a memory bank.

    −mean_i [log h(a_i, p_i) + Σ_{k ∈ K_i} log(1 − h(a_i, n_k))], h(a, x) = g / (g + |K_i| / N), g = exp(cos(a, x) / τ)
    / Z. The whole loss is both directions. The anchor gets a gradient and the negatives do not. Source: Tian et al.,
    ICLR 2020, eq. 10, 17-19 and the released code's noise-contrastive constant Z. Our reading: |K_i| varies with the
    mask, and the batch may share the bank's rows, which needs (B, K) numbers, not (B, K, D).

    Args:
        anchor: (B, D) rows of one network.
        positive: (B, D) the other network's rows of the same samples; in the released code those in its bank.
        negatives: (K, D) rows of the other network's bank, or (B, K, D) where each row has its own.
        rows: N, the number of training rows.
        log_normaliser: log Z of :func:`crd_log_normaliser`, computed once and stored.
        mask: (B, K), False where a negative does not count (the row itself, a row of its class, an empty place); None
            where all count.
        temperature: τ, above 0.
        detach: whether the positive gets no gradient, as in all released implementations; False for a positive that the
            other network has just computed.

    Returns:
        A scalar, 0 for no row; a row without negatives (h = 1) adds nothing.
    """
    check_rows(anchor, positive, same_width=True)
    positive = positive.detach() if detach else positive
    own, others = _score_bank(anchor, positive, negatives, temperature)
    counts = _default_mask(mask, others)
    number = counts.sum(1)
    some = number > 0  # without negatives h = 1, whose logarithm is 0
    # log g − offset is the logit of h: offset = log Z + log(|K_i| / N).
    offset = log_normaliser + torch.log(number.clamp(min=1) / torch.tensor(float(rows), dtype=own.dtype))
    hit = F.logsigmoid(own - offset) * some
    miss = (F.logsigmoid(offset[:, None] - others) * counts).sum(1)
    return -(hit + miss).sum() / max(1, len(anchor))


@torch.no_grad()
@full_precision
def crd_log_normaliser(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    rows: int,
    mask: Tensor | None = None,
    temperature: float = 0.07,
) -> Tensor:
    """log Z, Z = N · mean of exp(cos / τ) over a batch's positive and counted negative pairs (as in :func:`crd`).

    A method stores the value of its first batch in a buffer, as the released code does. Source: Tian et al. 2020.

    Args:
        anchor: (B, D) rows of one network.
        positive: (B, D) the other network's rows of the same samples.
        negatives: (K, D), or (B, K, D).
        rows: N, the number of training rows.
        mask: (B, K), False where a negative does not count, or None.
        temperature: τ, above 0.

    Returns:
        A scalar without gradient.
    """
    own, others = _score_bank(anchor, positive, negatives, temperature)
    counts = torch.cat([torch.ones_like(own[:, None], dtype=torch.bool), _default_mask(mask, others)], dim=1)
    scores = torch.cat([own[:, None], others], dim=1)[counts]
    return scores.logsumexp(0) - math.log(max(1, len(scores))) + math.log(rows)


def _score_bank(anchor: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosines over the temperature: of the positives (B,) and of the bank's rows (B, K)."""
    a, p = normalise_rows(anchor), normalise_rows(positive)
    bank = normalise_rows(negatives.detach().reshape(-1, a.shape[1]).to(a)).reshape(negatives.shape)
    others = a @ bank.T if bank.ndim == 2 else torch.bmm(bank, a[:, :, None]).squeeze(2)
    return (a * p).sum(1) / temperature, others / temperature


def _default_mask(mask: Tensor | None, scores: Tensor) -> Tensor:
    """The mask, or one in which every negative counts."""
    return torch.ones_like(scores, dtype=torch.bool) if mask is None else mask


@full_precision
def crcd(
    student: Tensor,
    teacher: Tensor,
    anchors: int = 4,
    temperature: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Relation contrast: the student's relations to anchors against the teacher's relations of other samples.

    −mean_{a, i ≠ a} log [exp(cos(s_i − t_a, t_i − t_a) / τ) / Σ_{j ≠ a} exp(cos(s_i − t_a, t_j − t_a) / τ)]. Relations
    are never formed, only their products, in O(anchors · B²) memory. Source: Zhu et al., CVPR 2021 (complementary
    relation contrastive distillation): anchor-student relations under the supervision of anchor-teacher relations. The
    released code is incomplete. Our reading: the relation is the difference of embeddings and not a learned map of it,
    the critic is cosine / τ within the batch and not a bank, and the complementary relation between gradients is this
    function on ∂L/∂embedding of both networks.

    Args:
        student: (B, D).
        teacher: (B, D), without gradient.
        anchors: number of rows a drawn from the batch (all rows if it has no more).
        temperature: τ, above 0.
        generator: source of random numbers.

    Returns:
        A scalar, 0 with fewer than two rows.
    """
    check_rows(student, teacher, same_width=True)
    n = len(student)
    if n < 2:
        return student.sum() * 0
    device = generator.device if generator is not None else student.device
    drawn = torch.randperm(n, generator=generator, device=device)[:anchors].to(student.device)
    centre = teacher.detach().mean(0)  # centred rows have the same relations, with more digits
    s, t = student - centre, teacher.detach() - centre
    cosine = _relation_cosines(s, t, drawn)
    itself = F.one_hot(drawn, n).bool()
    log_h = F.log_softmax((cosine / temperature).masked_fill(itself[:, None, :], -math.inf), dim=2)
    # The relation of an anchor to itself is zero and has no direction: it is neither a row nor a negative.
    own = log_h.diagonal(dim1=1, dim2=2).masked_fill(itself, 0.0)
    return -own.sum() / (len(drawn) * (n - 1))


def _relation_cosines(s: Tensor, t: Tensor, drawn: Tensor) -> Tensor:
    """(A, B, B) cosines between s_i − t_a and t_j − t_a from products of rows; 0 where rounding exceeds one of them."""
    a = t[drawn]
    at, as_, st = a @ t.T, a @ s.T, s @ t.T
    aa = a.square().sum(1, keepdim=True)
    product = st[None] - as_[:, :, None] - at[:, None, :] + aa[:, :, None]
    return product * _inverse_length(s, as_, aa)[:, :, None] * _inverse_length(t, at, aa)[:, None, :]


def _inverse_length(z: Tensor, products: Tensor, aa: Tensor) -> Tensor:
    """1 / |z_i − t_a| (A, B) from products of rows; 0 where it is less than rounding."""
    total = z.square().sum(1) + aa
    squared = total - 2 * products
    apart = squared > 4 * torch.finfo(z.dtype).eps * total
    return torch.where(apart, squared.where(apart, 1.0).rsqrt(), 0.0)
