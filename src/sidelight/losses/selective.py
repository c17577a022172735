"""Soft labels of the classes that are not the label, over rows whose two predictions agree in their order (C2KD)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sidelight.losses.common import check_rows
from sidelight.utils.precision import full_precision

Nontarget = Literal["removed", "zeroed"]


@full_precision
def kendall_tau(one: Tensor, other: Tensor) -> Tensor:
    """Kendall's rank correlation τ-b of the classes of each row, between −1 and 1; 0 where a row is constant.

    Σ_{i<j} sign(a_i − a_j) sign(b_i − b_j) / √(Σ_{i<j} |sign(a_i − a_j)| Σ_{i<j} |sign(b_i − b_j)|), without gradient.
    Source: Kendall 1945. It takes C steps over tensors of the size of `one`, not C² numbers for each row.

    Args:
        one: (B, C, ...) logits.
        other: logits of the same shape.

    Returns:
        (B, ...).
    """
    one, other = one.detach(), other.detach()
    agree = one.new_zeros(one.shape[:1] + one.shape[2:])
    pairs, others = torch.zeros_like(agree), torch.zeros_like(agree)
    for shift in range(1, one.shape[1]):
        a = (one[:, shift:] - one[:, :-shift]).sign()
        b = (other[:, shift:] - other[:, :-shift]).sign()
        agree += (a * b).sum(1)
        pairs += a.abs().sum(1)
        others += b.abs().sum(1)
    return agree / (pairs * others).sqrt().clamp(min=1)  # where it is 0, so is `agree`


@full_precision
def nontarget_kl(
    student: Tensor, teacher: Tensor, labels: Tensor, kept: Tensor | None = None, nontarget: Nontarget = "removed"
) -> Tensor:
    """KL divergence of the softmax of the logits that are not the label's, over the rows that are kept.

    Σ_kept KL(teacher_i ‖ student_i) / (number of labelled rows). Source: C2KD (Huo et al., CVPR 2024). Its released
    code sets the label's logit to 0 and leaves it in a softmax over C classes ("zeroed"); "removed" leaves it out and
    renormalises the other C − 1, which is 0 for two classes. It divides by all rows, not by those that are kept.

    Args:
        student: (B, C) logits, or (B, C, H, W) with rows and pixels as rows.
        teacher: logits of the same shape, without gradient.
        labels: (B,) or (B, H, W) class codes, below 0 for rows without a label, which do not count.
        kept: of the same shape as the labels, bool; None: all.
        nontarget: what becomes of the label's logit.

    Returns:
        A scalar, 0 for no row.
    """
    if student.ndim == 2:
        check_rows(student, teacher, same_width=True)
    labelled = labels >= 0
    target = F.one_hot(labels.clamp(min=0), student.shape[1]).bool().movedim(-1, 1)
    fill = 0.0 if nontarget == "zeroed" else -torch.inf
    log_p = teacher.detach().masked_fill(target, fill).log_softmax(1)
    log_q = student.masked_fill(target, fill).log_softmax(1)
    if nontarget == "removed":  # −∞ − (−∞) is not a number; what is left out counts 0
        log_p, log_q = log_p.masked_fill(target, 0.0), log_q.masked_fill(target, 0.0)
        each = (log_p.exp().masked_fill(target, 0.0) * (log_p - log_q)).sum(1)
    else:
        each = (log_p.exp() * (log_p - log_q)).sum(1)
    counted = labelled if kept is None else labelled & kept
    return each.where(counted, 0.0).sum() / labelled.sum().clamp(min=1)
