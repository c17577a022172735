"""Structural distillation by entropic optimal transport (PKDOT): losses over two batches of embeddings.

Source: Aslam et al., "Distilling Privileged Multimodal Information for Expression Recognition using Optimal
Transport", 2024 (arXiv 2401.15489), eq. 1-6.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

from sidelight.transport import checks, select_anchors, sinkhorn, sinkhorn_divergence
from sidelight.transport.anchors import paper_of_rows
from sidelight.transport.costs import resolve_epsilon
from sidelight.transport.once import once

Objective = Literal["plain", "divergence"]
Alignment = Literal["row", "index", "label"]


def cosine_similarity_matrix(z: Tensor) -> Tensor:
    """Cosine similarities of all pairs of rows; rows of norm 0 have similarity 0 and gradient 0.

    ``S_ij = <z_i, z_j> / (|z_i| |z_j|)``; ``z`` (B, D) gives (B, B), in at least float32. PKDOT eq. 1-4.
    """
    with torch.autocast(z.device.type, enabled=False):
        result: Tensor = _Cosines.apply(_float(z), None)  # type: ignore[no-untyped-call]
        return result


class _Cosines(Function):
    """Cosines between the rows of ``z`` and its rows ``index`` (all if None), with one product in the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, index: Tensor | None) -> Tensor:
        unit, inverse = _unit_rows(z)
        ctx.save_for_backward(unit, inverse, index, z)
        return unit @ (unit if index is None else unit[index]).T

    @staticmethod
    @once("the structural loss is differentiable once: leave out create_graph, or detach the embeddings")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        unit, inverse, index, _ = ctx.saved_tensors
        if index is None:
            moved = (grad + grad.T) @ unit
        else:
            moved = (grad @ unit[index]).index_add_(0, index, grad.T @ unit)
        along = (moved * unit).sum(1, keepdim=True)
        return torch.addcmul(moved, unit, along, value=-1).mul_(inverse), None


