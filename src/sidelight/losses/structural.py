"""Structural distillation by entropic optimal transport (PKDOT): losses over two batches of embeddings.

Source: Aslam et al., "Distilling Privileged Multimodal Information for Expression Recognition using Optimal
Transport", 2024 (arXiv 2401.15489), eq. 1-6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sidelight.losses.common import check_rows
from sidelight.losses.cosine import Cosines, cosine_similarity_matrix, normalise_with_inverse, to_float
from sidelight.losses.padded_structural import PaddedTransport
from sidelight.losses.structural_settings import (
    PRESETS,
    SETTINGS,
    Alignment,
    Objective,
    check_anchor_weights,
    check_embeddings,
    check_settings,
)
from sidelight.transport import checks, sinkhorn, sinkhorn_divergence
from sidelight.transport.anchors import select_anchors_unchecked, select_paper_from_rows
from sidelight.transport.costs import resolve_epsilon
from sidelight.transport.padded_anchors import PADDED_ANCHORS
from sidelight.transport.result import OnFailure
from sidelight.utils.precision import in_full_precision

SMALL = 1e-30  # stands for a weight of zero


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
    on_failure: OnFailure = "warn",
    valid: Tensor | None = None,
) -> Tensor:
    """Entropic transport between the rows of the student's and the teacher's anchored similarity matrices.

    ``min_P <P, C> + epsilon KL(P | uniform)``, ``C_ij = |s_i - t_j|^2 / 2``, with ``s``, ``t`` the (B, k) cosine
    similarities to the anchors. Source: PKDOT eq. 1-6.

    Args:
        student: (B, D) embeddings of the student.
        teacher: (B, D') embeddings of the teacher, without gradient.
        k: number of anchors, at most B of which are used.
        epsilon: regularisation strength, or ``"relative:r"`` for r times the mean cost between the teacher's own rows.
        objective: ``"plain"`` (the paper; its minimiser is a shrunken cloud) or the debiased ``"divergence"``.
        anchors: name of a selector, one of `sidelight.transport.ANCHORS`.
        shift: subtract each matrix's own minimum first, with gradient (the released code).
        alignment: transport between clouds cannot tell *which* row is which. ``"row"`` compares row i with row i only
            (no transport); ``"index"`` and ``"label"`` make pairs of different rows, or of different labels, cost more.
        penalty: that extra cost, in units of the teacher's mean cost.
        identity: weight of ``mean_i |s_i - t_i|^2 / 2``, added to the loss.
        anchor_weights: a module from the teacher's unit embeddings (k, D') of shared anchors to the weights (k,) of
            their columns in the cost, such as :class:`~sidelight.transport.LearnedWeights`.
        labels: (B,) class codes for ``"class_balanced"`` anchors and alignment by label; a row of -1 has no label, and
            none in common with another row.
        generator: source of random numbers for ``"random"`` anchors.
        tolerance: L1 error of the marginals that the plan must meet.
        max_iterations: the most iterations of the solver.
        on_failure: ``"warn"`` (once per process), ``"raise"`` or ``"ignore"`` where ``max_iterations`` did not suffice.
        valid: (B,) bool, False for padding rows, which take no part; None: every row is real. With it the loss runs
            under `torch.vmap`, where the transports of all models are solved together; it takes no anchor weights
            and no ``"random"`` or ``"k_medoids"`` anchors, and is NaN where an embedding is not finite.

    Returns:
        A scalar with a gradient to the student.

    Raises:
        ValueError: An embedding holds NaN or infinity, a shape does not fit, or a setting is unknown; the error names
            it.
        TypeError: An argument has the wrong type.
    """
    check_settings(
        k=k, epsilon=epsilon, objective=objective, anchors=anchors, shift=shift, alignment=alignment, penalty=penalty,
        identity=identity, tolerance=tolerance, max_iterations=max_iterations, on_failure=on_failure,
    )  # fmt: skip
    if valid is not None:
        check_rows(student, teacher)
        if anchor_weights is not None:
            raise ValueError("anchor_weights read every anchor of a batch, so they need a batch without padding rows")
        if anchors not in PADDED_ANCHORS:
            known = ", ".join(map(repr, PADDED_ANCHORS))
            raise ValueError(f"anchors={anchors!r} need a batch without padding rows: expected one of {known}")
        if labels is None and anchors == "class_balanced":
            raise ValueError("anchors='class_balanced' needs labels")
        if labels is None and alignment == "label":
            raise ValueError("alignment='label' needs labels")
        with torch.autocast(student.device.type, enabled=False):
            solver = {"tolerance": tolerance, "max_iterations": max_iterations, "on_failure": on_failure}
            padded = PaddedTransport(k, epsilon, objective, anchors, shift, alignment, penalty, identity, solver)
            return padded(student, teacher.detach(), valid, labels)
    check_embeddings(student, teacher)
    with in_full_precision(student.device):
        try:
            s, t, index = _compare_with_anchors(student, teacher.detach(), k, anchors, shift, labels, generator)
        except ValueError:  # the norms revealed it; a check in advance would take another pass over each
            checks.require_finite("student", student)
            checks.require_finite("teacher", teacher)
            raise
        if anchor_weights is not None:
            check_anchor_weights(anchor_weights, anchors)
            s, t = _apply_anchor_weights(s, t, teacher.detach(), index, anchor_weights)
        # Row i of the student against row i of the teacher: the whole loss, or a term beside transport.
        rows = 0.5 * (s - t).square().sum(1).mean() if identity or alignment == "row" else None
        if alignment == "row":
            assert rows is not None
            return rows * (1.0 + identity)
        # A relative epsilon and the penalty are in units of the teacher's own mean cost, which training leaves alone.
        unit = _compute_mean_self_cost(t) if isinstance(epsilon, str) or alignment is not None else 0.0
        options: dict[str, Any] = {
            "epsilon": resolve_epsilon(epsilon, lambda: unit, s.dtype),
            "offset": _build_offset(alignment, penalty * unit, labels, s),
            "tolerance": tolerance,
            "max_iterations": max_iterations,
            "on_failure": on_failure,
        }
        if objective == "plain":
            value = sinkhorn(s, t, **options).objective
        else:
            value = sinkhorn_divergence(s, t, **options).divergence
        return value if rows is None else value + identity * rows


class StructuralTransport(nn.Module):
    """:func:`structural_transport` with a preset and overrides: ``StructuralTransport("paper", k=15)``.

    Args:
        preset: ``"paper"``: plain entropic transport, epsilon 0.1, one set of 30 anchors per batch. ``"released"``:
            divergence, epsilon 0.01, anchors per row, shifted matrices. ``"sidelight"``: row i against row i,
            without transport; with ``alignment=None`` divergence and relative epsilon. Shared anchors.
        anchor_weights: a module that learns the weights of the anchors, or None.
        overrides: settings of :func:`structural_transport` that replace those of the preset.

    Raises:
        TypeError: An override is not a setting.
        ValueError: A setting has a wrong value.
    """

    def __init__(self, preset: str = "paper", *, anchor_weights: nn.Module | None = None, **overrides: Any) -> None:
        super().__init__()
        self.anchor_weights = anchor_weights
        checks.require_choice("preset", preset, PRESETS)
        unknown = set(overrides) - set(SETTINGS)
        if unknown:
            raise TypeError(f"unknown settings {sorted(unknown)}: expected some of {sorted(SETTINGS)}")
        self.preset = preset
        self.settings: dict[str, Any] = {**PRESETS[preset], **overrides}
        check_settings(**self.settings)
        if anchor_weights is not None:
            check_anchor_weights(anchor_weights, self.settings["anchors"])

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            student: (B, D) embeddings of the student.
            teacher: (B, D') embeddings of the teacher, without gradient.
            labels: (B,) class codes, -1 for none; only for ``"class_balanced"`` anchors and alignment by label.
            generator: source of random numbers for ``"random"`` anchors.
            valid: (B,) bool, False for padding rows; None: every row is real.

        Returns:
            A scalar.
        """
        more: dict[str, Any] = {"labels": labels, "generator": generator, "anchor_weights": self.anchor_weights}
        return structural_transport(student, teacher, **more, valid=valid, **self.settings)

    def extra_repr(self) -> str:
        return f"{self.preset!r}, " + ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


