"""The iterate of the dense solvers: a plan in factors, the potentials absorbed into its kernel, and its arithmetic.

With potentials ``f, g`` absorbed into ``K = exp((f + g' - C) / epsilon)``, the plan is ``P = diag(u) K diag(v)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sidelight.transport.arrays import (
    HIGHEST,
    LOWEST,
    Array,
    array_namespace,
    convert_like,
    empty,
    inner_product,
    is_double,
    matvec,
    min_max,
    row_blocks,
    soft_maximum,
    to_double,
)
from sidelight.transport.points import MatrixCost, PointCost
from sidelight.transport.solution import DenseSolution

GroundCost = MatrixCost | PointCost

ABSORB = 15.0  # log range of u, v above which they move into f, g
BLUR = 4e-3  # rounding of exponents, relative to 1, above which the arithmetic no longer determines the plan


class Scaling:
    """The iterate ``P = diag(u) K diag(v)`` with absorbed potentials ``f, g`` at some ``epsilon``.

    Between calls the columns are exact (``P' 1 = b``).
    """

    def __init__(
        self, cost: GroundCost, a: Array, b: Array, largest: float, f: Array | None = None, g: Array | None = None
    ) -> None:
        self.cost, self.a, self.b, self.largest = cost, a, b, largest
        self.f, self.g = f, g  # None: zero
        self.u, self.v, self.rows = a, b, a
        self.xp = array_namespace(a)
        self.kernel = empty(cost.shape, a)
        self.blocks = row_blocks(self.kernel)
        self.change = 0.0 * a  # of log u in the last sweep
        self.epsilon, self.rounding = math.nan, 1e-15 if is_double(a) else 5e-7
        self.clamped = False

    def form_kernel(self, epsilon: float) -> None:
        """Form ``K`` from the absorbed potentials, at a new or the same ``epsilon``; in float64 where it is needed."""
        self.epsilon = epsilon
        if not is_double(self.a) and self.precision_lost():
            self.convert_to_double()
        self.clamped = self.f is not None or self.largest > -LOWEST * epsilon
        for _, part in self.cost.exponents(self.kernel, epsilon, self.f, self.g):
            if self.clamped:
                part.clamp_(LOWEST, HIGHEST)
            part.exp_()

    def ensure_kernel(self, epsilon: float) -> None:
        """:meth:`form_kernel`, unless the kernel already belongs to ``epsilon``."""
        if self.epsilon != epsilon:
            self.form_kernel(epsilon)

    def absorb(self) -> None:
        """Move ``u, v`` into the potentials; ``form_kernel`` must follow.

        The cost leaves one constant between both potentials free. They are kept equal in mean: a constant would cost
        digits.
        """
        f, g = self.potentials()
        gap = 0.5 * (inner_product(self.b, g) - inner_product(self.a, f))
        gap = gap if f.ndim == 1 else gap[:, None]
        self.f, self.g = f + gap, g - gap
        self.u, self.v = self.a, self.b

    def potentials(self) -> tuple[Array, Array]:
        """``f`` and ``g`` with ``u`` and ``v`` included, in units of the cost."""
        f = self.xp.log(self.u / self.a) * self.epsilon
        g = self.xp.log(self.v / self.b) * self.epsilon
        return (f, g) if self.f is None else (f + self.f, g + self.g)

    def sweep(self, length: float, momentum: float) -> float:
        """Correct the rows, then make the columns exact; return the marginal error before. One pass over the kernel.

        ``log u`` moves by ``length`` times the change that makes the rows exact (1: a plain Sinkhorn sweep), plus
        ``momentum`` times its last change.
        """
        self.u = self.u + 0.0  # a new one to write into
        if len(self.blocks) == 1:
            error, columns = self._sweep(self.kernel, self.a, self.u, self.change, length, momentum)
        else:
            error, columns = 0.0, 0.0
            for rows in self.blocks:
                parts = self.kernel[rows], self.a[rows], self.u[rows], self.change[rows]
                more = self._sweep(*parts, length, momentum)
                error, columns = error + more[0], columns + more[1]
        self.v = self.b / columns
        return error

    def _sweep(
        self, kernel: Array, a: Array, u: Array, change: Array, length: float, momentum: float
    ) -> tuple[float, Array]:
        """Move some rows of ``u`` in place; return their error before, and their sums over columns after."""
        lack = kernel @ self.v
        lack *= u
        self.xp.divide(a, lack, out=lack)
        self.xp.log(lack, out=lack)
        error = float(a @ abs(lack))
        if momentum:
            change *= momentum
            lack *= length
            change += lack
        else:
            change[:] = lack
        u *= self.xp.exp(change, out=lack)
        return error, kernel.T @ u

    def fit_columns(self) -> None:
        """``v`` such that the columns of the plan have their masses."""
        self.v = self.b / matvec(self.kernel.swapaxes(-1, -2), self.u)

    def fit_rows(self) -> Array:
        """Set ``rows = K v`` and return the residual of the rows, ``a - P 1``."""
        self.rows = matvec(self.kernel, self.v)
        return self.a - self.u * self.rows

    def clamp_is_exact(self) -> Array:
        """Whether the clamps leave ``P`` unchanged; one answer for each problem of a batch.

        Where ``u_i v_j`` is at most ``e^30 a_i b_j``, an exponent clamped from below puts ``1e-13 a_i b_j`` in place of
        less; where it is at least ``e^-30 a_i b_j``, one clamped from above would put more than a row or column has.
        Where ``u, v`` have gone further, they may solve another cost.
        """
        (lowest, highest), (low, high) = min_max(self.u / self.a), min_max(self.v / self.b)
        return (lowest * low > math.exp(-2 * ABSORB)) & (highest * high < math.exp(2 * ABSORB))  # false for NaN

    def precision_lost(self) -> bool:
        """Whether rounding may move the exponents of the transported mass, whose cost is about ``f + g``.

        Squared distances are formed from the norms of the points, whose rounding stays however close they are.
        """
        if isinstance(self.cost, PointCost):
            size = self.largest
        else:
            size = sum(float(abs(z).max()) for z in (self.f, self.g) if z is not None)
        return precision_lost(size, self.epsilon, self.a)

    def keep_in_range(self) -> None:
        """Absorb ``u, v`` if they have grown, so that products neither overflow nor vanish."""
        self.change = 0.0 * self.a
        bounds = [float(r) for z in (self.u / self.a, self.v / self.b) for r in (z.min(), z.max())]
        if not (min(bounds) > math.exp(-ABSORB) and max(bounds) < math.exp(ABSORB)):
            self.refresh()

    def refresh(self) -> None:
        """Absorb ``u, v`` and form the kernel again."""
        self.absorb()
        self.form_kernel(self.epsilon)
        self.fit_columns()

    def continue_in_double(self) -> None:
        """Continue in float64."""
        self.absorb()
        self.convert_to_double()
        self.form_kernel(self.epsilon)
        self.fit_columns()
        self.fit_rows()

    def convert_to_double(self) -> None:
        """Take the absorbed potentials, cost and masses to float64; ``form_kernel`` must follow."""
        self.f, self.g = (None if z is None else to_double(z) for z in (self.f, self.g))
        self.cost, self.a, self.b = self.cost.double(), to_double(self.a), to_double(self.b)
        self.u, self.v = self.a, self.b
        self.kernel = empty(self.cost.shape, self.a)
        self.change, self.rounding = 0.0 * self.a, 1e-15

    def plan(self) -> Array:
        """The plan ``diag(u) K diag(v)`` (n, m)."""
        return self.u[:, None] * self.kernel * self.v

    def solution(self, error: Array, iterations: int, tolerance: float) -> DenseSolution:
        """The current iterate as a solution; call ``fit_rows`` first.

        Args:
            error: L1 error of the marginals, or one for each problem of a batch.
            iterations: pairs of matrix-vector products used.
            tolerance: the error that the caller set.

        Returns:
            The solution.
        """
        marginals, masses = (self.u * self.rows, self.b), (self.a, self.b)
        factors = self.u, self.kernel, self.v
        return DenseSolution(factors, marginals, masses, self.potentials(), self.epsilon, error, iterations, tolerance)


def precision_lost(size: float, epsilon: float, array: Array) -> bool:
    """Whether potentials of a size leave too few digits for exponents.

    Args:
        size: the largest potential or cost, in units of the cost.
        epsilon: regularisation strength in units of the cost.
        array: an array of the solve, whose dtype decides.

    Returns:
        True where rounding moves exponents by more than `BLUR`.
    """
    return size * (2.2e-16 if is_double(array) else 1.2e-7) > BLUR * epsilon


def prepare_start(cost: GroundCost, b: Array, potentials: tuple[Tensor, Tensor], epsilon: float) -> tuple[Array, Array]:
    """The caller's potentials, the first replaced by its exact update so that no exponent can overflow.

    Args:
        cost: costs (..., n, m).
        b: masses of the columns (..., m).
        potentials: ``f`` (..., n) and ``g`` (..., m).
        epsilon: regularisation strength in units of the cost.

    Returns:
        ``f`` and ``g`` in the solver's arithmetic.
    """
    g = convert_like(potentials[1].detach(), b)
    shift = inner_product(b, g)  # a constant, of no effect but for rounding where it is large
    g = g - (shift if g.ndim == 1 else shift[:, None])
    return soft_minimum(cost, b, g, epsilon), g


def soft_minimum(cost: GroundCost, b: Array, g: Array, epsilon: float) -> Array:
    """``f_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon)``, which makes the rows exact.

    Args:
        cost: costs (..., n, m).
        b: masses of the columns (..., m).
        g: potentials of the columns (..., m).
        epsilon: regularisation strength in units of the cost.

    Returns:
        ``f`` (..., n).
    """
    weighted = g + array_namespace(b).log(b) * epsilon
    parts = cost.exponents(empty(cost.shape, b), epsilon, g=weighted)
    return convert_like(torch.cat([soft_maximum(part) for _, part in parts]).mul_(-epsilon), b)
