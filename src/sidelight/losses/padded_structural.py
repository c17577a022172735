"""Structural transport of batches with padding rows, for one model or a stack of models under `torch.vmap`.

The loss of `structural` and its gradient, computed together for M models. Padding rows take the place of the first real
row and share its mass: a problem of the same shape with the same value and gradient, whose masses are all positive. So
the transports of a stack are problems of one shape, which one call solves (:mod:`sidelight.transport.batched`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sidelight.losses.by_model import apply_by_model
from sidelight.losses.cosine import normalise_with_inverse, to_float
from sidelight.transport import sinkhorn, sinkhorn_divergence
from sidelight.transport.costs import resolve_epsilon
from sidelight.transport.padded_anchors import PADDED_ANCHORS


@dataclass(frozen=True)
class PaddedTransport:
    """The settings of :func:`sidelight.losses.structural_transport`, applied to the rows that are no padding.

    Attributes:
        solver: ``tolerance``, ``max_iterations`` and ``on_failure``.
    """

    k: int
    epsilon: float | str
    objective: str
    anchors: str
    shift: bool
    alignment: str | None
    penalty: float
    identity: float
    solver: dict[str, Any]

    def __call__(self, student: Tensor, teacher: Tensor, valid: Tensor, labels: Tensor | None) -> Tensor:
        """The loss of a batch.

        Args:
            student: (B, D) embeddings of the student.
            teacher: (B, D') embeddings of the teacher, without gradient.
            valid: (B,) bool, False for padding rows.
            labels: (B,) class codes, -1 for none, or None.

        Returns:
            A scalar with a gradient to the student; NaN where an embedding of a real row is not finite.
        """
        more = [] if labels is None else [labels.where(valid, -1)]
        return apply_by_model(self.compute, student, teacher, valid, *more)

    def compute(
        self, student: Tensor, teacher: Tensor, valid: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Values (M,) and gradients (M, B, D) for embeddings (M, B, D) and (M, B, D'), masks and labels (M, B)."""
        finite = torch.ones_like(valid[:, 0])
        clean = []
        for z in (student, teacher):
            z = to_float(z if valid.all() else z.where(valid.unsqueeze(-1), 0.0))
            if not z.sum().isfinite():  # a model that diverged must not stop the others
                finite = finite & z.isfinite().flatten(1).all(1)
            clean.append(z)
        if not finite.all():
            clean = [z.where(finite[:, None, None], 0.0) for z in clean]
        value, gradient = self._compute_finite(clean[0], clean[1], valid, labels)
        if not finite.all():
            value, gradient = value.where(finite, torch.nan), gradient.where(finite[:, None, None], torch.nan)
        return value.to(student), gradient.to(student)

    def _compute_finite(
        self, student: Tensor, teacher: Tensor, valid: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        unit, inverse = _normalise(student)
        of_teacher = _normalise(teacher)[0].to(unit.dtype)
        k = min(self.k, valid.shape[1])
        codes = torch.full_like(valid, -1, dtype=torch.int64) if labels is None else labels
        select = partial(PADDED_ANCHORS[self.anchors], k)
        index = torch.vmap(select)(of_teacher, valid, codes)
        own = _Similarities(unit, index, self.shift, valid)
        s, t = own.chosen, _Similarities(of_teacher, index, self.shift, valid).chosen
        value, gradient = self._compare(s, t, valid, labels)
        moved = own.backward(gradient)
        # A norm of 1 is kept: drop the part of the gradient along each row.
        along = (moved * unit).sum(-1, keepdim=True)
        return value, torch.addcmul(moved, unit, along, value=-1).mul_(inverse)

    def _compare(self, s: Tensor, t: Tensor, valid: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values (M,) and gradients (M, B, k) for similarities to the anchors (M, B, k)."""
        value, gradient = s.new_zeros(len(s)), torch.zeros_like(s)
        if self.identity or self.alignment == "row":
            weight = self.identity + (self.alignment == "row")
            share = valid.to(s) / valid.sum(1, keepdim=True).clamp(min=1)
            gradient = weight * (s - t) * share.unsqueeze(-1)
            value = 0.5 * (gradient * (s - t)).sum((1, 2))
        if self.alignment == "row":
            return value, gradient
        row = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
        if valid.all():
            made = self._transport(s, t, None, row, labels)
            return value + made[0], gradient + made[1]
        # Padding rows take the place of the first real row, and share its mass.
        first = valid.to(torch.uint8).argmax(1, keepdim=True)
        owner = torch.where(valid, row, first)
        shared = (owner == first).to(s)
        mass = torch.where(shared > 0, 1.0 / shared.sum(1, keepdim=True), 1.0)
        place = owner.unsqueeze(-1).expand_as(s)
        made = self._transport(s.gather(1, place), t.gather(1, place), mass / mass.sum(1, keepdim=True), owner, labels)
        return value + made[0], gradient.scatter_add(1, place, made[1])

    def _transport(
        self, s: Tensor, t: Tensor, mass: Tensor | None, owner: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Values (M,) and gradients by `s` of the transports between clouds (M, B, k) with masses (M, B)."""
        epsilon, factor, offset = self.epsilon, None, None
        # A relative epsilon and the penalty are in units of the teacher's own mean cost.
        needs_unit = isinstance(epsilon, str) or self.alignment is not None
        unit = _compute_mean_self_cost(t, mass) if needs_unit else s.new_ones(len(s))
        if self.alignment is not None:
            different = _find_different(owner, labels if self.alignment == "label" else None)
            offset = (self.penalty * unit)[:, None, None] * different
        if isinstance(epsilon, str):
            # Each model has an epsilon of its own, but a batch has one: costs in units of each model's epsilon.
            each = [resolve_epsilon(epsilon, unit[m].item, s.dtype) for m in range(len(s))]
            factor, epsilon = s.new_tensor(each)[:, None, None], 1.0
            s, t, offset = s / factor.sqrt(), t / factor.sqrt(), None if offset is None else offset / factor
        with torch.enable_grad():
            x = s.detach().requires_grad_()
            solve: Any = sinkhorn_divergence if self.objective == "divergence" else sinkhorn
            result = solve(x, t, a=mass, b=mass, epsilon=epsilon, offset=offset, **self.solver)
            value = result.divergence if self.objective == "divergence" else result.objective
            (gradient,) = torch.autograd.grad(value.sum(), x)
        if factor is None:
            return value.detach(), gradient
        return value.detach() * factor[:, 0, 0], gradient * factor.sqrt()


class _Similarities:
    """Cosines (M, B, k) to the anchors, 0 where a model has fewer rows than anchors, and their backward pass.

    Args:
        unit: rows (M, B, D) of norm 1; zeros where they are padding.
        index: anchors (M, k), or (M, B, k) for each row.
        shift: whether the smallest similarity of two real rows is subtracted.
        valid: (M, B).
    """

    def __init__(self, unit: Tensor, index: Tensor, shift: bool, valid: Tensor) -> None:
        self.unit, self.shift = unit, shift
        number = valid.sum(1)
        k = index.shape[-1]
        self.used = None
        if not bool((number >= k).all()):
            self.used = (torch.arange(k, device=valid.device) < number[:, None])[:, None, :]
        self.each = index if index.ndim == 3 else index[:, None, :].expand(-1, unit.shape[1], -1)
        self.place = None if index.ndim == 3 or shift else index.unsqueeze(-1).expand(-1, -1, unit.shape[2])
        if self.place is not None:
            self.anchors = unit.gather(1, self.place)
            self.chosen = self._mask(unit @ self.anchors.mT)
            return
        similarity = unit @ unit.mT
        if shift:
            pairs = valid.unsqueeze(2) & valid.unsqueeze(1)
            smallest = similarity.where(pairs, torch.inf).amin((1, 2), keepdim=True)
            self.smallest = pairs & (similarity == smallest)
            similarity = similarity - smallest.where(number[:, None, None] > 0, 0.0)
        self.chosen = self._mask(similarity.gather(2, self.each))

    def _mask(self, chosen: Tensor) -> Tensor:
        return chosen if self.used is None else chosen.where(self.used, 0.0)

    def backward(self, gradient: Tensor) -> Tensor:
        """The gradient by the rows (M, B, D) from that by the similarities (M, B, k)."""
        gradient = self._mask(gradient)
        if self.place is not None:
            return (gradient @ self.anchors).scatter_add_(1, self.place, gradient.mT @ self.unit)
        whole = gradient.new_zeros(*gradient.shape[:2], gradient.shape[1]).scatter_add_(2, self.each, gradient)
        if self.shift:  # the smallest similarity moves all; equal ones share that
            number = self.smallest.sum((1, 2), keepdim=True).clamp(min=1)
            whole -= self.smallest * (gradient.sum((1, 2), keepdim=True) / number)
        return (whole + whole.mT) @ self.unit


def _normalise(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, B, D) of norm 1 and inverse norms (M, B, 1); both are 0 for a row of norm 0."""
    unit, inverse = normalise_with_inverse(z.reshape(-1, z.shape[-1]))
    return unit.view_as(z), inverse.view(*z.shape[:2], 1)


def _compute_mean_self_cost(t: Tensor, mass: Tensor | None) -> Tensor:
    """``mean_ij |t_i - t_j|^2 / 2`` (M,) under the masses: the total variance of the rows."""
    if mass is None:
        return t.var(1, correction=0).sum(1)
    weight = mass.unsqueeze(-1)
    return (weight * (t - (weight * t).sum(1, keepdim=True)).square()).sum((1, 2))


def _find_different(owner: Tensor, labels: Tensor | None) -> Tensor:
    """(M, B, B) bool, the pairs that cost extra: of different rows, or, given labels (M, B), of different labels."""
    different = owner.unsqueeze(2) != owner.unsqueeze(1)
    if labels is None:
        return different
    own = labels.gather(1, owner)
    return different & ~((own.unsqueeze(2) == own.unsqueeze(1)) & (own.unsqueeze(2) >= 0))
