"""The solver for a cost matrix that fits in memory: annealed Sinkhorn sweeps, and Newton steps where sweeps crawl.

With potentials ``f, g`` absorbed into ``K = exp((f + g' - C) / epsilon)``, the plan is ``P = diag(u) K diag(v)``.
A Sinkhorn sweep ``u = a / K v``, ``v = b / K' u`` costs two matrix-vector products and no ``exp``. Sweeps converge
linearly at the square of the second singular value of the normalised plan: fast for smooth plans, hopeless for sharp
ones. docs/transport.md explains the choices.
"""

from __future__ import annotations

import math
from typing import TypeVar

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
    l1_norm,
    matvec,
    min_max,
    row_blocks,
    soft_maximum,
    to_double,
)
from sidelight.transport.newton import Newton
from sidelight.transport.points import MatrixCost, PointCost
from sidelight.transport.solution import DenseSolution

GroundCost = MatrixCost | PointCost

START = 1 / 30  # first epsilon, relative to the largest cost
ANNEALING = 4.0  # about the ratio of consecutive epsilons on the way down
STAGE_TOLERANCE = 0.05  # marginal error at which an epsilon above the target is left
CAUTION = 0.3  # stop at this share of the tolerance, or at less where sweeps converge slowly
PATIENCE = 30.0  # remaining sweeps above which a Newton step is worth its price
IDLE = 8  # sweeps without progress that tell of rounding, or of plans too sharp for sweeps
ABSORB = 15.0  # log range of u, v above which they move into f, g
BLUR = 4e-3  # rounding of exponents, relative to 1, at which float32 (float64) can no longer tell the plan


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
        """Form ``K`` from the absorbed potentials, at a new or the same ``epsilon``; in float64 where it must be."""
        self.epsilon = epsilon
        if not is_double(self.a) and self.precision_lost():
            self.convert_to_double()
        self.clamped = self.f is not None or self.largest > -LOWEST * epsilon
        for _, part in self.cost.exponents(self.kernel, epsilon, self.f, self.g):
            if self.clamped:
                part.clamp_(LOWEST, HIGHEST)
            part.exp_()

    def ensure_kernel(self, epsilon: float) -> None:
        """:meth:`form_kernel`, where that is not done."""
        if self.epsilon != epsilon:
            self.form_kernel(epsilon)

    def absorb(self) -> None:
        """Move ``u, v`` into the potentials; ``form_kernel`` must follow.

        Of what the first cost allows, a constant from one side to the other, nothing is kept: it would cost digits.
        """
        f, g = self.potentials()
        gap = 0.5 * (inner_product(self.b, g) - inner_product(self.a, f))
        gap = gap if f.ndim == 1 else gap[:, None]
        self.f, self.g = f + gap, g - gap
        self.u, self.v = self.a, self.b

    def potentials(self) -> tuple[Array, Array]:
        f = self.xp.log(self.u / self.a) * self.epsilon
        g = self.xp.log(self.v / self.b) * self.epsilon
        return (f, g) if self.f is None else (f + self.f, g + self.g)

    def sweep(self, length: float, momentum: float) -> float:
        """Correct the rows, then make the columns exact; the marginal error before.

        ``log u`` moves by ``length`` times what would make the rows exact (1: a plain Sinkhorn sweep), plus
        ``momentum`` times its last change. One pass over the kernel.
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
        """Move some rows of ``u`` in place; their error before, and their sums over columns after."""
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
        """``rows = K v``, and what the rows of the plan lack, ``a - P 1``."""
        self.rows = matvec(self.kernel, self.v)
        return self.a - self.u * self.rows

    def clamp_is_exact(self) -> Array:
        """Whether ``P`` is as without clamps; one answer for each problem of a stack.

        Where ``u_i v_j`` is at most ``e^30 a_i b_j``, an exponent clamped from below puts ``1e-13 a_i b_j`` in place of
        less; where it is at least ``e^-30 a_i b_j``, one clamped from above would put more than a row or column has.
        Where ``u, v`` have gone further, they may solve another cost.
        """
        (lowest, highest), (low, high) = min_max(self.u / self.a), min_max(self.v / self.b)
        return (lowest * low > math.exp(-2 * ABSORB)) & (highest * high < math.exp(2 * ABSORB))  # false for NaN

    def precision_lost(self) -> bool:
        """Whether rounding may move the exponents of what is transported, whose cost is about ``f + g``.

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
        """Absorb ``u, v`` and form the kernel anew."""
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
        """Take what is absorbed to float64; ``form_kernel`` must follow."""
        self.f, self.g = (None if z is None else to_double(z) for z in (self.f, self.g))
        self.cost, self.a, self.b = self.cost.double(), to_double(self.a), to_double(self.b)
        self.u, self.v = self.a, self.b
        self.kernel = empty(self.cost.shape, self.a)
        self.change, self.rounding = 0.0 * self.a, 1e-15

    def plan(self) -> Array:
        return self.u[:, None] * self.kernel * self.v

    def solution(self, error: Array, iterations: int, tolerance: float) -> DenseSolution:
        """What has been reached; ``fit_rows`` came last."""
        marginals, masses = (self.u * self.rows, self.b), (self.a, self.b)
        factors = self.u, self.kernel, self.v
        return DenseSolution(factors, marginals, masses, self.potentials(), self.epsilon, error, iterations, tolerance)


