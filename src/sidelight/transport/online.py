"""The solver that never holds an (n, m) matrix: it forms blocks of the kernel, uses them for both sides and drops them.

One pass over the blocks makes all rows exact for given column potentials ``g`` and sums the columns of the plan, since
a block holds whole rows. So a pass is a map ``g -> T(g)`` whose fixed point is the solution, with the exact marginal
error at hand; Anderson's method accelerates it. The first ``g`` comes from a dense solve between samples of the clouds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sidelight.transport import dense
from sidelight.transport.arrays import HIGHEST, LOWEST, convert_like, soft_maximum, suits_numpy, tensor
from sidelight.transport.points import PointCost
from sidelight.transport.scaling import ABSORB, precision_lost

BLOCK = 1 << 20  # elements of a block
SAMPLE_SIZE = 2048  # points of either cloud in the first, dense solve
MEMORY = 5  # past iterates that Anderson's method combines
POOR = 0.3  # marginal error above which the caller's potentials are worse than those of a sample
# The most that Anderson's method may add to a step, in units of epsilon: where sweeps crawl it would go too far.
MAX_LEAP = 7.0
PRECISE = 3e-7  # share of the largest cost over epsilon that float32 leaves as an error of the marginals, at worst


class OnlineSolution:
    """A solved problem; each product with the plan costs one pass over the blocks."""

    path = "online"
    potentials_known = True  # as in solution.DenseSolution

    def __init__(
        self, blocks: Blocks, f: Tensor, g: Tensor, columns: Tensor, error: float, passes: int, tolerance: float
    ) -> None:
        self.blocks, self.worst, self.iterations, self.tolerance = blocks, error, passes, tolerance
        a, b = blocks.a, blocks.b
        left, right = torch.dot(a, f).item(), torch.dot(b, g).item()
        self.marginals = a, columns
        self.value = left + right - blocks.epsilon * (columns.sum().item() - 1.0)
        gap = 0.5 * (right - left)
        self.potentials = f + gap, g - gap

    @property
    def converged(self) -> bool:
        return self.worst <= self.tolerance and math.isfinite(self.value) and self.potentials_known

    def plan(self) -> Tensor:
        """The plan (n, m), formed in full."""
        parts = [kernel.clone() for _, kernel in self.blocks.kernels(*self.potentials)]
        return torch.cat(parts).mul_(self.blocks.a.unsqueeze(1)).mul_(self.blocks.b)

    def matmul(self, z: Tensor) -> Tensor:
        """``P z`` for ``z`` (m, d)."""
        return self.blocks.matmul(*self.potentials, z)

    def matmul_transposed(self, z: Tensor) -> Tensor:
        """``P' z`` for ``z`` (n, d)."""
        return self.blocks.matmul_transposed(*self.potentials, z)


