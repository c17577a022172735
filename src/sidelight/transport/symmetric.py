"""The self terms of a divergence: one potential, ``log u <- log u + LENGTH log(a / u K u) + MOMENTUM (last change)``.

For a positive definite kernel the normalised plan has eigenvalues in [0, 1], and a full step those in [1, 2], at any
epsilon. Polyak's heavy ball for that interval leaves a sixth of the error a sweep. No annealing is needed: the diagonal
keeps every row away from zero. The potential is as exact as the marginals, since no eigenvalue is below 1.
"""

from __future__ import annotations

import math

from sidelight.transport import batched, dense
from sidelight.transport.arrays import (
    HIGHEST,
    LOWEST,
    Array,
    array_namespace,
    empty,
    matvec,
    min_max,
    sum_last,
    to_double,
)
from sidelight.transport.points import PointCost
from sidelight.transport.scaling import ABSORB, GroundCost, precision_lost
from sidelight.transport.solution import DenseSolution

ROOT = 2.0**0.5
LENGTH, MOMENTUM = (2 / (1 + ROOT)) ** 2, ((ROOT - 1) / (ROOT + 1)) ** 2
CAUTION = 0.5  # stop at this share of the tolerance
LIMIT = 60  # averaged sweeps before the general solver takes over


def solve(cost: GroundCost, a: Array, epsilon: float, tolerance: float, max_iterations: int) -> DenseSolution:
    """Transport of a cloud, or of each of a batch of clouds, onto itself.

    Args:
        cost: symmetric costs (n, n) or (N, n, n).
        a: positive masses (n,) or (N, n) of sum 1.
        epsilon: regularisation strength in units of the cost.
        tolerance: L1 error of the marginals that the plan must meet.
        max_iterations: the most sweeps, those of the general solver included.

    Returns:
        The solution. The general solver takes over where the kernel is not positive definite.
    """
    largest = cost.upper_bound()
    far = not largest <= -LOWEST * epsilon
    if far and isinstance(cost, PointCost) and precision_lost(largest, epsilon, a):  # see Scaling.blurred
        cost, a = cost.double(), to_double(a)
    xp, kernel = array_namespace(a), empty(cost.shape, a)
    for _, part in cost.exponents(kernel, epsilon):
        if far:
            part.clamp_(LOWEST, HIGHEST)
        part.exp_()
    u = a / xp.sqrt(matvec(kernel, a))  # u = a is off by a large factor, which the power 1/2 corrects
    change = None
    used, limit = 1, min(LIMIT, max_iterations)
    while True:
        rows = u * matvec(kernel, u)
        error = sum_last(abs(a - rows))
        worst = error if isinstance(error, float) else float(error.max())
        if worst <= CAUTION * tolerance or used >= limit or math.isnan(worst):
            break
        lack = xp.log(a / rows)
        change = (2 / 3) * lack if change is None else LENGTH * lack + MOMENTUM * change
        u = u * xp.exp(change)
        used += 1
    ratio = u / a
    if far and not isinstance(cost, PointCost):  # without a zero diagonal, the clamped exponents may matter
        lowest, highest = min_max(ratio)
        inside = (lowest > math.exp(-ABSORB)) & (highest < math.exp(ABSORB))
        error = xp.where(inside, error, math.inf) if kernel.ndim == 3 else error if inside else math.inf
    f = xp.log(ratio) * epsilon
    solution = DenseSolution((u, kernel, u), (rows, rows), (a, a), (f, f), epsilon, error, used, tolerance)
    left = max_iterations - used
    if solution.converged or left <= 0:
        return solution
    if kernel.ndim == 2:
        return dense.solve(cost, a, a, epsilon, tolerance, left, cost.upper_bound())
    return batched.fallback(solution, ~(error <= tolerance), cost, a, a, epsilon, left)
