"""Structural transport of batches with padding rows, for one model or a stack of models under `torch.vmap`.

The loss of `structural`, written without a branch on a value. Padding rows take the place of the first real row and
share its mass: a problem of the same shape with the same value and gradient, whose masses are all positive. So the
transports of a stack are problems of one shape, which one call solves together (:mod:`sidelight.transport.batched`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from sidelight.losses.by_model import apply_by_model
from sidelight.losses.common import at_least_one, mean_over_rows, zero_padding
from sidelight.losses.cosine import to_float
from sidelight.transport import sinkhorn, sinkhorn_divergence
from sidelight.transport.costs import resolve_epsilon
from sidelight.transport.padded_anchors import PADDED_ANCHORS


def padded_structural_transport(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor,
    labels: Tensor | None,
    *,
    k: int,
    epsilon: float | str,
    objective: str,
    anchors: str,
    shift: bool,
    alignment: str | None = None,
    penalty: float = 1.0,
    identity: float = 0.0,
    **solver: Any,
) -> Tensor:
    """:func:`sidelight.losses.structural_transport` over the rows that are no padding.

    Args:
        student: (B, D) embeddings of the student.
        teacher: (B, D') embeddings of the teacher, without gradient.
        valid: (B,) bool, False for padding rows.
        labels: (B,) class codes, -1 for none, or None.
        k: number of anchors, at most the number of real rows of which are used.
        epsilon: as there, as are the other settings.
        solver: ``tolerance``, ``max_iterations`` and ``on_failure``.

    Returns:
        A scalar with a gradient to the student; NaN where an embedding of a real row is not finite.
    """
    labels = None if labels is None else labels.where(valid, -1)
    s, t = _compare_with_anchors(student, teacher.detach(), valid, labels, min(k, len(valid)), anchors, shift)
    rows = mean_over_rows(0.5 * (s - t).square().sum(1), valid) if identity or alignment == "row" else None
    if alignment == "row":
        assert rows is not None
        return rows * (1.0 + identity)
    mass, owner = _share_mass(valid, s.dtype)
    unit = _mean_self_cost(t, valid)
    inputs = [s.index_select(0, owner), t.index_select(0, owner), mass]
    if isinstance(epsilon, str):
        inputs.append(unit)
    if alignment is not None:
        inputs.append(penalty * unit * _different(owner, labels, alignment).to(unit))
    compute = partial(_solve, epsilon=epsilon, divergence=objective == "divergence", **solver)
    value = apply_by_model(compute, *inputs)
    return value if rows is None else value + identity * rows


def _compare_with_anchors(
    student: Tensor, teacher: Tensor, valid: Tensor, labels: Tensor | None, k: int, anchors: str, shift: bool
) -> tuple[Tensor, Tensor]:
    """(B, k) similarities of student and teacher to the same anchors; 0 in the columns of anchors that are missing."""
    s, t = (_normalise(zero_padding(to_float(z), valid)) for z in (student, teacher))
    t = t.to(s.dtype)
    with torch.no_grad():
        index = PADDED_ANCHORS[anchors](t.detach(), valid, k, labels)
    used = torch.arange(k, device=valid.device) < valid.sum()
    return tuple(_similarity(z, valid, index, shift).where(used, 0.0) for z in (s, t))  # type: ignore[return-value]


def _similarity(unit: Tensor, valid: Tensor, index: Tensor, shift: bool) -> Tensor:
    """(B, k) similarities to the anchors; with ``shift`` less the smallest of all pairs of real rows."""
    if index.ndim == 1 and not shift:
        return unit @ unit.index_select(0, index).T
    similarity = unit @ unit.T
    if shift:
        smallest = similarity.where(valid[:, None] & valid, torch.inf).amin((0, 1))
        similarity = similarity - smallest
    return similarity.index_select(1, index) if index.ndim == 1 else similarity.gather(1, index)


def _normalise(z: Tensor) -> Tensor:
    """Rows (B, D) of norm 1, or 0; NaN where they are not finite. The gradient lies across each row."""
    largest = z.detach().abs().amax(1, keepdim=True)  # a norm overflows where its square does
    some = torch.linalg.vector_norm(z.detach(), dim=1, keepdim=True) != 0
    scaled = torch.where(some, z / largest.where(some, 1.0), 0.0)
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled.where(some, 1.0), dim=1, keepdim=True)
    return unit


def _share_mass(valid: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Masses (B,), and the row (B,) that takes each place: of a padding row the first real one, which shares its mass.

    The masses sum to 1, and each real row has the same part of it.
    """
    row = torch.arange(len(valid), device=valid.device)
    first = valid.to(torch.uint8).argmax()
    owner = torch.where(valid, row, first)
    shared = owner == first
    weight = torch.where(shared, 1.0 / shared.to(kind).sum(), 1.0)
    return weight / weight.sum(), owner


def _mean_self_cost(t: Tensor, valid: Tensor) -> Tensor:
    """``mean_ij |t_i - t_j|^2 / 2`` over real rows: the total variance of the rows."""
    n = at_least_one(valid.sum())
    centre = zero_padding(t, valid).sum(0) / n
    cost: Tensor = zero_padding(t - centre, valid).square().sum() / n
    return cost


def _different(owner: Tensor, labels: Tensor | None, alignment: str) -> Tensor:
    """(B, B) bool, the pairs whose alignment costs extra: of different rows, or of different labels."""
    different = owner[:, None] != owner
    if alignment == "index":
        return different
    if labels is None:
        raise ValueError("alignment='label' needs labels")
    own = labels.index_select(0, owner)
    return different & ~((own[:, None] == own) & (own >= 0))


def _solve(
    s: Tensor, t: Tensor, mass: Tensor, *rest: Tensor, epsilon: float | str, divergence: bool, **solver: Any
) -> tuple[Tensor, Tensor]:
    """Values (M,) and gradients by the student's clouds (M, B, k) of M transports with masses (M, B).

    Args:
        s: (M, B, k) clouds of the students.
        t: (M, B, k) clouds of the teachers.
        mass: (M, B) masses of both.
        rest: the mean costs (M,) where epsilon is relative to them, and the offsets (M, B, B) where there are any.
        epsilon: as in `structural_transport`.
        divergence: whether the value is a divergence.
        solver: the solver's settings.
    """
    factor = None
    if isinstance(epsilon, str):
        # Each model has an epsilon of its own, but a batch has one: costs in units of each model's epsilon.
        units, *rest = rest  # type: ignore[assignment]
        factor = torch.stack([_resolve(epsilon, unit) for unit in units])[:, None, None]
        s, t, rest = s / factor.sqrt(), t / factor.sqrt(), tuple(z / factor for z in rest)
        epsilon = 1.0
    finite = (s.sum((1, 2)) + t.sum((1, 2))).isfinite()
    if not bool(finite.all()):  # a model that diverged must not stop the others
        s, t = (z.where(finite[:, None, None], 0.0) for z in (s, t))
    with torch.enable_grad():
        x = s.requires_grad_()
        solve: Any = sinkhorn_divergence if divergence else sinkhorn
        result = solve(x, t, a=mass, b=mass, epsilon=epsilon, offset=rest[0] if rest else None, **solver)
        value = result.divergence if divergence else result.objective
        (gradient,) = torch.autograd.grad(value.sum(), x)
    value = value.detach()
    if factor is not None:
        value, gradient = value * factor[:, 0, 0], gradient * factor.sqrt()
    if not bool(finite.all()):
        value, gradient = value.where(finite, torch.nan), gradient.where(finite[:, None, None], torch.nan)
    return value, gradient


def _resolve(epsilon: str, unit: Tensor) -> Tensor:
    """Epsilon in units of the cost; where the teacher's cost is not finite, so is no value, whatever it is."""
    mean = unit.item()
    return unit.new_tensor(resolve_epsilon(epsilon, lambda: mean if abs(mean) < torch.inf else 1.0, unit.dtype))