class Blocks:
    """The kernel ``exp((f_i + g_j - C_ij) / epsilon)`` by blocks of rows."""

    def __init__(self, points: PointCost, a: Tensor, b: Tensor, epsilon: float) -> None:
        self.points, self.a, self.b, self.epsilon = points, a, b, epsilon
        n, m = len(points.x), len(points.y)
        self.height = max(1, min(n, BLOCK // m))
        self.buffer = points.x.new_empty(self.height, m)
        self.scaled = points.y.T * (2.0 * points.scale / epsilon)

    def exponents(self, f: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows and ``(f_i + g_j - C_ij) / epsilon``; the tensor is overwritten by the next block."""
        left = ((f - self.points.xx) / self.epsilon).unsqueeze(1)
        right = (g - self.points.yy) / self.epsilon
        for start in range(0, len(left), self.height):
            rows = slice(start, min(start + self.height, len(left)))
            block = self.buffer[: rows.stop - start]
            torch.addmm(right, self.points.x[rows], self.scaled, out=block).add_(left[rows])
            yield rows, block

    def kernels(self, f: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows and ``exp((f_i + g_j - C_ij) / epsilon)``; the tensor is overwritten by the next block."""
        for rows, block in self.exponents(f, g):
            yield rows, block.clamp_(LOWEST, HIGHEST).exp_()

    def sweep(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """``f`` that makes the rows exact for ``g`` (from a guess near it), and the relative masses of the columns."""
        sums = torch.empty_like(f)
        columns = torch.zeros_like(g)
        for rows, kernel in self.kernels(f, g):
            torch.mv(kernel, self.b, out=sums[rows])
            columns.addmv_(kernel.T, self.a[rows] / sums[rows])
        return f - self.epsilon * sums.log(), columns

    def matmul(self, f: Tensor, g: Tensor, z: Tensor) -> Tensor:
        """``P z``, in one pass.

        Args:
            f: potentials of the rows (n,).
            g: potentials of the columns (m,).
            z: (m, d).

        Returns:
            (n, d).
        """
        few = (z.T * self.b).contiguous()
        parts = [few @ kernel.T for _, kernel in self.kernels(f, g)]
        return torch.cat(parts, 1).mul_(self.a).T

    def matmul_transposed(self, f: Tensor, g: Tensor, z: Tensor) -> Tensor:
        """``P' z``, in one pass.

        Args:
            f: potentials of the rows (n,).
            g: potentials of the columns (m,).
            z: (n, d).

        Returns:
            (m, d).
        """
        few = (z.T * self.a).contiguous()
        total = few.new_zeros(z.shape[1], self.b.shape[0])
        for rows, kernel in self.kernels(f, g):
            total.addmm_(few[:, rows], kernel)
        return total.mul_(self.b).T

    def soft_minimum(self, g: Tensor) -> Tensor:
        """``f`` that makes the rows exact for ``g``, without a guess."""
        f = torch.zeros_like(self.a)
        logarithm = self.b.log()
        for rows, block in self.exponents(f, g):
            f[rows] = soft_maximum(block.add_(logarithm)) * -self.epsilon
        return f


def solve(
    points: PointCost,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    potentials: tuple[Tensor, Tensor] | None = None,
) -> OnlineSolution:
    """Transport between two clouds of mass 1, in memory that does not grow with n m.

    Args:
        points: the clouds and the scale of their squared distances.
        a: positive masses (n,) of sum 1.
        b: positive masses (m,) of sum 1.
        epsilon: regularisation strength in units of the cost.
        tolerance: L1 error of the marginals that the plan must meet.
        max_iterations: the most passes.
        potentials: ``f`` (n,) and ``g`` (m,) to start from, or None.

    Returns:
        The solution.
    """
    largest = points.upper_bound()
    if a.dtype != torch.float64 and (precision_lost(largest, epsilon, a) or largest * PRECISE > tolerance * epsilon):
        points, a, b = points.double(), a.double(), b.double()
    blocks = build_blocks(points, a, b, epsilon)
    if potentials is None:
        f, g = start_from_samples(points, a, b, epsilon, tolerance, max_iterations)
    else:
        g = potentials[1].detach().to(b)
        g = g - torch.dot(b, g)  # a constant, of no effect but for rounding where it is large
        f = blocks.soft_minimum(g)
    mixing = Anderson(b, MAX_LEAP * epsilon)
    best, passes = math.inf, 0
    while True:
        before = f
        f, columns = blocks.sweep(f, g)
        passes += 1
        error = torch.dot(b, (columns - 1.0).abs()).item()
        exact = (f - before).abs().max().item() < ABSORB * epsilon  # otherwise clamped exponents may have counted
        if (exact and error <= dense.CAUTION * tolerance) or passes >= max_iterations:
            return OnlineSolution(blocks, f, g, columns * b, error if exact else math.inf, passes, tolerance)
        lack = columns.log()
        if passes == 1 and potentials is not None and not (error < POOR and lack.abs().max().item() < ABSORB):
            f, g = start_from_samples(points, a, b, epsilon, tolerance, max_iterations)
            continue
        if math.isnan(error):
            return OnlineSolution(blocks, f, g, columns * b, error, passes, tolerance)
        if not exact:
            f = blocks.soft_minimum(g)
            mixing.reset()
            continue
        if error > 2.0 * best:
            mixing.reset()
        best = min(best, error)
        g = mixing.extrapolate(g, lack.mul_(-epsilon))


def build_blocks(points: PointCost, a: Tensor, b: Tensor, epsilon: float) -> Blocks:
    """Blocks in torch, or Triton kernels that keep them on the chip where Triton can compile them.

    Args:
        points: the clouds and the scale of their squared distances.
        a: masses (n,).
        b: masses (m,).
        epsilon: regularisation strength in units of the cost.

    Returns:
        The kernel by blocks of rows.
    """
    if points.x.is_cuda and points.x.dtype == torch.float32:
        from sidelight.transport import fused

        if fused.usable(points):
            return fused.FusedBlocks(points, a, b, epsilon)
    return Blocks(points, a, b, epsilon)


def start_from_samples(
    points: PointCost, a: Tensor, b: Tensor, epsilon: float, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """Potentials of a dense solve between samples of the clouds, extended to all points by their soft minima.

    Where the samples are the whole clouds, the dense solve runs to the tolerance.

    Args:
        points: the clouds and the scale of their squared distances.
        a: masses (n,).
        b: masses (m,).
        epsilon: regularisation strength in units of the cost.
        tolerance: L1 error of the marginals for a dense solve of the whole clouds.
        max_iterations: the most iterations for it.

    Returns:
        ``f`` (n,) and ``g`` (m,).
    """
    rows, columns = sample_indices(a), sample_indices(b)
    in_numpy = suits_numpy(len(rows) * len(columns), a)
    some = PointCost(points.x[rows], points.y[columns], points.scale, in_numpy)
    left, right = a[rows] / a[rows].sum(), b[columns] / b[columns].sum()
    masses = convert_like(left, some.x), convert_like(right, some.x)
    asked, limit = (tolerance, max_iterations) if len(rows) == len(a) and len(columns) == len(b) else (1e-2, 500)
    solved = dense.solve(some, *masses, epsilon, asked, limit, some.upper_bound())
    at_rows, at_columns = (tensor(potential).to(a) for potential in solved.potentials)
    f = build_blocks(points.select_points(None, columns), a, right, epsilon).soft_minimum(at_columns)
    g = build_blocks(points.select_points(rows, None).transpose(), b, left, epsilon).soft_minimum(at_rows)
    return f, g


def sample_indices(weight: Tensor) -> Tensor:
    """Indices of up to ``SAMPLE_SIZE`` points, the same at every call."""
    size = len(weight)
    if size <= SAMPLE_SIZE:
        return torch.arange(size, device=weight.device)
    generator = torch.Generator().manual_seed(0)
    return torch.randperm(size, generator=generator)[:SAMPLE_SIZE].to(weight.device)


class Anderson:
    """Anderson acceleration of ``g -> g + residual``, least squares in the norm of the masses, in bounded steps."""

    def __init__(self, weight: Tensor, longest: float) -> None:
        self.root, self.longest = weight.sqrt(), longest
        self.reset()

    def reset(self) -> None:
        """Drop all past iterates."""
        self.steps: list[Tensor] = []
        self.changes: list[Tensor] = []
        self.previous: tuple[Tensor, Tensor] | None = None

    def extrapolate(self, g: Tensor, residual: Tensor) -> Tensor:
        """The next iterate after ``g`` with ``T(g) - g = residual``."""
        if self.previous is not None:
            self.steps = [*self.steps[1 - MEMORY :], g - self.previous[0]]
            self.changes = [*self.changes[1 - MEMORY :], residual - self.previous[1]]
        self.previous = g, residual
        if not self.changes:
            return g + residual
        matrix = (torch.stack(self.changes) * self.root).double()
        gram = matrix @ matrix.T
        largest = gram.diagonal().max()
        gram.diagonal().add_(1e-12 * largest)
        weights, info = torch.linalg.solve_ex(gram, matrix @ (residual * self.root).double())
        if info.item() or not 0 < largest.item() < math.inf:  # steps that change nothing carry no information
            self.reset()
            return g + residual
        weights = weights.to(g.dtype)
        moves = torch.stack(self.steps).add_(torch.stack(self.changes))
        leap = torch.mv(moves.T, weights)
        return g + residual - leap * min(1.0, self.longest / max(leap.abs().max().item(), 1e-30))
