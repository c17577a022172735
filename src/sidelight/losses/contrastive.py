"""Contrastive losses: a row's counterpart against other rows of the batch or of a memory bank.

:func:`gmc` moves both sides, for representations that are learned together: pass ``x.detach()`` for a side that is not
to move. The others give the second side no gradient; of :func:`class_nce` and :func:`crd` that is a setting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import check_labels, check_rows, full_precision, unit_rows


@full_precision
def info_nce(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE between a student's row and the teacher's row of the same sample, the batch's others as negatives.

    −mean_i log [exp(cos(s_i, t_i) / τ) / Σ_j exp(cos(s_i, t_j) / τ)]. student, teacher: (B, D); the teacher gets no
    gradient. Returns a scalar, 0 for one row or none. Needs no labels: rows of one class are negatives of each other.
    Source: van den Oord et al. 2018, eq. 4, with cosine / τ as the critic (our reading).
    """
    check_rows(student, teacher, same_width=True)
    scores = unit_rows(student) @ unit_rows(teacher.detach()).T / temperature
    return -F.log_softmax(scores, dim=1).diagonal().sum() / max(1, len(scores))


@full_precision
def class_nce(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 0.1, detach: bool = True
) -> Tensor:
    """Contrast over classes (CCL): a student's row against the teacher's rows of its class and of the others.

    −mean_i [mean_{j ∈ P_i} log h_ij + mean_{j ∈ N_i} log(1 − h_ij)], h_i = softmax_j(cos(s_i, t_j) / τ), P_i the rows
    of i's class (i included), N_i the rows of other classes. student, teacher: (B, D); labels: (B,) class codes, rows
    of −1 take no part. The teacher gets no gradient unless ``detach`` is False (a teacher that learns along). Returns a
    scalar; without rows of other classes their mean is 0 (the released code divides 0 by 0), and 0 for no labelled row.
    The whole of CCL's loss is this and a divergence between predictions: ``class_nce(...) + jeffreys(...)`` as
    released, :func:`jensen_shannon` as written. Source: Chen et al., CVPR 2021 (compositional contrastive learning),
    released code; log(1 − h) is exact here.
    """
    check_rows(student, teacher, same_width=True)
    log_h, log_not, same = class_contrast(student, teacher.detach() if detach else teacher, labels, temperature)
    positive = (log_h * same).sum(1) / same.sum(1).clamp(min=1)
    negative = (log_not * ~same).sum(1) / (~same).sum(1).clamp(min=1)
    return -(positive + negative).sum() / max(1, len(same))


