"""Anchors of a batch with padding rows: the selectors of :mod:`anchors` in a form that runs under `torch.vmap`.

No branch and no shape depends on a value. A batch with fewer real rows than anchors has places left over: the first
``n`` of the ``k`` indices are the anchors, in the order of :mod:`anchors`, and the rest have no meaning.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

INFINITY = float("inf")

Selector = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""A function of ``k``, rows of norm 1 (B, D), zero where they are padding, the mask ``valid`` (B,) and ``labels`` (B,),
-1 for rows without a label and for padding, that returns indices (k,) or (B, k)."""


def _select_paper(k: int, unit: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    return _sum_similarity(unit, valid).topk(k, largest=False).indices


def _select_released(k: int, unit: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    similarity = (unit @ unit.T).where(valid, INFINITY)
    return similarity.argsort(dim=1, stable=True)[:, :k]


def _select_farthest_point(k: int, unit: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    row = torch.arange(len(unit), device=unit.device)
    chosen = [_sum_similarity(unit, valid).argmin()]
    nearest = torch.where(valid, -INFINITY, INFINITY)
    for _ in range(k - 1):
        similarity = unit @ unit.index_select(0, chosen[-1].unsqueeze(0))[0]
        nearest = torch.maximum(nearest, similarity.where(row != chosen[-1], INFINITY))
        chosen.append(nearest.argmin())
    return torch.stack(chosen)


def _select_class_balanced(k: int, unit: Tensor, valid: Tensor, labels: Tensor) -> Tensor:
    order = _sum_similarity(unit, valid).argsort()  # padding rows last
    classes = labels[order]
    turn = (classes[:, None] == classes).tril(-1).sum(1)
    turn = turn.where(classes >= 0, len(order))
    return order[turn.argsort(stable=True)[:k]]


def _sum_similarity(unit: Tensor, valid: Tensor) -> Tensor:
    """(B,) similarities to the other rows, summed; infinity for padding rows."""
    return (unit @ unit.sum(0) - unit.square().sum(1)).where(valid, INFINITY)


PADDED_ANCHORS: dict[str, Selector] = {
    "paper": _select_paper,
    "released": _select_released,
    "farthest_point": _select_farthest_point,
    "class_balanced": _select_class_balanced,
}
"""Name of a selector -> the selector.

The others have no form of which a model in a stack gets the anchors that it gets alone: "random" draws, and with
"k_medoids" rounding decides which of two rows is the centre of their cluster.
"""
