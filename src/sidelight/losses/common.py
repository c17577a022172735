"""What the losses over rows share: precision, shapes, unit rows, squared distances."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The loss in at least float32 and outside autocast: differences of close distances do not survive in half."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if not tensors:
            return loss(*args, **kwargs)
        with torch.autocast(tensors[0].device.type, enabled=False):
            call: Callable[..., Tensor] = loss
            return call(*map(_widened, args), **{name: _widened(x) for name, x in kwargs.items()})

    return wrapped


def _widened(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x


def check_rows(student: Tensor, teacher: Tensor, *, same_width: bool = False) -> None:
    """One row of each network per sample; of the same width where rows of one are compared with rows of the other."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        expected = "student (B, D) and teacher (B, D') need one row per sample"
    elif same_width and student.shape[1] != teacher.shape[1]:
        expected = "rows of student and teacher need the same width (a linear map of one of them gives it)"
    else:
        return
    raise ValueError(f"{expected}, got {tuple(student.shape)} and {tuple(teacher.shape)}")


def check_labels(labels: Tensor, rows: Tensor) -> None:
    if labels.shape != rows.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels need one class code per row ({len(rows)},), got {labels.dtype} {tuple(labels.shape)}")


def unit_rows(z: Tensor) -> Tensor:
    """Rows (B, D) divided by their norms; a row whose square underflows counts as 0 and gets a gradient of 0."""
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    somewhere = norm > torch.finfo(z.dtype).tiny ** 0.5
    return torch.where(somewhere, z / norm.where(somewhere, 1.0), 0.0)


def squared_distances(z: Tensor) -> Tensor:
    """|z_i − z_j|² (B, B) of rows (B, D), with gradient; 0 where it is less than the rounding of the squares."""
    z = z - z.detach().mean(0)  # distances are the same, and lose fewer digits to cancellation
    squares = z.square().sum(1)
    total = squares[:, None] + squares[None]
    distance = torch.addmm(total, z, z.T, alpha=-2)
    apart = distance > 4 * torch.finfo(z.dtype).eps * total
    return distance.where(apart.fill_diagonal_(False), 0.0)