def class_contrast(anchor: Tensor, other: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """(log h, log(1 − h), same class), each (L, L) over the L labelled rows, h_i = softmax_j(cos(a_i, o_j) / τ)."""
    check_labels(labels, anchor)
    known = labels >= 0
    if not bool(known.all()):
        anchor, other, labels = anchor[known], other[known], labels[known]
    scores = unit_rows(anchor) @ unit_rows(other).T / temperature
    log_h = F.log_softmax(scores, dim=1)
    return log_h, log_softmax_complement(scores), labels[:, None] == labels[None]


def log_softmax_complement(scores: Tensor) -> Tensor:
    """log(1 − softmax(scores)) along the last dimension, exact and with bounded gradients where softmax rounds to 1.

    1 − h is at least 1/2 but for the largest score, and for that it is the others' share:
    logsumexp of the others − logsumexp of all. (B, K) -> (B, K); of a single score, whose complement is empty, 0.
    """
    if scores.shape[-1] < 2:
        return scores * 0
    largest = F.one_hot(scores.detach().argmax(-1), scores.shape[-1]).bool()
    others = scores.masked_fill(largest, -math.inf).logsumexp(-1, keepdim=True)
    all_of_them = scores.logsumexp(-1, keepdim=True)
    h = torch.exp(scores - all_of_them).masked_fill(largest, 0.0)
    return torch.where(largest, others - all_of_them, torch.log1p(-h))


@full_precision
def _joined(x: Tensor, joint: Tensor, temperature: float) -> Tensor:
    z = torch.cat([unit_rows(x), unit_rows(joint)])
    n = len(x)
    scores = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    own = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(scores, own, reduction="sum") / max(1, 2 * n)


def gmc(modalities: Sequence[Tensor], joint: Tensor, temperature: float = 0.3) -> Tensor:
    """Geometric multimodal contrast: each modality's representation against the joint one (NT-Xent, summed over them).

    Σ_m mean over the 2B rows z of (x^m, joint) of −log [exp(cos(z, z⁺) / τ) / Σ_{z' ≠ z} exp(cos(z, z') / τ)], z⁺ the
    row of the same sample on the other side. modalities: (B, D) each; joint: (B, D); both get gradients. Returns a
    scalar, 0 for one row or none. Source: Poklukar et al. 2022, eq. 2-3; the released code with the joint one last.
    """
    for x in modalities:
        check_rows(x, joint, same_width=True)
    return torch.stack([_joined(x, joint, temperature) for x in modalities]).sum()


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

    −mean_i [log h(a_i, p_i) + Σ_{k ∈ K_i} log(1 − h(a_i, n_k))], h(a, x) = g / (g + |K_i| / N), g = exp(cos(a, x) /
    τ) / Z. anchor: (B, D) rows of one network; positive: (B, D) the other network's rows of the same samples, in the
    released code those that its bank holds; negatives: (K, D) rows of the other network's bank, or (B, K, D) where each
    row has its own; mask: (B, K), False where a negative does not count (its own row, one of its class, an empty
    place). rows: N, the number of training rows. log_normaliser: log Z of :func:`crd_log_normaliser`, taken once and
    kept. The anchor gets a gradient, the negatives none, and the positive none either, as in all released
    implementations; ``detach=False`` gives it one, for a positive that the other network has just computed. Returns a
    scalar, 0 for no row; a row without negatives (h = 1) adds nothing. The whole loss is both directions. Source: Tian
    et al., ICLR 2020, eq. 10, 17-19 and the released code's noise-contrastive constant Z. Our reading: |K_i| varies
    with the mask, and the bank's rows may be shared by the batch, which needs (B, K) numbers, not (B, K, D).
    """
    check_rows(anchor, positive, same_width=True)
    positive = positive.detach() if detach else positive
    own, others = _bank_scores(anchor, positive, negatives, temperature)
    counts = _mask(mask, others)
    number = counts.sum(1)
    some = number > 0
    offset = log_normaliser + torch.log(number.clamp(min=1) / torch.tensor(float(rows), dtype=own.dtype))
    hit = F.logsigmoid(own - offset) * some
    miss = (F.logsigmoid(offset[:, None] - others) * counts).sum(1)
    return -(hit + miss).sum() / max(1, len(anchor))


@torch.no_grad()
def crd_log_normaliser(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    rows: int,
    mask: Tensor | None = None,
    temperature: float = 0.07,
) -> Tensor:
    """log Z, Z = N · mean of exp(cos / τ) over a batch's positive and counted negative pairs (as in :func:`crd`).

    A method keeps the value of its first batch in a buffer, as the released code does. Source: Tian et al. 2020.
    """
    own, others = _bank_scores(anchor, positive, negatives, temperature)
    counts = torch.cat([torch.ones_like(own[:, None], dtype=torch.bool), _mask(mask, others)], dim=1)
    scores = torch.cat([own[:, None], others], dim=1)[counts]
    return scores.logsumexp(0) - math.log(max(1, len(scores))) + math.log(rows)


def _bank_scores(anchor: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    a, p = unit_rows(anchor), unit_rows(positive)
    bank = unit_rows(negatives.detach().reshape(-1, a.shape[1]).to(a)).reshape(negatives.shape)
    others = a @ bank.T if bank.ndim == 2 else torch.bmm(bank, a[:, :, None]).squeeze(2)
    return (a * p).sum(1) / temperature, others / temperature


def _mask(mask: Tensor | None, scores: Tensor) -> Tensor:
    return torch.ones_like(scores, dtype=torch.bool) if mask is None else mask


@full_precision
def crcd(
    student: Tensor,
    teacher: Tensor,
    anchors: int = 4,
    temperature: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Relation contrast: the student's relations to anchors are told from the teacher's relations of other samples.

    −mean_{a, i ≠ a} log [exp(cos(s_i − t_a, t_i − t_a) / τ) / Σ_{j ≠ a} exp(cos(s_i − t_a, t_j − t_a) / τ)], a over
    ``anchors`` rows drawn from the batch (all if it has no more). student, teacher: (B, D); the teacher gets no
    gradient. Returns a scalar, 0 with fewer than two rows. O(anchors · B²) memory: relations are never formed, only
    their products. Source: Zhu et al., CVPR 2021 (complementary relation contrastive distillation): anchor-student
    relations under the supervision of anchor-teacher relations. The released code is incomplete; ours are: the
    relation is the difference of embeddings and not a learned map of it, the critic is cosine / τ within the batch
    and not a bank, and the complementary relation between gradients is this function on ∂L/∂embedding of both
    networks.
    """
    check_rows(student, teacher, same_width=True)
    n = len(student)
    if n < 2:
        return student.sum() * 0
    device = generator.device if generator is not None else student.device
    drawn = torch.randperm(n, generator=generator, device=device)[:anchors].to(student.device)
    centre = teacher.detach().mean(0)  # relations are the same, and keep more digits
    s, t = student - centre, teacher.detach() - centre
    cosine = _relation_cosines(s, t, drawn)
    itself = F.one_hot(drawn, n).bool()
    log_h = F.log_softmax((cosine / temperature).masked_fill(itself[:, None, :], -math.inf), dim=2)
    own = log_h.diagonal(dim1=1, dim2=2).masked_fill(itself, 0.0)
    return -own.sum() / (len(drawn) * (n - 1))


def _relation_cosines(s: Tensor, t: Tensor, drawn: Tensor) -> Tensor:
    """(A, B, B) cosines between s_i − t_a and t_j − t_a from products of rows; 0 where one is lost in rounding."""
    a = t[drawn]
    at, as_, st = a @ t.T, a @ s.T, s @ t.T
    aa = a.square().sum(1, keepdim=True)
    product = st[None] - as_[:, :, None] - at[:, None, :] + aa[:, :, None]
    return product * _inverse_length(s, as_, aa)[:, :, None] * _inverse_length(t, at, aa)[:, None, :]


def _inverse_length(z: Tensor, products: Tensor, aa: Tensor) -> Tensor:
    total = z.square().sum(1) + aa
    squared = total - 2 * products
    apart = squared > 4 * torch.finfo(z.dtype).eps * total
    return torch.where(apart, squared.where(apart, 1.0).rsqrt(), 0.0)
