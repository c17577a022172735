"""The potentials themselves, to the tolerance: they are the gradient of the masses.

Marginals that are nearly right do not make the potentials nearly right. If ``1 - s`` is the smallest eigenvalue of the
Laplacian of the plan, an error of the marginals can stand for an error ``1 / (1 - s)`` times as large in the
potentials. So where a gradient of the masses is asked for, a solve goes on from its marginals with exact Newton steps
in float64 until such a step is small, and says so where float64 cannot tell the potentials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sidelight.transport import online
from sidelight.transport.arrays import Array, tensor
from sidelight.transport.dense import GroundCost
from sidelight.transport.newton import DIRECT_LIMIT
from sidelight.transport.solution import DenseSolution
from sidelight.transport.zero_mass import as_kind

STEPS = 40  # Newton steps; near the solution each squares the error
ROUNDING = 1e-15  # error of the normalised marginals in float64, which 1 / (1 - s) multiplies
SHIFT = 1e-14  # added to the diagonal of a Laplacian before it is factored
POWER = 8  # inverse iterations that estimate the smallest eigenvalue
PRODUCTS = 600  # of conjugate gradients for one step
SHARE = 1e-4  # residual of conjugate gradients on noise of norm 1, in which a mode of n has a share of 1 / sqrt(n)


def settled(
    solution: DenseSolution | online.OnlineSolution,
    ground: GroundCost,
    masses: tuple[Array, Array],
    settings: tuple[float, float, int],
    symmetric: bool,
) -> DenseSolution | online.OnlineSolution:
    """The solution of a problem, or of a stack, in float64 with potentials that meet the tolerance.

    Its `settled` is False where they do not. ``symmetric``: of a side with itself; only the sum of both potentials is
    a gradient then, and one potential tells it.
    """
    epsilon, tolerance, max_iterations = settings
    limit = int(max_iterations) - solution.iterations
    f, g = (tensor(z).double() for z in solution.potentials)
    if isinstance(solution, online.OnlineSolution):
        f, g, steps, known = _matrix_free(solution.blocks, f, g, tolerance, limit, symmetric)
        return _online(solution, f, g, steps, known)
    array = masses[0]
    a, b = (tensor(z).double() for z in masses)
    cost = tensor(ground.cost()).double()
    if min(cost.shape[-2:]) > DIRECT_LIMIT:
        f, g, steps, known = _matrix_free(MatrixBlocks(cost, a, b, epsilon), f, g, tolerance, limit, symmetric)
    else:
        f, g, steps, known = _direct(cost, a, b, epsilon, f, g, tolerance, limit, symmetric)
    kernel = _exponents(cost, f, g, epsilon).exp_()
    plan = kernel * a.unsqueeze(-1) * b.unsqueeze(-2)
    marginals = plan.sum(-1), plan.sum(-2)
    error = (marginals[0] - a).abs().sum(-1) + (marginals[1] - b).abs().sum(-1)
    factors, sides, sums = ([as_kind(array, z) for z in part] for part in ((a, kernel, b), (f, g), marginals))
    result = DenseSolution(
        (factors[0], factors[1], factors[2]),
        (sums[0], sums[1]),
        (factors[0], factors[2]),
        (sides[0], sides[1]),
        epsilon,
        as_kind(array, error) if error.ndim else error.item(),
        solution.iterations + steps,
        solution.tolerance,
    )
    result.settled = known
    return result


def _online(solution: online.OnlineSolution, f: Tensor, g: Tensor, steps: int, known: bool) -> online.OnlineSolution:
    blocks = solution.blocks
    columns = blocks.matmul_transposed(f, g, torch.ones_like(f).unsqueeze(1)).squeeze(1)
    error = (columns - blocks.b).abs().sum().item()
    result = online.OnlineSolution(blocks, f, g, columns, error, solution.iterations + steps, solution.tolerance)
    result.settled = known
    return result


def _exponents(cost: Tensor, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
    return (f.unsqueeze(-1) + g.unsqueeze(-2) - cost).div_(epsilon)


def _scale(a: Tensor, b: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """The mean size of the gradient of the masses, along masses that keep their sum."""
    return _mean(a, f) + _mean(b, g)


def _mean(weight: Tensor, z: Tensor) -> Tensor:
    return (weight * (z - (weight * z).sum(-1, keepdim=True)).abs()).sum(-1)


# ---------------------------------------------------------------- with a factor of the Laplacian


def _direct(
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
    """Newton's method on the dual ``<a, f> + <b, g> - epsilon (sum P - 1)``, which is concave, for (..., n, m)."""
    if not symmetric and cost.shape[-2] > cost.shape[-1]:  # the Laplacian is that of the smaller side
        g, f, steps, settled = _direct(cost.mT, b, a, epsilon, g, f, tolerance, limit, False)
        return f, g, steps, settled
    weight, logarithm = a.unsqueeze(-1) * b.unsqueeze(-2), a.log().unsqueeze(-1)

    def other(f: Tensor) -> Tensor:
        if symmetric:
            return f
        return -epsilon * torch.logsumexp((f.unsqueeze(-1) - cost) / epsilon + logarithm, -2)

    def dual(f: Tensor, g: Tensor) -> Tensor:
        value = (a * f).sum(-1) + (b * g).sum(-1)
        if symmetric:
            value = value - epsilon * (_exponents(cost, f, g, epsilon).exp_() * weight).sum((-2, -1))
        return value

    if symmetric:
        f = 0.5 * (f + g)
    g = other(f)
    step, known = 0, torch.zeros(1, dtype=torch.bool)
    for _ in range(min(STEPS, int(limit))):
        step += 1
        plan = _exponents(cost, f, g, epsilon).exp_() * weight
        residual = a - plan.sum(-1)
        direction, lowest = _direction(plan, residual, symmetric)
        if not symmetric:
            direction = direction - (a * direction).sum(-1, keepdim=True)
        slope = (residual * direction).sum(-1)
        f, g = _climbed(f, g, direction, slope * (1 + symmetric), epsilon, other, dual)
        moved = epsilon * (a * direction.abs()).sum(-1)
        blur = epsilon * ROUNDING / lowest
        scale = _scale(a, b, f, g)
        done = (moved <= tolerance * scale.clamp(max=epsilon)) | (moved <= blur)
        known = done & (moved + blur <= tolerance * scale.clamp(min=epsilon))
        if done.all().item() or not moved.isfinite().all().item():
            break
    return f, g, step, bool(known.all().item())


