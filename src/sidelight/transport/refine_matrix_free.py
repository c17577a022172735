"""Refine the potentials by conjugate gradients, which need products with the plan and never the plan itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from sidelight.transport import online
from sidelight.transport.dual import ROUNDING, fixed_noise, gradient_scale, log_kernel

PRODUCTS = 600  # of conjugate gradients for one step
SHARE = 1e-4  # residual of conjugate gradients on noise of norm 1, in which a mode of n has a share of 1 / sqrt(n)


class MatrixBlocks(online.Blocks):
    """The kernel of a given cost by blocks of rows."""

    def __init__(self, cost: Tensor, a: Tensor, b: Tensor, epsilon: float) -> None:
        self.cost, self.a, self.b, self.epsilon = cost, a, b, epsilon
        self.height = max(1, online.BLOCK // cost.shape[1])

    def exponents(self, f: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(f), self.height):
            rows = slice(start, start + self.height)
            yield rows, log_kernel(self.cost[rows], f[rows], g, self.epsilon)


def refine_matrix_free(
    blocks: online.Blocks, f: Tensor, g: Tensor, tolerance: float, limit: int, symmetric: bool
) -> tuple[Tensor, Tensor, int, bool]:
    """Newton steps by conjugate gradients, for the potential of the columns; each product is a pass over the plan.

    Args:
        blocks: the kernel by blocks of rows, with masses and epsilon.
        f: potentials of the rows (n,), near the solution.
        g: potentials of the columns (m,).
        tolerance: error of the potentials, relative to their own spread or to epsilon, whichever is less.
        limit: the most passes.
        symmetric: whether both sides are the same.

    Returns:
        ``f``, ``g``, the number of passes, and whether the potentials meet the tolerance.
    """
    a, b, epsilon = blocks.a, blocks.b, blocks.epsilon
    if symmetric:
        f = g = 0.5 * (f + g)
    known, used = False, 0
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

        scale = gradient_scale(a, b, f, g).item()
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
            known = moved + blur <= tolerance * max(epsilon, scale)
            break
    return (g if symmetric else blocks.soft_minimum(g)), g, used, known


def _smallest_eigenvalue(
    apply: Callable[[Tensor], Tensor], null: Tensor | None, like: Tensor, limit: int
) -> tuple[float, int]:
    """An estimate from above by conjugate gradients on noise, in which every mode has its share; and the products."""
    lengths: list[float] = []
    ratios: list[float] = []
    noise = fixed_noise(like)
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
    """The smallest eigenvalue that conjugate gradients have seen, from their step lengths and ratios (Lanczos)."""
    if not lengths:  # a side of one point has no modes
        return 1.0
    alpha, beta = np.array(lengths), np.array(ratios[: len(lengths) - 1])
    diagonal = 1.0 / alpha
    diagonal[1:] += beta / alpha[:-1]
    matrix = np.diag(diagonal) + np.diag(np.sqrt(beta) / alpha[:-1], 1)
    return max(float(np.linalg.eigvalsh(matrix, UPLO="U")[0]), ROUNDING)
