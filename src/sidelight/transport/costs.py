"""Ground costs between two clouds of points, and the regularisation strength in their units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.transport import checks

Cost = str | Tensor | Callable[[Tensor, Tensor], Tensor]

SQUARED = {"sqeuclidean": 1.0, "sqeuclidean/2": 0.5}
NAMES = (*SQUARED, "euclidean", "cosine")


def squared_distances(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """``scale * |x_i - y_j|^2`` of (..., n, d) and (..., m, d), centred first so that float32 keeps small distances."""
    centre = y.mean(-2, keepdim=True)
    x = x - centre
    y = x if y is x else y - centre
    xx = x.square().sum(-1).mul_(scale)
    yy = y.square().sum(-1).mul_(scale)
    if x.ndim == 2:
        squared = torch.addmm(yy, x, y.T, alpha=-2.0 * scale)
    else:
        squared = torch.matmul(x, y.mT).mul_(-2.0 * scale).add_(yy.unsqueeze(-2))
    return squared.add_(xx.unsqueeze(-1)).clamp_min_(0.0)


class _SquaredDistances(Function):
    """Differentiable (twice) ``scale * |x_i - y_j|^2`` that keeps only the points for its backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.scale = scale
        return squared_distances(x, y, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        centre = y.mean(-2, keepdim=True)
        x, y = x - centre, y - centre
        grad_x = 2.0 * ctx.scale * (grad.sum(-1, keepdim=True) * x - grad @ y) if need_x else None
        grad_y = 2.0 * ctx.scale * (grad.sum(-2).unsqueeze(-1) * y - grad.mT @ x) if need_y else None
        return grad_x, grad_y, None


def cost_matrix(x: Tensor, y: Tensor, cost: Cost = "sqeuclidean/2") -> Tensor:
    """Differentiable (..., n, m) ground cost between the points of (..., n, d) and (..., m, d).

    ``"sqeuclidean"`` |x-y|^2, ``"sqeuclidean/2"`` half of it, ``"euclidean"`` |x-y| (gradient 0 where points
    coincide), ``"cosine"`` 1 - cos(x, y) (a zero vector has cosine 0 with everything), or a function of ``(x, y)``.
    """
    if isinstance(cost, Tensor):
        raise ValueError("a given cost matrix takes the place of the points: call sinkhorn(cost=matrix)")
    checks.clouds(x, y)
    if x.dtype != y.dtype or not x.is_floating_point():
        kind = torch.promote_types(x.dtype, y.dtype)
        kind = kind if kind.is_floating_point else torch.float32
        x, y = x.to(kind), y.to(kind)
    if callable(cost):
        return _checked(cost(x, y), x, y)
    if cost in SQUARED:
        result: Tensor = _SquaredDistances.apply(x, y, SQUARED[cost])  # type: ignore[no-untyped-call]
        return result
    if cost == "euclidean":
        return _euclidean(x, y)
    if cost == "cosine":
        return 1.0 - unit_rows(x) @ unit_rows(y).mT
    raise ValueError(f"unknown cost {cost!r}: expected one of {', '.join(map(repr, NAMES))}, a matrix or a function")


def _checked(costs: Any, x: Tensor, y: Tensor) -> Tensor:
    """What a cost function made of two clouds, at least in their precision."""
    expected = (*x.shape[:-1], y.shape[-2])
    made = checks.real("what the cost function returns", costs)
    if tuple(made.shape) != expected:
        raise ValueError(
            f"the cost function must return {expected} for x {tuple(x.shape)} and y {tuple(y.shape)}, got "
            f"{tuple(made.shape)}"
        )
    return made.to(torch.promote_types(made.dtype, x.dtype))


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    squared: Tensor = _SquaredDistances.apply(x, y, 1.0)  # type: ignore[no-untyped-call]
    # |x|^2 + |y|^2 - 2xy of equal points is rounding, whose root would look like a distance with a gradient
    centre = y.detach().mean(-2, keepdim=True)
    size = (x.detach() - centre).square().sum(-1, keepdim=True) + (y.detach() - centre).square().sum(-1).unsqueeze(-2)
    apart = squared > 8 * torch.finfo(size.dtype).eps * size
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def unit_rows(z: Tensor) -> Tensor:
    """Rows scaled to norm 1; a row of norm 0 stays 0 and gets gradient 0, NaN stays NaN."""
    norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    present = norm != 0
    return torch.where(present, z / torch.where(present, norm, 1.0), 0.0)


def resolve_epsilon(epsilon: float | str, mean_cost: Callable[[], float]) -> float:
    """A positive float, or ``"relative:r"`` for ``r`` times the mean cost (1 where that is 0: any value does then)."""
    if isinstance(epsilon, str):
        prefix, _, number = epsilon.partition(":")
        if prefix != "relative" or not number:
            raise ValueError(f"epsilon is a positive number or 'relative:<number>', got {epsilon!r}")
        try:
            ratio = float(number)
        except ValueError:
            raise ValueError(
                f"epsilon is a positive number or 'relative:<number>', e.g. 'relative:0.05', got {epsilon!r}"
            ) from None
        value = ratio * mean_cost()
        if ratio > 0 and value == 0:
            return 1.0
    else:
        try:
            value = float(epsilon)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"epsilon is a positive number or 'relative:<number>', got {type(epsilon).__name__}"
            ) from None
    if not value > 0 or value == float("inf"):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r} (value {value})")
    return value
