"""The solver for a cost matrix that fits in memory: annealed Sinkhorn sweeps, and Newton steps where sweeps crawl.

A Sinkhorn sweep ``u = a / K v``, ``v = b / K' u`` costs two matrix-vector products and no ``exp``. Sweeps converge
linearly at the square of the second singular value of the normalised plan: fast for smooth plans, hopeless for sharp
ones. docs/transport.md explains the choices.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

from sidelight.transport.arrays import Array, is_double, l1_norm, to_double
from sidelight.transport.newton import Newton
from sidelight.transport.scaling import GroundCost, Scaling, prepare_start
from sidelight.transport.solution import DenseSolution

START = 1 / 30  # first epsilon, relative to the largest cost
ANNEALING = 4.0  # about the ratio of consecutive epsilons on the way down
STAGE_TOLERANCE = 0.05  # marginal error at which an epsilon above the target is left
CAUTION = 0.3  # stop at this share of the tolerance, or at less where sweeps converge slowly
PATIENCE = 30.0  # remaining sweeps above which a Newton step is worth its price
IDLE = 8  # sweeps without progress that indicate rounding, or plans too sharp for sweeps

Iterate = TypeVar("Iterate", bound=Scaling)


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
    """Transport between two sides of mass 1, without autograd inside.

    Args:
        cost: costs (n, m).
        a: positive masses (n,) of sum 1.
        b: positive masses (m,) of sum 1.
        epsilon: regularisation strength in units of the cost.
        tolerance: L1 error of the marginals that the plan must meet.
        max_iterations: the most pairs of matrix-vector products.
        largest: (a bound on) the maximum of the cost, where annealing starts.
        potentials: ``f`` (n,) and ``g`` (m,) to start from, or None.

    Returns:
        The solution. Its error is infinite where neither float32 nor float64 determines the plan.
    """
    scaling, way = initialise(Scaling, cost, a, b, epsilon, largest, potentials, max_iterations)
    newton = Newton(scaling)
    used, later = 0, len(way)
    for stage in way:
        later -= 1  # every later stage takes at least one sweep, so that many are reserved
        scaling.ensure_kernel(stage)
        asked = STAGE_TOLERANCE if later else tolerance
        error, spent = sweep_until(scaling, newton, asked, max_iterations - used - later)
        used += spent
        if later:
            scaling.absorb()
    # Where clamping was not exact, the iterate solves another cost: form the kernel again and go on.
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
    if scaling.clamped and is_double(scaling.a) and scaling.precision_lost():
        error = math.inf  # float64 does not determine the plan either
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
    """The first iterate, and the epsilons to visit, of which the target is the last.

    A good start visits the target alone. Far from the solution the clamped exponents are those that matter, so a start
    for which clamping is not exact is discarded.

    Args:
        kind: class of the iterate, for one problem or for a batch.
        cost: costs (..., n, m).
        a: masses (..., n).
        b: masses (..., m).
        epsilon: the target, in units of the cost.
        largest: (a bound on) the maximum of the cost.
        potentials: ``f`` and ``g`` to start from, or None.
        limit: the most stages.

    Returns:
        The iterate and the epsilons.
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
    """Sweep, with Newton steps wherever sweeps converge too slowly, until the row error is at most the tolerance.

    Args:
        scaling: the iterate; it moves in place.
        newton: the Newton steps of this iterate.
        tolerance: L1 error of the rows to meet.
        limit: the most pairs of matrix-vector products.

    Returns:
        The error reached, and the pairs of products used.
    """
    slowest = 0.0  # the squared second singular value of the plan, as far as the errors have shown it
    length, momentum = 1.0, 0.0  # relaxation of the sweeps, from `slowest`
    last, best = math.inf, math.inf  # errors: of the sweep before, and the smallest
    pace = 0.0  # the slowest rate seen
    used, steady, idle = 0, 0, 0  # sweeps: all, since relaxation began or changed, and without progress
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
        # The slow modes of potentials and gradient are still off by the error over (1 - slowest).
        enough = max(tolerance * min(CAUTION, max(0.1, 1.5 * (1.0 - slowest))), min(tolerance, scaling.rounding))
        over = used >= limit or math.isnan(error)
        if over or error * rate <= enough or (idle >= 4 and error <= tolerance):
            error = l1_norm(scaling.fit_rows())
            if over or error <= enough or (idle >= 4 and error <= tolerance):
                return error, used
        if idle >= IDLE:  # rounding, or plans too sharp for sweeps: more digits, and exact steps
            newton.require_exact_steps()
            last, best, idle = math.inf, math.inf, 0
        left = limit - used - 1  # one is reserved for the sweep that follows
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
