"""Anchors: the k samples of a batch that every row is compared with, selected from the teacher's similarity matrix.

Each selector maps a (B, B) similarity matrix to column indices: (k,), one set shared by all rows, or (B, k), one set
per row. The student uses the same indices. Source of the first two: PKDOT (Aslam et al. 2024), section III-B.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from sidelight.errors import SidelightWarning
from sidelight.transport import checks
from sidelight.utils.anchor_names import ANCHOR_NAMES

ROUNDS = 30  # the most rounds of k-medoids; a batch needs two to six

Selector = Callable[[Tensor, int, Tensor | None, torch.Generator | None], Tensor]
"""A function of ``similarity`` (B, B), ``k``, ``labels`` (B,) and ``generator`` that returns indices (k,) or (B, k)."""


def _select_paper(similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(k,): the columns with the smallest mean teacher similarity, self-similarity excluded, ascending."""
    return _mean_similarity(similarity).topk(k, largest=False).indices


def _select_released(similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(B, k): per row the k smallest teacher similarities, ascending (the code released with the paper).

    Of equal ones the first comes first: rows of ReLU units that share no active unit have a similarity of exactly 0.
    """
    if similarity.device.type == "cpu":  # several times faster than torch's sort at the size of a batch
        return torch.from_numpy(np.argsort(similarity.numpy(), axis=1, kind="stable")[:, :k].copy())
    return similarity.argsort(dim=1, stable=True)[:, :k]


def _select_random(similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(k,): k columns at random without replacement."""
    device = generator.device if generator is not None else similarity.device
    return torch.randperm(similarity.shape[0], generator=generator, device=device)[:k].to(similarity.device)


def _select_farthest_point(
    similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """(k,): start at the least similar column, then always the column least similar to its nearest chosen one.

    Each choice needs those before it: a loop of k − 1 turns over vectors of length B.
    """
    chosen = [_mean_similarity(similarity).argmin()]
    nearest = similarity[chosen[0]].clone()
    for _ in range(k - 1):
        nearest[chosen[-1]] = float("inf")
        chosen.append(nearest.argmin())
        nearest = torch.maximum(nearest, similarity[chosen[-1]])
    return torch.stack(chosen)


def _select_k_medoids(similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """(k,): the centres of k clusters by cosine distance, initialised with the farthest points (Park and Jun 2009).

    Rounds of two steps until nothing changes: each sample joins its nearest medoid; the member with the smallest total
    distance to its cluster becomes the medoid. There are at most `ROUNDS` rounds after the loop of farthest points.
    """
    distance = 1.0 - similarity
    medoids = _select_farthest_point(similarity, k, labels, generator)
    for _ in range(ROUNDS):
        cluster = distance[:, medoids].argmin(1)
        cluster[medoids] = torch.arange(k, device=cluster.device)  # also where other rows are the same
        member = nn.functional.one_hot(cluster, k)
        total = (distance @ member.to(distance)).masked_fill(member == 0, float("inf"))
        medoids, before = total.argmin(0), medoids
        if torch.equal(medoids, before):
            break
    return medoids


def _select_class_balanced(
    similarity: Tensor, k: int, labels: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """(k,): the ``paper`` order within each class, classes taking turns (needs ``labels`` (B,)).

    Rows with label -1 belong to no class: they come last, in the ``paper`` order.
    """
    if labels is None:
        raise ValueError("anchors='class_balanced' needs labels")
    labels = checks.require_labels(labels, len(similarity))
    order = _mean_similarity(similarity).argsort()
    classes = labels.to(similarity.device)[order]
    same = classes.unsqueeze(0) == classes.unsqueeze(1)
    turn = same.tril(-1).sum(1)  # how many rows of the same class come before
    turn = turn.where(classes >= 0, len(order))
    return order[turn.argsort(stable=True)[:k]]


# In the order of ANCHOR_NAMES, the one list of names; `strict` refuses a name without a selector.
_SELECTORS: tuple[Selector, ...] = (
    _select_paper,
    _select_released,
    _select_random,
    _select_farthest_point,
    _select_k_medoids,
    _select_class_balanced,
)
ANCHORS: dict[str, Selector] = dict(zip(ANCHOR_NAMES, _SELECTORS, strict=True))
"""Name of a selector -> the selector."""

_already_warned = False


def select_anchors(
    similarity: Tensor,
    k: int,
    anchors: str = "paper",
    *,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Indices of ``k`` anchors in a teacher's similarity matrix.

    Args:
        similarity: (B, B) similarities between the teacher's rows, e.g. cosines; real numbers on any device.
        k: number of anchors. A ``k`` above B becomes B, with a warning once per process.
        anchors: name of the selector, one of `ANCHORS`.
        labels: (B,) class codes, -1 for a row without a label; only ``"class_balanced"`` needs them.
        generator: source of random numbers for ``"random"``.

    Returns:
        Column indices: (k,), shared by all rows, or (B, k) for ``"released"``.

    Raises:
        ValueError: The matrix is not square, is empty or holds NaN or infinity, or the selector's name is unknown.
        TypeError: The matrix is not a dense real tensor.
    """
    checks.require_choice("anchors", anchors, ANCHORS)
    shape = tuple(checks.require_tensor("similarity", similarity).shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise ValueError(f"similarity must be (B, B) between B >= 1 rows, got {shape}")
    with torch.no_grad():
        similarity = similarity.detach()
        if similarity.dtype not in (torch.float32, torch.float64):
            similarity = similarity.float()
        checks.require_finite("similarity", similarity)
        return select_anchors_unchecked(similarity, k, anchors, labels, generator)


def select_anchors_unchecked(
    similarity: Tensor, k: int, anchors: str, labels: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """:func:`select_anchors` for a similarity matrix that is already checked.

    Args:
        similarity: (B, B) finite similarities in float32 or float64.
        k: number of anchors, at most B of which are used.
        anchors: name of the selector, one of `ANCHORS`.
        labels: (B,) class codes, or None.
        generator: source of random numbers, or None for torch's own.

    Returns:
        Column indices, (k,) or (B, k).
    """
    with torch.no_grad():
        return ANCHORS[anchors](similarity.detach(), _limit_k(k, len(similarity)), labels, generator)


def select_paper_from_rows(unit: Tensor, k: int) -> Tensor:
    """The ``paper`` anchors (k,) of rows (B, D) of norm 1, without forming their similarity matrix."""
    mean = unit @ unit.sum(0) - unit.square().sum(1)
    return mean.topk(_limit_k(k, unit.shape[0]), largest=False).indices


class LearnedWeights(nn.Module):
    """Weights of the anchors, learned beside the student: the future work that the PKDOT paper names.

    ``w = k softmax(<v, t_1>, ..., <v, t_k>)`` from the teacher's embeddings (k, D) of the anchors, of norm 1. The
    score ``v`` climbs the loss while the student descends it (its gradient is reversed), so that anchors count more
    where student and teacher differ more.

    Args:
        dim: D, the number of dimensions of the teacher's embeddings.
        temperature: divides the scores and so bounds how unequal the weights become; above 0.
    """

    def __init__(self, dim: int, temperature: float = 1.0) -> None:
        super().__init__()
        checks.require_whole("dim", dim)
        checks.require_positive("temperature", temperature)
        self.score = nn.Parameter(torch.zeros(dim))
        self.temperature = temperature

    def forward(self, anchors: Tensor) -> Tensor:
        """Weights (k,) with mean 1 for the teacher's unit embeddings (k, D) of the anchors."""
        if anchors.ndim != 2 or anchors.shape[1] != len(self.score):
            raise ValueError(
                f"LearnedWeights({len(self.score)}) needs anchors (k, {len(self.score)}), got {tuple(anchors.shape)}: "
                "dim is the number of dimensions of the teacher's embeddings"
            )
        score: Tensor = _ReverseGradient.apply(self.score)  # type: ignore[no-untyped-call]
        weights = torch.softmax(anchors @ score.to(anchors.dtype) / self.temperature, 0)
        return weights * anchors.shape[0]


class _ReverseGradient(Function):
    """The identity, whose backward pass changes the sign of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


def _limit_k(k: int, size: int) -> int:
    """``k``, at most the number of rows in the batch."""
    global _already_warned
    checks.require_whole("k", k)
    if k > size and not _already_warned:
        _already_warned = True
        message = f"k={k} anchors exceed the batch of {size} rows: all {size} are used. (Shown once.)"
        warnings.warn(message, SidelightWarning, stacklevel=3)
    return min(k, size)


def _mean_similarity(similarity: Tensor) -> Tensor:
    return similarity.sum(0) - similarity.diagonal()