def _direction(plan: Tensor, residual: Tensor, symmetric: bool) -> tuple[Tensor, Tensor]:
    """The change of ``f / epsilon`` that Newton's method takes, and the smallest eigenvalue of its normalised matrix.

    That matrix is ``I - M M'`` with ``M = diag(P 1)^-1/2 P diag(P' 1)^-1/2``, its null vector lifted; of a side with
    itself ``I + M``.
    """
    rows, columns = plan.sum(-1), plan.sum(-2)
    scale = rows.rsqrt()
    scaled = plan * scale.unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)
    matrix = scaled if symmetric else -(scaled @ scaled.mT)
    start = _noise(rows)
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


def _noise(like: Tensor) -> Tensor:
    """Numbers without a pattern, the same at every call."""
    noise = torch.randn(like.shape[-1], generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return noise.to(like.device).expand_as(like)


def _climbed(
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


# ---------------------------------------------------------------- with products only


class MatrixBlocks(online.Blocks):
    """The kernel of a given cost by blocks of rows."""

    def __init__(self, cost: Tensor, a: Tensor, b: Tensor, epsilon: float) -> None:
        self.cost, self.a, self.b, self.epsilon = cost, a, b, epsilon
        self.height = max(1, online.BLOCK // cost.shape[1])

    def exponents(self, f: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(f), self.height):
            rows = slice(start, start + self.height)
            yield rows, _exponents(self.cost[rows], f[rows], g, self.epsilon)


def _matrix_free(
    blocks: online.Blocks, f: Tensor, g: Tensor, tolerance: float, limit: int, symmetric: bool
) -> tuple[Tensor, Tensor, int, bool]:
    """Newton steps by conjugate gradients, for the potential of the columns; each product is a pass over the plan."""
    a, b, epsilon = blocks.a, blocks.b, blocks.epsilon
    if symmetric:
        f = g = 0.5 * (f + g)
    settled, used = False, 0
    while used < limit:
        f = g if symmetric else blocks.soft_minimum(g)
        ones = torch.ones_like(f).unsqueeze(1)
        columns = blocks.matmul_transposed(f, g, ones).squeeze(1)
        root = columns.sqrt()

        def apply(p: Tensor, f: Tensor = f, g: Tensor = g, root: Tensor = root) -> Tensor:
            there = blocks.matmul(f, g, (p / root).unsqueeze(1))
            if symmetric:
                return p + there.squeeze(1) / root
            return p - blocks.matmul_transposed(f, g, there / a.unsqueeze(1)).squeeze(1) / root

        scale = _scale(a, b, f, g).item()
        asked = tolerance * min(epsilon, scale) / epsilon
        null = None if symmetric else root
        lowest, first = _smallest_eigenvalue(apply, null, root, limit - used)
        used += first
        step, products = _conjugate(apply, (b - columns) / root, null, 0.3 * asked * lowest, limit - used)
        used += products + 1
        direction = step / root
        moved, blur = epsilon * (b * direction.abs()).sum().item(), epsilon * ROUNDING / lowest
        if not math.isfinite(moved):
            break
        g = g + epsilon * direction * min(1.0, 1.0 / max(direction.abs().max().item(), 1e-30))
        if moved <= max(tolerance * min(epsilon, scale), blur):
            settled = moved + blur <= tolerance * max(epsilon, scale)
            break
    return (g if symmetric else blocks.soft_minimum(g)), g, used, settled


def _smallest_eigenvalue(
    apply: Callable[[Tensor], Tensor], null: Tensor | None, like: Tensor, limit: int
) -> tuple[float, int]:
    """An estimate from above by conjugate gradients on noise, in which every mode has its share; and the products."""
    lengths: list[float] = []
    ratios: list[float] = []
    noise = _noise(like)
    _conjugate(apply, noise / torch.linalg.vector_norm(noise), null, SHARE, limit, lengths, ratios)
    return _smallest_ritz_value(lengths, ratios), len(lengths)


def _conjugate(
    apply: Callable[[Tensor], Tensor],
    right: Tensor,
    null: Tensor | None,
    target: float,
    limit: int,
    lengths: list[float] | None = None,
    ratios: list[float] | None = None,
) -> tuple[Tensor, int]:
    """Solve ``apply(d) = right``, orthogonal to ``null``, until the 2-norm of the residual is ``target``.

    Returns d and the products. Step lengths, and the ratios of squared residuals, are added to the lists.
    """

    def clean(z: Tensor) -> Tensor:
        return z if null is None else z - null * (torch.dot(null, z) / torch.dot(null, null))

    lengths, ratios = [] if lengths is None else lengths, [] if ratios is None else ratios
    residual = clean(right)
    d, p, squared = torch.zeros_like(residual), residual, torch.dot(residual, residual).item()
    while math.sqrt(squared) > max(target, ROUNDING) and len(lengths) < min(PRODUCTS, limit):
        product = clean(apply(p))
        curvature = torch.dot(p, product).item()
        if not curvature > ROUNDING * squared:  # none but for rounding
            lengths.append(1.0 / ROUNDING)
            break
        length = squared / curvature
        d, residual = d + length * p, clean(residual - length * product)
        before, squared = squared, torch.dot(residual, residual).item()
        p = residual + squared / before * p
        lengths.append(length)
        ratios.append(squared / before)
    return d, len(lengths)


def _smallest_ritz_value(lengths: list[float], ratios: list[float]) -> float:
    """Of the matrix that conjugate gradients have met, from their step lengths and ratios (Lanczos)."""
    if not lengths:  # a side of one point has no modes
        return 1.0
    alpha, beta = np.array(lengths), np.array(ratios[: len(lengths) - 1])
    diagonal = 1.0 / alpha
    diagonal[1:] += beta / alpha[:-1]
    matrix = np.diag(diagonal) + np.diag(np.sqrt(beta) / alpha[:-1], 1)
    return max(float(np.linalg.eigvalsh(matrix, UPLO="U")[0]), ROUNDING)
