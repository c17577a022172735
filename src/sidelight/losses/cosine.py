"""Cosine similarities between rows, with one product in the backward pass and care for extreme norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.transport import checks
from sidelight.transport.double_backward import refuse_double_backward
from sidelight.utils.precision import in_full_precision


def cosine_similarity_matrix(z: Tensor) -> Tensor:
    """Cosine similarities of all pairs of rows; rows of norm 0 have similarity 0 and gradient 0.

    ``S_ij = <z_i, z_j> / (|z_i| |z_j|)``; ``z`` (B, D) gives (B, B), in at least float32. PKDOT eq. 1-4.
    Raises ValueError where ``z`` holds NaN or infinity.
    """
    with in_full_precision(z.device):
        result: Tensor = Cosines.apply(to_float(z), None)  # type: ignore[no-untyped-call]
        return result


class Cosines(Function):
    """Cosines between the rows of ``z`` and its rows ``index`` (all if None), with one product in the backward pass."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, index: Tensor | None) -> Tensor:
        unit, inverse = normalise_with_inverse(z)
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
        # A norm of 1 is kept: drop the part of the gradient along each row.
        along = (moved * unit).sum(1, keepdim=True)
        return torch.addcmul(moved, unit, along, value=-1).mul_(inverse), None


def normalise_with_inverse(z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (B, D) of norm 1, and the inverse norms (B, 1); both are 0 for a row of norm 0."""
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    inverse = torch.where(norm > 0, 1.0 / norm, 0.0)
    if not torch.isfinite(inverse + norm).all().item():
        checks.require_finite("z", z)
        largest = z.abs().amax(1, keepdim=True)  # a norm overflows where its square does
        long = torch.linalg.vector_norm(z / largest, dim=1, keepdim=True).reciprocal() / largest
        inverse = torch.where(norm.isinf(), long, inverse)
        inverse = torch.where(torch.isfinite(inverse), inverse, 0.0)  # norms below the reciprocal of the largest number
    return z * inverse, inverse


def to_float(z: Tensor) -> Tensor:
    """The tensor in at least float32."""
    return z if z.dtype == torch.float64 else z.float()
