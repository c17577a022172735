"""Refine the potentials by Newton steps with a Cholesky factor of the Laplacian of the plan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sidelight.transport.dual import ROUNDING, fixed_noise, gradient_scale, log_kernel

STEPS = 40  # Newton steps; near the solution each squares the error
SHIFT = 1e-14  # added to the diagonal of a Laplacian before it is factored
POWER = 8  # inverse iterations that estimate the smallest eigenvalue


def refine_factored(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    f: Tensor,
    g: Tensor,
    tolerance: float,
    limit: int,
    symmetric: bool,
) -> tuple[Tensor, Tensor, int, bool]:
    """Newton's method on the dual ``<a, f> + <b, g> - epsilon (sum P - 1)``, which is concave.

    Args:
        cost: costs (..., n, m) in float64.
        a: masses (..., n) of sum 1.
        b: masses (..., m) of sum 1.
        epsilon: regularisation strength in units of the cost.
        f: potentials of the rows (..., n), near the solution.
        g: potentials of the columns (..., m).
        tolerance: error of the potentials, relative to their own spread or to epsilon, whichever is less.
        limit: the most Newton steps.
        symmetric: whether both sides are the same.

    Returns:
        ``f``, ``g``, the number of steps, and whether all potentials meet the tolerance.
    """
    if not symmetric and cost.shape[-2] > cost.shape[-1]:  # the Laplacian is that of the smaller side
        g, f, steps, converged = refine_factored(cost.mT, b, a, epsilon, g, f, tolerance, limit, False)
        return f, g, steps, converged
    weight, logarithm = a.unsqueeze(-1) * b.unsqueeze(-2), a.log().unsqueeze(-1)

    def other(f: Tensor) -> Tensor:
        if symmetric:
            return f
        return -epsilon * torch.logsumexp((f.unsqueeze(-1) - cost) / epsilon + logarithm, -2)

    def dual(f: Tensor, g: Tensor) -> Tensor:
        value = (a * f).sum(-1) + (b * g).sum(-1)
        if symmetric:
            value = value - epsilon * (log_kernel(cost, f, g, epsilon).exp_() * weight).sum((-2, -1))
        return value

    if symmetric:
        f = 0.5 * (f + g)
    g = other(f)
    step, known = 0, torch.zeros(1, dtype=torch.bool)
    for _ in range(min(STEPS, int(limit))):
        step += 1
        plan = log_kernel(cost, f, g, epsilon).exp_() * weight
        residual = a - plan.sum(-1)
        direction, lowest = _newton_direction(plan, residual, symmetric)
        if not symmetric:
            direction = direction - (a * direction).sum(-1, keepdim=True)
        slope = (residual * direction).sum(-1)
        f, g = _line_search(f, g, direction, slope * (1 + symmetric), epsilon, other, dual)
        moved = epsilon * (a * direction.abs()).sum(-1)
        blur = epsilon * ROUNDING / lowest
        scale = gradient_scale(a, b, f, g)
        done = (moved <= tolerance * scale.clamp(max=epsilon)) | (moved <= blur)
        known = done & (moved + blur <= tolerance * scale.clamp(min=epsilon))
        if done.all().item() or not moved.isfinite().all().item():
            break
    return f, g, step, bool(known.all().item())


def _newton_direction(plan: Tensor, residual: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The change of ``f / epsilon`` in a Newton step, and the smallest eigenvalue of the normalised matrix.

    That matrix is ``I - M M'`` with ``M = diag(P 1)^-1/2 P diag(P' 1)^-1/2``, its null vector lifted; where both sides
    are the same, ``I + M``.
    """
    rows, columns = plan.sum(-1), plan.sum(-2)
    scale = rows.rsqrt()
    scaled = plan * scale.unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)
    matrix = scaled if symmetric else -(scaled @ scaled.mT)
    start = fixed_noise(rows)
    if not symmetric:
        null = rows.sqrt()
        null = null / torch.linalg.vector_norm(null, dim=-1, keepdim=True)
        matrix = matrix + null.unsqueeze(-1) * null.unsqueeze(-2)
        start = start - null * (null * start).sum(-1, keepdim=True)
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0 + SHIFT)
    factor, _ = torch.linalg.cholesky_ex(matrix)

    def solve(z: Tensor) -> Tensor:
        return torch.cholesky_solve(z.unsqueeze(-1), factor).squeeze(-1)

    largest = torch.ones_like(rows[..., 0])
    for _ in range(POWER if rows.shape[-1] > 1 else 0):
        start = start / torch.linalg.vector_norm(start, dim=-1, keepdim=True)
        start = solve(start)
        largest = torch.linalg.vector_norm(start, dim=-1)
    return scale * solve(scale * residual), largest.reciprocal()


def _line_search(
    f: Tensor,
    g: Tensor,
    direction: Tensor,
    slope: Tensor,
    epsilon: float,
    other: Callable[[Tensor], Tensor],
    dual: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """``f`` and ``g`` after the longest of the steps 1, 1/2, 1/4 ... at which the dual rises enough."""
    before, size = dual(f, g), direction.abs().amax(-1)
    length = torch.ones_like(size)
    while True:
        moved = f + epsilon * length.unsqueeze(-1) * direction
        second = other(moved)
        enough = dual(moved, second) - before >= 0.1 * epsilon * length * slope
        good = enough | ~(length * size > 0.5)  # a shorter step cannot fail
        if good.all().item():
            return moved, second
        length = torch.where(good, length, 0.5 * length)