def _unit_rows(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of norm 1 and the inverse norms; both 0 for a row of norm 0."""
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    inverse = torch.where(norm > 0, 1.0 / norm, 0.0)
    if not torch.isfinite(inverse).all().item():  # norms below the reciprocal of the largest number
        inverse = torch.where(torch.isfinite(inverse), inverse, 0.0)
    return z * inverse, inverse


def _float(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def structural_transport(
    student: Tensor,
    teacher: Tensor,
    *,
    k: int = 30,
    epsilon: float | str = 0.1,
    objective: Objective = "plain",
    anchors: str = "paper",
    shift: bool = False,
    alignment: Alignment | None = None,
    penalty: float = 1.0,
    identity: float = 0.0,
    anchor_weights: nn.Module | None = None,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> Tensor:
    """Entropic transport between the rows of the student's and the teacher's anchored similarity matrices.

    ``min_P <P, C> + epsilon KL(P | uniform)``, ``C_ij = |s_i - t_j|^2 / 2``, with ``s``, ``t`` the (B, k) cosine
    similarities to the anchors. ``student`` (B, D) and ``teacher`` (B, D') give a scalar; the teacher is detached.
    PKDOT eq. 1-6.

    objective: ``"plain"`` (the paper; its minimiser is a shrunken cloud) or the debiased ``"divergence"``.
    anchors: a selector of :mod:`sidelight.transport.anchors`. ``labels`` (B,) serve ``"class_balanced"`` and alignment;
    a row of -1 has no label, and none in common with another row.
    epsilon: a number, or ``"relative:r"``: r times the mean cost between the teacher's own rows.
    shift: subtract each matrix's own minimum first, with gradient (the released code).
    alignment: transport between clouds does not see *which* row is which. ``"row"`` compares row i with row i only
    (no transport); ``"index"`` and ``"label"`` add ``penalty`` times the teacher's mean cost to pairs of different
    rows, or of different labels. identity: weight of ``mean_i |s_i - t_i|^2 / 2`` added to the loss.
    anchor_weights: a module from the teacher's unit embeddings (k, D') of shared anchors to the weights (k,) of their
    columns in the cost, such as :class:`~sidelight.transport.LearnedWeights`.
    """
    checks.real("student", student)
    checks.real("teacher", teacher)
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher) or not len(student):
        raise ValueError(
            f"student (B, D) and teacher (B, D') need one row per sample, and at least one, got {tuple(student.shape)} "
            f"and {tuple(teacher.shape)}"
        )
    with torch.autocast(student.device.type, enabled=False):
        s, t, index = _anchored(student, teacher.detach(), k, anchors, shift, labels, generator)
        if anchor_weights is not None:
            s, t = _weighted(s, t, teacher.detach(), index, anchor_weights)
        rows = 0.5 * (s - t).square().sum(1).mean() if identity or alignment == "row" else None
        if alignment == "row":
            assert rows is not None
            return rows * (1.0 + identity)
        unit = _mean_self_cost(t) if isinstance(epsilon, str) or alignment is not None else 0.0
        options: dict[str, Any] = {
            "epsilon": resolve_epsilon(epsilon, lambda: unit, s.dtype),
            "offset": _offset(alignment, penalty * unit, labels, s),
            "tolerance": tolerance,
            "max_iterations": max_iterations,
        }
        if objective == "plain":
            value = sinkhorn(s, t, **options).objective
        elif objective == "divergence":
            value = sinkhorn_divergence(s, t, **options).divergence
        else:
            raise ValueError(f"unknown objective {objective!r}: expected 'plain' or 'divergence'")
        return value if rows is None else value + identity * rows


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"objective": "plain", "epsilon": 0.1, "k": 30, "anchors": "paper", "shift": False},
    "released": {"objective": "divergence", "epsilon": 0.01, "k": 30, "anchors": "released", "shift": True},
    "sidelight": {"objective": "divergence", "epsilon": "relative:0.05", "k": 30, "anchors": "paper", "shift": False},
}


class StructuralTransport(nn.Module):
    """:func:`structural_transport` with a preset and overrides: ``StructuralTransport("paper", k=15)``.

    ``"paper"``: plain entropic transport, epsilon 0.1, one set of 30 anchors per batch. ``"released"``: divergence,
    epsilon 0.01, anchors per row, shifted matrices. ``"sidelight"``: divergence, shared anchors, relative epsilon.
    """

    def __init__(self, preset: str = "paper", *, anchor_weights: nn.Module | None = None, **overrides: Any) -> None:
        super().__init__()
        self.anchor_weights = anchor_weights
        if preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}: expected one of {', '.join(PRESETS)}")
        unknown = set(overrides) - SETTINGS
        if unknown:
            raise TypeError(f"unknown settings {sorted(unknown)}: expected some of {sorted(SETTINGS)}")
        self.preset = preset
        self.settings: dict[str, Any] = {**PRESETS[preset], **overrides}

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        more: dict[str, Any] = {"labels": labels, "generator": generator, "anchor_weights": self.anchor_weights}
        return structural_transport(student, teacher, **more, **self.settings)

    def extra_repr(self) -> str:
        return f"{self.preset!r}, " + ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


SETTINGS = {
    "k", "epsilon", "objective", "anchors", "shift", "alignment", "penalty", "identity", "tolerance", "max_iterations",
}  # fmt: skip


def _anchored(
    student: Tensor,
    teacher: Tensor,
    k: int,
    anchors: str,
    shift: bool,
    labels: Tensor | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, k) similarities of both networks to the same anchors, and these."""
    if anchors == "paper" and not shift:  # the teacher's full matrix is not needed
        unit, _ = _unit_rows(_float(teacher))
        index = paper_of_rows(unit, k)
        reference = unit @ unit[index].T
    else:
        similarity = cosine_similarity_matrix(teacher)
        index = select_anchors(similarity, k, anchors, labels=labels, generator=generator)
        reference = similarity - similarity.min() if shift else similarity
        reference = reference[:, index] if index.ndim == 1 else reference.gather(1, index)
    if index.ndim == 1 and not shift:  # nor the student's
        own: Tensor = _Cosines.apply(_float(student), index)  # type: ignore[no-untyped-call]
    else:
        own = cosine_similarity_matrix(student)
        own = own - own.min() if shift else own
        own = own[:, index] if index.ndim == 1 else own.gather(1, index)
    return own, reference.to(own.dtype), index


def _weighted(s: Tensor, t: Tensor, teacher: Tensor, index: Tensor, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Columns scaled so that the cost is ``sum_k w_k (s_ik - t_jk)^2 / 2``."""
    if index.ndim != 1:
        raise ValueError("anchor_weights need one set of anchors for the batch, not one per row")
    unit, _ = _unit_rows(_float(teacher))
    root = module(unit[index]).to(s.dtype).sqrt()
    return s * root, t * root


def _mean_self_cost(rows: Tensor) -> float:
    """``mean_ij |t_i - t_j|^2 / 2``: the total variance of the rows."""
    cost = rows.var(0, correction=0).sum().item()
    if not abs(cost) < float("inf"):
        raise ValueError("the teacher's embeddings hold NaN or infinity, or lead to it")
    return cost


def _offset(alignment: Alignment | None, amount: float, labels: Tensor | None, like: Tensor) -> Tensor | None:
    if alignment is None:
        return None
    if alignment == "index":
        return like.new_full((len(like), len(like)), amount).fill_diagonal_(0.0)
    if alignment != "label":
        raise ValueError(f"unknown alignment {alignment!r}: expected 'row', 'index' or 'label'")
    if labels is None:
        raise ValueError("alignment='label' needs labels")
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & (labels >= 0)
    return (~same).to(like).fill_diagonal_(0.0) * amount
