"""Shared by the losses over rows: precision, checks of shapes, rows of norm 1, squared distances."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorate a loss: it runs in at least float32, outside autocast, since half precision loses small differences."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if not tensors:
            return loss(*args, **kwargs)
        with torch.autocast(tensors[0].device.type, enabled=False):
            call: Callable[..., Tensor] = loss
            return call(*map(_to_float32, args), **{name: _to_float32(x) for name, x in kwargs.items()})

    return wrapped


def _to_float32(x: Any) -> Any:
    """Half precision as float32; everything else as it is."""
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x


def check_rows(student: Tensor, teacher: Tensor, *, same_width: bool = False) -> None:
    """Refuse embeddings that do not have one row per sample.

    Args:
        student: (B, D) embeddings of the student.
        teacher: (B, D') embeddings of the teacher.
        same_width: whether D and D' must be equal, for losses that compare rows of one with rows of the other.

    Raises:
        ValueError: The shapes do not fit.
    """
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        expected = "student (B, D) and teacher (B, D') need one row per sample"
    elif same_width and student.shape[1] != teacher.shape[1]:
        expected = "rows of student and teacher need the same width (a linear map of one of them gives it)"
    else:
        return
    raise ValueError(f"{expected}, got {tuple(student.shape)} and {tuple(teacher.shape)}")


def check_labels(labels: Tensor, rows: Tensor) -> None:
    """Refuse labels that are not one integer class code per row."""
    if labels.shape != rows.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels need one class code per row ({len(rows)},), got {labels.dtype} {tuple(labels.shape)}")


def normalise_rows(z: Tensor) -> Tensor:
    """Rows (B, D) divided by their norms; a row whose square underflows counts as 0 and gets a gradient of 0."""
    # The inner `where` keeps 0 / 0, and with it NaN, out of the gradient.
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    somewhere = norm > torch.finfo(z.dtype).tiny ** 0.5
    return torch.where(somewhere, z / norm.where(somewhere, 1.0), 0.0)


def pairwise_squared_distances(z: Tensor) -> Tensor:
    """|z_i − z_j|² (B, B) between rows (B, D), with gradient; 0 where it is less than the rounding of the squares."""
    z = z - z.detach().mean(0)  # distances are the same, and lose fewer digits to cancellation
    squares = z.square().sum(1)
    total = squares[:, None] + squares[None]
    distance = torch.addmm(total, z, z.T, alpha=-2)
    apart = distance > 4 * torch.finfo(z.dtype).eps * total
    return distance.where(apart.fill_diagonal_(False), 0.0)
