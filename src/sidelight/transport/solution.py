"""The result of the dense solvers: a plan in factors, how well it meets the marginals, and products with it."""

from __future__ import annotations

import math

from torch import Tensor

from sidelight.transport.arrays import Array, copy_with, inner_product, matmul_thin, sum_last, tensor


class DenseSolution:
    """A solved problem, or a batch of them: objective, potentials, marginals, products with the plan, and its error.

    ``P = diag(u) K diag(v)`` with the potentials ``sides``, up to a constant.
    """

    path = "dense"
    potentials_known = (
        True  # False where a gradient of the masses is asked for, and the potentials are not known well enough
    )

    def __init__(
        self,
        factors: tuple[Array, Array, Array],
        marginals: tuple[Array, Array],
        masses: tuple[Array, Array],
        sides: tuple[Array, Array],
        epsilon: float,
        error: Array,
        iterations: int,
        tolerance: float,
    ) -> None:
        self.error, self.iterations, self.tolerance = error, iterations, tolerance
        left, right = inner_product(masses[0], sides[0]), inner_product(masses[1], sides[1])
        self.value = left + right - epsilon * (sum_last(marginals[0]) - 1.0)
        self.sides, self.gap = sides, 0.5 * (right - left)  # the constant that splits the objective evenly
        self.marginals, self.factors = marginals, factors

    @property
    def converged(self) -> bool:
        """Whether every problem meets the tolerance."""
        finite = math.isfinite(self.value if isinstance(self.value, float) else float(self.value.sum()))
        return bool(self.worst <= self.tolerance and finite and self.potentials_known)

    @property
    def worst(self) -> float:
        """The error of the worst problem."""
        return self.error if isinstance(self.error, float) else float(self.error.max())

    @property
    def potentials(self) -> tuple[Array, Array]:
        """``f`` and ``g``, with the constant between them that splits the objective evenly."""
        f, g = self.sides
        gap = self.gap if f.ndim == 1 else self.gap[:, None]
        return f + gap, g - gap

    def put(self, index: int, one: DenseSolution) -> None:
        """Replace one problem of a batch; the arrays must be the solution's own."""
        for name in ("sides", "marginals", "factors"):
            for mine, other in zip(getattr(self, name), getattr(one, name)):
                mine[index] = tensor(other).to(mine) if isinstance(mine, Tensor) else other
        self.value[index], self.gap[index], self.error[index] = one.value, one.gap, one.error

    def transpose(self) -> DenseSolution:
        """The same solution with the sides exchanged."""
        u, kernel, v = self.factors
        sides = {"sides": self.sides[::-1], "gap": -self.gap, "marginals": self.marginals[::-1]}
        other: DenseSolution = copy_with(self, factors=(v, kernel.swapaxes(-1, -2), u), **sides)
        return other

    def plan(self) -> Array:
        """The plan (..., n, m)."""
        u, kernel, v = self.factors
        plan = kernel * u[..., None]
        plan *= v[..., None, :]
        return plan

    def matmul(self, z: Array) -> Array:
        """``P z`` for ``z`` (..., m, d), without forming the plan."""
        u, kernel, v = self.factors
        return matmul_thin(kernel, z * v[..., None]) * u[..., None]

    def matmul_transposed(self, z: Array) -> Array:
        """``P' z`` for ``z`` (..., n, d)."""
        return self.transpose().matmul(z)