def _compare_with_anchors(
    student: Tensor,
    teacher: Tensor,
    k: int,
    anchors: str,
    shift: bool,
    labels: Tensor | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, k) similarities of student and teacher to the same anchors, and the anchors' indices."""
    if anchors == "paper" and not shift:  # the teacher's full matrix is not needed
        unit, _ = normalise_with_inverse(to_float(teacher))
        index = select_paper_from_rows(unit, k)
        reference = unit @ unit[index].T
    else:
        similarity = cosine_similarity_matrix(teacher)
        index = select_anchors_unchecked(similarity, k, anchors, labels, generator)
        reference = similarity - similarity.min() if shift else similarity
        reference = reference[:, index] if index.ndim == 1 else reference.gather(1, index)
    if index.ndim == 1 and not shift:  # the student's full matrix is not needed either
        own: Tensor = Cosines.apply(to_float(student), index)  # type: ignore[no-untyped-call]
    else:
        own = cosine_similarity_matrix(student)
        own = own - own.min() if shift else own
        own = own[:, index] if index.ndim == 1 else own.gather(1, index)
    return own, reference.to(own.dtype), index


def _apply_anchor_weights(
    s: Tensor, t: Tensor, teacher: Tensor, index: Tensor, module: nn.Module
) -> tuple[Tensor, Tensor]:
    """Columns scaled so that the cost is ``sum_k w_k (s_ik - t_jk)^2 / 2``."""
    if index.ndim != 1:
        raise ValueError("anchor_weights need one set of anchors for the batch, not one per row")
    unit, _ = normalise_with_inverse(to_float(teacher))
    weights = checks.require_tensor("the result of anchor_weights", module(unit[index]))
    if weights.shape != index.shape:
        raise ValueError(
            f"anchor_weights must return one weight per anchor {tuple(index.shape)}, got {tuple(weights.shape)}"
        )
    wrong = ~((weights >= 0) & (weights < float("inf")))
    if wrong.any().item():
        place = checks.find_first(wrong)
        raise ValueError(
            f"anchor_weights must return finite weights of at least 0, got {weights[place].item():g} at {place}"
        )
    weights = weights.to(s.dtype)
    # The root of 0 has no gradient, but the cost has one: a root of SMALL passes it on.
    root = (weights + (SMALL - weights.detach()).clamp_min(0.0)).sqrt()
    return s * root, t * root


def _compute_mean_self_cost(rows: Tensor) -> float:
    """``mean_ij |t_i - t_j|^2 / 2``: the total variance of the rows."""
    cost = rows.var(0, correction=0).sum().item()
    if not abs(cost) < float("inf"):
        raise ValueError(
            "the teacher's mean cost is not finite: anchor_weights are too large, divide them by a constant"
        )
    return cost


def _build_offset(alignment: Alignment | None, amount: float, labels: Tensor | None, like: Tensor) -> Tensor | None:
    """The extra cost (B, B) of pairs of different rows or labels, or None without alignment."""
    if alignment is None:
        return None
    if alignment == "index":
        return like.new_full((len(like), len(like)), amount).fill_diagonal_(0.0)
    if labels is None:
        raise ValueError("alignment='label' needs labels")
    labels = checks.require_labels(labels, len(like)).to(like.device)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & (labels >= 0)
    return (~same).to(like).fill_diagonal_(0.0) * amount