Iterate = TypeVar("Iterate", bound=Scaling)


def precision_lost(size: float, epsilon: float, array: Array) -> bool:
    """Whether potentials of this size leave too few digits for exponents in the arithmetic of ``array``."""
    return size * (2.2e-16 if is_double(array) else 1.2e-7) > BLUR * epsilon


def solve(
    cost: GroundCost,
    a: Array,
    b: Array,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    largest: float,
    potentials: tuple[Tensor, Tensor] | None = None,
) -> DenseSolution:
    """Transport between positive ``a`` (n,) and ``b`` (m,) of mass 1 at cost (n, m), no autograd inside.

    ``largest`` is (a bound on) the maximum of the cost: annealing starts there.
    """
    scaling, way = initialise(Scaling, cost, a, b, epsilon, largest, potentials, max_iterations)
    newton = Newton(scaling)
    used, later = 0, len(way)
    for stage in way:
        later -= 1  # every later stage takes a sweep
        scaling.ensure_kernel(stage)
        asked = STAGE_TOLERANCE if later else tolerance
        error, spent = sweep_until(scaling, newton, asked, max_iterations - used - later)
        used += spent
        if later:
            scaling.absorb()
    while scaling.clamped and not scaling.clamp_is_exact() and not math.isnan(error):
        scaling.refresh()
        error = l1_norm(scaling.fit_rows())
        good = bool(scaling.clamp_is_exact())
        if used >= max_iterations:
            error = error if good else math.inf
            break
        if not (good and error <= tolerance):
            error, spent = sweep_until(scaling, newton, tolerance, max_iterations - used)
            used += spent
    if scaling.clamped and is_double(scaling.a) and scaling.precision_lost():  # no arithmetic tells
        error = math.inf
    if math.isnan(error) and not is_double(a) and used < max_iterations:  # out of the range of float32
        again = solve(cost.double(), to_double(a), to_double(b), epsilon, tolerance, max_iterations - used, largest)
        again.iterations += used
        return again
    return scaling.solution(error, used, tolerance)


def initialise(
    kind: type[Iterate],
    cost: GroundCost,
    a: Array,
    b: Array,
    epsilon: float,
    largest: float,
    potentials: tuple[Tensor, Tensor] | None,
    limit: float,
) -> tuple[Iterate, list[float]]:
    """An iterate at its start, and the epsilons on the way down, the target last: it alone where a good start is given.

    Far from the solution the exponents that are clamped are those that matter, so that such a start is as good as none.
    Of the way no more than ``limit`` stages are left.
    """
    if potentials is not None:
        warm = kind(cost, a, b, largest, *prepare_start(cost, b, potentials, epsilon))
        warm.form_kernel(epsilon)
        warm.fit_columns()
        if warm.clamp_is_exact().all():
            return warm, [epsilon]
    start = max(epsilon, START * largest)
    stages = round(math.log(start / epsilon) / math.log(ANNEALING))
    down = [epsilon * (start / epsilon) ** (stage / stages) for stage in range(stages, 0, -1)]
    return kind(cost, a, b, largest), [*down, epsilon][-max(1, int(limit)) :]


