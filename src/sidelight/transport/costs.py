"""Ground costs between two clouds of points, and the regularisation strength in their units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.transport import checks
from sidelight.transport.arrays import CHUNK

Cost = str | Tensor | Callable[[Tensor, Tensor], Tensor]

SQUARED = {"sqeuclidean": 1.0, "sqeuclidean/2": 0.5}
NAMES = (*SQUARED, "euclidean", "cosine")
FEW = 8  # dimensions up to which differences of all pairs are faster than a product
NEAR = 1e-2  # of |x|^2 + |y|^2: squared distances below lose too many digits to |x|^2 + |y|^2 - 2xy


def squared_distances(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """``scale * |x_i - y_j|^2``, from clouds that are centred first so that float32 keeps small distances.

    Args:
        x: points (..., n, d).
        y: points (..., m, d).
        scale: factor of the squared distances.

    Returns:
        (..., n, m), not below 0.
    """
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
    """Differentiable ground cost between the points of two clouds, in at least float32.

    Args:
        x: points (..., n, d).
        y: points (..., m, d).
        cost: ``"sqeuclidean"`` |x-y|^2, ``"sqeuclidean/2"`` half of it, ``"euclidean"`` |x-y| (gradient 0 where points
            coincide), ``"cosine"`` 1 - cos(x, y) (a zero vector has cosine 0 with everything), or a function of
            ``(x, y)``.

    Returns:
        (..., n, m) costs.

    Raises:
        ValueError: The name is unknown, the shapes do not agree, or the function returns another shape.
        TypeError: The function does not return a dense real tensor.
    """
    if isinstance(cost, Tensor):
        raise ValueError("a given cost matrix takes the place of the points: call sinkhorn(cost=matrix)")
    checks.require_clouds(x, y)
    if x.dtype != y.dtype or x.dtype not in (torch.float32, torch.float64):
        kind = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
        x, y = x.to(kind), y.to(kind)
    if callable(cost):
        return _check_result(cost(x, y), x, y)
    if cost in SQUARED:
        result: Tensor = _SquaredDistances.apply(x, y, SQUARED[cost])  # type: ignore[no-untyped-call]
        return result
    if cost == "euclidean":
        distances: Tensor = _Distances.apply(x, y)  # type: ignore[no-untyped-call]
        return distances
    if cost == "cosine":
        angles = 1.0 - normalise_points(x) @ normalise_points(y).mT
        angles.detach().clamp_min_(0.0)  # below 0 by rounding; the gradient is right there too
        return angles
    raise ValueError(f"unknown cost {cost!r}: expected one of {', '.join(map(repr, NAMES))}, a matrix or a function")


def _check_result(costs: Any, x: Tensor, y: Tensor) -> Tensor:
    """The result of a cost function for two clouds, in at least their precision."""
    expected = (*x.shape[:-1], y.shape[-2])
    made = checks.require_tensor("the cost function's result", costs)
    if tuple(made.shape) != expected:
        raise ValueError(
            f"the cost function must return {expected} for x {tuple(x.shape)} and y {tuple(y.shape)}, got "
            f"{tuple(made.shape)}"
        )
    return made.to(torch.promote_types(made.dtype, x.dtype))


class _Distances(Function):
    """Differentiable (twice) ``|x_i - y_j|``; 0 with gradient 0 where points coincide, and nowhere else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        result = distances(x, y)
        ctx.save_for_backward(x, y, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, distance = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad
        apart = distance > 0
        # sums of w_ij (x_i - y_j) with w = grad / distance: of close points only float64 knows the difference
        weight = torch.where(apart, grad / distance.where(apart, 1.0), 0.0).double()
        x, y, kind = x.double(), y.double(), x.dtype
        grad_x = (weight.sum(-1, keepdim=True) * x - weight @ y).to(kind) if need_x else None
        grad_y = (weight.sum(-2).unsqueeze(-1) * y - weight.mT @ x).to(kind) if need_y else None
        return grad_x, grad_y


def distances(x: Tensor, y: Tensor) -> Tensor:
    """``|x_i - y_j|`` by one product where that is exact enough, by differences of coordinates elsewhere."""
    if x.shape[-1] > FEW:
        centre = y.mean(-2, keepdim=True)
        size = (x - centre).square().sum(-1, keepdim=True) + (y - centre).square().sum(-1).unsqueeze(-2)
        squared = squared_distances(x, y)
        near = squared <= NEAR * size
        if near.count_nonzero().item() <= 0.25 * near.numel():
            return _recompute_near(squared.sqrt_(), near, x, y)
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _recompute_near(distance: Tensor, near: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``distance`` with the pairs ``near`` computed again, from the differences of their coordinates."""
    n, m = distance.shape[-2:]
    flat, x, y = distance.view(-1), x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    for pairs in torch.split(near.view(-1).nonzero().squeeze(1), max(1, CHUNK // x.shape[1])):
        row = pairs // m  # of all rows of a batch
        flat[pairs] = torch.linalg.vector_norm(x[row] - y[row // n * m + pairs % m], dim=1)
    return distance


def normalise_points(z: Tensor) -> Tensor:
    """Rows scaled to norm 1; a row of norm 0 stays 0 and gets gradient 0, NaN stays NaN."""
    norm = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    present = norm != 0
    return torch.where(present, z / torch.where(present, norm, 1.0), 0.0)


def resolve_epsilon(epsilon: float | str, mean_cost: Callable[[], float], kind: torch.dtype) -> float:
    """The regularisation strength as a number in units of the cost.

    Args:
        epsilon: a positive number, or ``"relative:r"`` for ``r`` times the mean cost.
        mean_cost: returns the mean cost; called only for a relative epsilon.
        kind: the dtype of the solve, which must be able to hold epsilon and its reciprocal.

    Returns:
        Epsilon. Where the mean cost is 0, or too small for ``kind``, any value leads to a cost of 0, and 1 is returned.

    Raises:
        ValueError: Epsilon is out of the range of ``kind``, or the mean cost is negative.
        TypeError: Epsilon is neither a number nor a string.
    """
    smallest, largest = 10.0 * torch.finfo(kind).tiny, 0.1 * torch.finfo(kind).max
    if isinstance(epsilon, str):
        ratio = _parse_ratio(epsilon)
        mean = mean_cost()
        if mean < 0:
            raise ValueError(
                f"epsilon={epsilon!r} is {ratio:g} times the mean cost, which is negative ({mean:.3g}): give epsilon "
                "as a number, or add a constant to the cost"
            )
        value = ratio * mean
        if value < smallest:
            return 1.0
    else:
        value = _parse_number(epsilon)
    if not smallest <= value <= largest:
        name = str(kind).removeprefix("torch.")
        raise ValueError(
            f"epsilon {epsilon!r} (value {value:.3g}) is out of the range of {name}: expected {smallest:.1e} to "
            f"{largest:.1e}"
        )
    return value


def check_epsilon(epsilon: float | str) -> None:
    """Refuse an epsilon that is invalid for every cost."""
    if isinstance(epsilon, str):
        _parse_ratio(epsilon)
    else:
        _parse_number(epsilon)


def _parse_ratio(epsilon: str) -> float:
    prefix, _, number = epsilon.partition(":")
    try:
        ratio = float(number)
    except ValueError:
        ratio = None
    if prefix != "relative" or ratio is None:
        raise ValueError(f"epsilon is a positive number or 'relative:<number>', e.g. 'relative:0.05', got {epsilon!r}")
    return _require_positive(epsilon, ratio)


def _parse_number(epsilon: Any) -> float:
    try:
        if isinstance(epsilon, bool):
            raise TypeError
        value = float(epsilon)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"epsilon is a positive number or 'relative:<number>', got {type(epsilon).__name__}") from None
    return _require_positive(epsilon, value)


def _require_positive(epsilon: Any, value: float) -> float:
    if not 0 < value < float("inf"):
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r} (value {value})")
    return value
