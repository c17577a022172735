"""The solver for a cost matrix that fits in memory: annealed Sinkhorn sweeps, and Newton steps where sweeps crawl.

With potentials ``f, g`` absorbed into ``K = exp((f + g' - C) / epsilon)``, the plan is ``P = diag(u) K diag(v)``.
A Sinkhorn sweep ``u = a / K v``, ``v = b / K' u`` costs two matrix-vector products and no ``exp``. Sweeps converge
linearly at the square of the second singular value of the normalised plan: fast for smooth plans, hopeless for sharp
ones. docs/transport.md explains the choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from sidelight.transport.arrays import Array, double, l1, namespace, native, tensor
from sidelight.transport.newton import Newton

# Exponents are clamped before exp: results below the normal range would make later products several times slower.
LOWEST, HIGHEST = -80.0, 60.0
CHUNK = 1 << 17  # elements of a matrix that elementwise passes visit together, so that they stay in the cache
START = 0.1  # first epsilon, relative to the mean cost
ANNEALING = 4.0  # about the ratio of consecutive epsilons on the way down
STAGE_TOLERANCE = 0.05  # marginal error at which an epsilon above the target is left
CAUTION = 0.3  # stop at this share of the tolerance, or at less where sweeps converge slowly
PATIENCE = 15.0  # remaining sweeps above which a Newton step is worth its price
ABSORB = 15.0  # log range of u, v above which they move into f, g
SYMMETRIC_LIMIT = 60  # averaged sweeps for a self-transport before the general solver takes over


class Scaling:
    """The iterate ``P = diag(u) K diag(v)`` with absorbed potentials ``f, g`` at some ``epsilon``.

    Between calls the columns are exact (``P' 1 = b``) and ``rows = K v``.
    """

    def __init__(self, cost: Array, a: Array, b: Array, f: Array | None = None, g: Array | None = None) -> None:
        self.cost, self.a, self.b = cost, a, b
        self.f, self.g = f, g  # None: zero
        self.u, self.v, self.rows = a, b, a
        self.xp = namespace(cost)
        self.kernel = self.xp.empty_like(cost)
        self.epsilon = math.nan

    def exponentiate(self, epsilon: float) -> None:
        """Form ``K`` from the absorbed potentials, at a new or the same ``epsilon``."""
        self.epsilon = epsilon
        n, m = self.cost.shape
        step = max(1, CHUNK // m)
        for i in range(0, n, step):
            kernel = self.kernel[i : i + step]
            self.xp.multiply(self.cost[i : i + step], -1.0 / epsilon, out=kernel)
            if self.f is not None and self.g is not None:
                kernel += self.g * (1.0 / epsilon)
                kernel += (self.f[i : i + step] * (1.0 / epsilon))[:, None]
            self.xp.clip(kernel, LOWEST, HIGHEST, out=kernel)
            self.xp.exp(kernel, out=kernel)
        self.rows = self.kernel @ self.v

    def absorb(self) -> None:
        """Move ``u, v`` into the potentials; ``exponentiate`` must follow."""
        self.f, self.g = self.potentials()
        self.u, self.v = self.a, self.b

    def potentials(self) -> tuple[Array, Array]:
        f = self.xp.log(self.u / self.a) * self.epsilon
        g = self.xp.log(self.v / self.b) * self.epsilon
        return (f, g) if self.f is None else (f + self.f, g + self.g)

    def sweep(self) -> None:
        """Make the rows exact, then the columns."""
        self.u = self.a / self.rows
        self.fit_columns()
        self.rows = self.kernel @ self.v

    def fit_columns(self) -> None:
        """``v`` such that the columns of the plan have their masses."""
        self.v = self.b / (self.kernel.T @ self.u)

    def residual(self) -> Array:
        """``a - P 1``."""
        return self.a - self.u * self.rows

    def keep_in_range(self) -> None:
        """Absorb ``u, v`` if they have grown, so that products neither overflow nor vanish; refresh ``rows``."""
        bounds = [float(r) for z in (self.u / self.a, self.v / self.b) for r in (z.min(), z.max())]
        if not (min(bounds) > math.exp(-ABSORB) and max(bounds) < math.exp(ABSORB)):
            self.absorb()
            self.exponentiate(self.epsilon)
            self.fit_columns()
        self.rows = self.kernel @ self.v

    def promote(self) -> None:
        """Continue in float64."""
        self.f, self.g = (double(z) for z in self.potentials())
        self.cost, self.a, self.b = double(self.cost), double(self.a), double(self.b)
        self.u, self.v = self.a, self.b
        self.kernel = self.xp.empty_like(self.cost)
        self.exponentiate(self.epsilon)
        self.fit_columns()
        self.rows = self.kernel @ self.v

    def plan(self) -> Array:
        return self.u[:, None] * self.kernel * self.v


class Solution:
    """A solved problem: objective, potentials, marginals, products with ``P = diag(u) K diag(v)``, and how well."""

    path = "dense"

    def __init__(
        self, scaling: Scaling, error: float, iterations: int, tolerance: float, dtype: torch.dtype, symmetric: bool
    ) -> None:
        s = scaling
        self.error, self.iterations, self.converged = error, iterations, error <= tolerance
        rows = s.u * s.rows
        f, g = s.potentials()
        left = float(s.a @ f)
        right = left if symmetric else float(s.b @ g)
        self.value = left + right - s.epsilon * (float(rows.sum()) - 1.0)
        gap = 0.5 * (right - left)  # the constant that splits the objective evenly
        self.f, self.g = tensor(f + gap).to(dtype), tensor(g - gap).to(dtype)
        self.marginals = tensor(rows).to(dtype), tensor(rows if symmetric else s.b).to(dtype)
        self.factors = tensor(s.u), tensor(s.kernel), tensor(s.v)

    def transpose(self) -> Solution:
        """The same solution with the sides exchanged."""
        other = copy(self)
        u, kernel, v = self.factors
        other.factors, other.marginals = (v, kernel.T, u), self.marginals[::-1]
        other.f, other.g = self.g, self.f
        return other

    def plan(self) -> Tensor:
        u, kernel, v = self.factors
        return (kernel * u.unsqueeze(-1)).mul_(v).to(self.f.dtype)

    def right(self, z: Tensor) -> Tensor:
        """``P z`` for ``z`` (m, d), without forming the plan."""
        u, kernel, v = self.factors
        few = (z.to(v.dtype).T * v).contiguous()  # few long rows: several times faster in BLAS than few columns
        return torch.mm(few, kernel.T).mul_(u).T.to(self.f.dtype)

    def left(self, z: Tensor) -> Tensor:
        """``P' z`` for ``z`` (n, d)."""
        return self.transpose().right(z)


def solve(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    scale: tuple[float, float],
    potentials: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """Transport between positive ``a`` (n,) and ``b`` (m,) of mass 1 at cost (n, m), no autograd inside.

    ``scale`` is the mean and (a bound on) the maximum of the cost: annealing starts there.
    """
    own = native(cost, a, b)
    if potentials is None:
        scaling = Scaling(*own)
        start = max(epsilon, START * scale[0], scale[1] / 40)
    else:
        scaling = Scaling(*native(cost, a, b, *refit(cost, b, potentials, epsilon)))
        start = epsilon
    newton = Newton(scaling)
    stages = math.ceil(math.log(start / epsilon) / math.log(ANNEALING) - 0.5)
    used = 0
    for stage in range(stages, -1, -1):
        scaling.exponentiate(epsilon * (start / epsilon) ** (stage / max(stages, 1)) if stage else epsilon)
        limit = max_iterations - used
        error, spent = reach(scaling, newton, tolerance if stage == 0 else STAGE_TOLERANCE, limit)
        used += spent
        if stage:
            scaling.absorb()
    return Solution(scaling, error, used, tolerance, cost.dtype, symmetric=False)


def reach(scaling: Scaling, newton: Newton, tolerance: float, limit: int) -> tuple[float, int]:
    """Sweep, with Newton steps wherever sweeps converge too slowly, until the row error is at most ``tolerance``."""
    before, last, rate, used, batch, stuck = math.inf, math.inf, 0.0, 0, 1, 0
    while True:
        for _ in range(batch):
            scaling.sweep()
        used += batch
        residual = scaling.residual()
        error = l1(residual)
        if before < math.inf:
            rate = (error / before) ** (1 / batch)
        # what a slow mode still owes to potentials and gradient is the error over (1 - rate)
        enough = tolerance * min(CAUTION, max(0.1, 1.0 - rate))
        stuck = stuck + 1 if error > 0.7 * last else 0
        if error <= enough or (error <= tolerance and stuck >= 2) or used >= limit or math.isnan(error):
            return error, used
        if stuck >= 3:  # rounding, or plans too sharp to tell: more digits, and exact steps
            newton.insist()
            stuck = 0
        batch, last = 1, error
        if rate == 0.0:
            before = error
            continue
        left = math.log(enough / error) / math.log(rate) if rate < 0.999 else math.inf
        if left > PATIENCE:
            used += newton.step(residual, error, enough)
            before = math.inf
        else:
            before, batch = error, max(1, int(left))  # no need to look before


def refit(cost: Tensor, b: Tensor, potentials: tuple[Tensor, Tensor], epsilon: float) -> tuple[Tensor, Tensor]:
    """Potentials from elsewhere, the first replaced by its exact update so that no exponent can overflow."""
    g = potentials[1].detach().to(cost)
    f = torch.logsumexp(torch.sub(g, cost).div_(epsilon).add_(b.log()), -1).mul_(-epsilon)
    return f, g


def solve_symmetric(
    cost: Tensor,
    a: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    scale: Callable[[], tuple[float, float]],
) -> Solution:
    """Transport of a cloud onto itself: one potential, and averaged sweeps ``u = sqrt(u a / K u)``.

    For a positive definite kernel they more than halve the error each time at any epsilon, and need no annealing: the
    diagonal keeps every row away from zero.
    """
    own, mass = native(cost, a)
    scaling = Scaling(own, mass, mass)
    scaling.exponentiate(epsilon)
    used = 0
    while True:
        error = l1(scaling.residual())
        if error <= CAUTION * tolerance or used >= min(SYMMETRIC_LIMIT, max_iterations) or math.isnan(error):
            break
        for _ in range(2):
            scaling.u = scaling.v = scaling.xp.sqrt(scaling.u * mass / scaling.rows)
            scaling.rows = scaling.kernel @ scaling.v
            used += 1
    if not error <= tolerance and used < max_iterations:
        return solve(cost, a, a, epsilon, tolerance, max_iterations - used, scale())
    return Solution(scaling, error, used, tolerance, cost.dtype, symmetric=True)