def sweep_until(scaling: Scaling, newton: Newton, tolerance: float, limit: int) -> tuple[float, int]:
    """Sweep, with Newton steps wherever sweeps converge too slowly, until the row error is at most ``tolerance``."""
    slowest, length, momentum = 0.0, 1.0, 0.0  # the squared second singular value of the plan as far as it has shown
    last, best, pace, used, steady, idle = math.inf, math.inf, 0.0, 0, 0, 0
    while True:
        # a relaxed sweep without its momentum would raise the error of the fast modes
        error = scaling.sweep(length, momentum) if steady else scaling.sweep(1.0, 0.0)
        used += 1
        steady += 1
        rate, last = min(1.0, error / last) if 0.0 < last < math.inf else 1.0, error  # 0: only rounding is left
        if used > 1:  # the start's columns were not exact
            best, idle = (error, 0) if error < 0.97 * best else (best, idle + 1)
        if steady > 2:
            pace = max(pace, rate)
            if momentum < rate * rate < 1.0:
                seen = 1.0 - (1.0 + momentum - rate - momentum / rate) / length
                if seen > slowest:  # at first the fast modes hide how slow the slowest is
                    slowest, steady = min(seen if slowest else math.sqrt(seen), 0.999), 1
                    length, momentum = compute_relaxation(slowest)
        # what a slow mode still owes to potentials and gradient is the error over (1 - slowest)
        enough = max(tolerance * min(CAUTION, max(0.1, 1.5 * (1.0 - slowest))), min(tolerance, scaling.rounding))
        over = used >= limit or math.isnan(error)
        if over or error * rate <= enough or (idle >= 4 and error <= tolerance):
            error = l1_norm(scaling.fit_rows())
            if over or error <= enough or (idle >= 4 and error <= tolerance):
                return error, used
        if idle >= IDLE:  # rounding, or plans too sharp to tell: more digits, and exact steps
            newton.require_exact_steps()
            last, best, idle = math.inf, math.inf, 0
        left = limit - used - 1  # a sweep follows
        if left >= 2 and (pace >= 1.0 or pace**PATIENCE * error > enough):
            residual = scaling.fit_rows()
            used += newton.step(residual, l1_norm(residual), enough, left)
            last, best, steady, idle = math.inf, math.inf, 0, 0


def compute_relaxation(slowest: Array) -> tuple[Array, Array]:
    """Length and momentum that turn an error factor of ``slowest`` a sweep into the square root of the momentum.

    The heavy ball of Polyak (1964) for a linear iteration with eigenvalues in [0, slowest].
    """
    root = (1.0 - slowest) ** 0.5
    pace = (1.0 - root) / (1.0 + root)
    return (1.0 + pace) ** 2, pace * pace


def prepare_start(cost: GroundCost, b: Array, potentials: tuple[Tensor, Tensor], epsilon: float) -> tuple[Array, Array]:
    """Potentials from elsewhere, the first replaced by its exact update so that no exponent can overflow."""
    g = convert_like(potentials[1].detach(), b)
    shift = inner_product(b, g)  # a constant, of no effect but for rounding where it is large
    g = g - (shift if g.ndim == 1 else shift[:, None])
    return soft_minimum(cost, b, g, epsilon), g


def soft_minimum(cost: GroundCost, b: Array, g: Array, epsilon: float) -> Array:
    """``f_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon)``, which makes the rows exact."""
    weighted = g + array_namespace(b).log(b) * epsilon
    parts = cost.exponents(empty(cost.shape, b), epsilon, g=weighted)
    return convert_like(torch.cat([soft_maximum(part) for _, part in parts]).mul_(-epsilon), b)
