"""Structural distillation by entropic optimal transport (PKDOT): losses over two batches of embeddings.

Source: Aslam et al., "Distilling Privileged Multimodal Information for Expression Recognition using Optimal
Transport", 2024 (arXiv 2401.15489), eq. 1-6.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import Function

from sidelight.transport import ANCHORS, checks, sinkhorn, sinkhorn_divergence
from sidelight.transport.anchors import select_anchors_unchecked, select_paper_from_rows
from sidelight.transport.costs import check_epsilon, resolve_epsilon
from sidelight.transport.double_backward import refuse_double_backward
from sidelight.transport.result import OnFailure

Objective = Literal["plain", "divergence"]
Alignment = Literal["row", "index", "label"]
SMALL = 1e-30  # stands for a weight of zero


def cosine_similarity_matrix(z: Tensor) -> Tensor:
    """Cosine similarities of all pairs of rows; rows of norm 0 have similarity 0 and gradient 0.

    ``S_ij = <z_i, z_j> / (|z_i| |z_j|)``; ``z`` (B, D) gives (B, B), in at least float32. PKDOT eq. 1-4.
    Raises ValueError where ``z`` holds NaN or infinity.
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
    @refuse_double_backward(
        "the structural loss is differentiable once: leave out create_graph, or detach the embeddings"
    )
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
    if not torch.isfinite(inverse + norm).all().item():
        checks.require_finite("z", z)
        largest = z.abs().amax(1, keepdim=True)  # a norm overflows where its square does
        long = torch.linalg.vector_norm(z / largest, dim=1, keepdim=True).reciprocal() / largest
        inverse = torch.where(norm.isinf(), long, inverse)
        inverse = torch.where(torch.isfinite(inverse), inverse, 0.0)  # norms below the reciprocal of the largest number
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
    on_failure: OnFailure = "warn",
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
    on_failure: ``"warn"`` (once per process), ``"raise"`` or ``"ignore"`` where ``max_iterations`` did not suffice.

    Raises ValueError or TypeError, which name the argument, for NaN or infinity, other shapes, and unknown settings.
    """
    _check_settings(
        k=k, epsilon=epsilon, objective=objective, anchors=anchors, shift=shift, alignment=alignment, penalty=penalty,
        identity=identity, tolerance=tolerance, max_iterations=max_iterations, on_failure=on_failure,
    )  # fmt: skip
    _check_embeddings(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        try:
            s, t, index = _anchored(student, teacher.detach(), k, anchors, shift, labels, generator)
        except ValueError:  # the norms have shown it: a check ahead would take another pass over each
            checks.require_finite("student", student)
            checks.require_finite("teacher", teacher)
            raise
        if anchor_weights is not None:
            _check_anchor_weights(anchor_weights, anchors)
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
            "on_failure": on_failure,
        }
        if objective == "plain":
            value = sinkhorn(s, t, **options).objective
        else:
            value = sinkhorn_divergence(s, t, **options).divergence
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
        checks.require_choice("preset", preset, PRESETS)
        unknown = set(overrides) - set(SETTINGS)
        if unknown:
            raise TypeError(f"unknown settings {sorted(unknown)}: expected some of {sorted(SETTINGS)}")
        self.preset = preset
        self.settings: dict[str, Any] = {**PRESETS[preset], **overrides}
        _check_settings(**self.settings)
        if anchor_weights is not None:
            _check_anchor_weights(anchor_weights, self.settings["anchors"])

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


def _check_shift(value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"shift must be True or False, got {value!r}")


def _check_alignment(value: Any) -> None:
    if value is not None:
        checks.require_choice("alignment", value, get_args(Alignment))


SETTINGS: dict[str, Callable[[Any], None]] = {
    "k": partial(checks.require_whole, "k"),
    "epsilon": check_epsilon,
    "objective": partial(checks.require_choice, "objective", names=get_args(Objective)),
    "anchors": partial(checks.require_choice, "anchors", names=ANCHORS),
    "shift": _check_shift,
    "alignment": _check_alignment,
    "penalty": partial(checks.require_positive, "penalty", or_zero=True),
    "identity": partial(checks.require_positive, "identity", or_zero=True),
    "tolerance": partial(checks.require_positive, "tolerance"),
    "max_iterations": partial(checks.require_positive, "max_iterations"),
    "on_failure": partial(checks.require_choice, "on_failure", names=checks.CHOICES["on_failure"]),
}
"""What refuses a wrong value of each setting."""


def _check_settings(**settings: Any) -> None:
    for name, value in settings.items():
        SETTINGS[name](value)


def _check_anchor_weights(module: Any, anchors: str) -> None:
    if not callable(module):
        raise TypeError(f"anchor_weights is a module such as LearnedWeights(dim), got {type(module).__name__}")
    if anchors == "released":
        raise ValueError("anchor_weights need one set of anchors for the batch, not one per row (anchors='released')")


def _check_embeddings(student: Any, teacher: Any) -> None:
    checks.require_tensor("student", student)
    checks.require_tensor("teacher", teacher)
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher) or not len(student):
        raise ValueError(
            f"student (B, D) and teacher (B, D') need one row per sample, and at least one, got {tuple(student.shape)} "
            f"and {tuple(teacher.shape)}"
        )
    if student.device != teacher.device:
        raise ValueError(f"student is on {student.device} and teacher on {teacher.device}: move one of them with .to")


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
        index = select_paper_from_rows(unit, k)
        reference = unit @ unit[index].T
    else:
        similarity = cosine_similarity_matrix(teacher)
        index = select_anchors_unchecked(similarity, k, anchors, labels, generator)
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
    weights = checks.require_tensor("what anchor_weights returns", module(unit[index]))
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
    # the root of 0 has no gradient, the cost has: one of SMALL passes it on
    root = (weights + (SMALL - weights.detach()).clamp_min(0.0)).sqrt()
    return s * root, t * root


def _mean_self_cost(rows: Tensor) -> float:
    """``mean_ij |t_i - t_j|^2 / 2``: the total variance of the rows."""
    cost = rows.var(0, correction=0).sum().item()
    if not abs(cost) < float("inf"):
        raise ValueError(
            "the teacher's mean cost is not finite: anchor_weights are too large, divide them by a constant"
        )
    return cost


def _offset(alignment: Alignment | None, amount: float, labels: Tensor | None, like: Tensor) -> Tensor | None:
    if alignment is None:
        return None
    if alignment == "index":
        return like.new_full((len(like), len(like)), amount).fill_diagonal_(0.0)
    if labels is None:
        raise ValueError("alignment='label' needs labels")
    labels = checks.require_labels(labels, len(like)).to(like.device)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & (labels >= 0)
    return (~same).to(like).fill_diagonal_(0.0) * amount
