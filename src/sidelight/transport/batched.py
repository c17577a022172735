"""Many small problems of one shape at once: the relaxed sweeps of :mod:`dense` over a batch, one call for all of them.

Each problem has its own relaxation and stops on its own. Problems that need Newton steps are left to :mod:`dense`. So
are, on a CPU, sharp problems that are not tiny: the others would wait for the slowest, which crawls without such steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from sidelight.transport import dense
from sidelight.transport.arrays import Array, expand_batch, inner_product, is_double, matvec, sum_last
from sidelight.transport.dense import CAUTION, STAGE_TOLERANCE, initialise
from sidelight.transport.scaling import GroundCost, Scaling
from sidelight.transport.solution import DenseSolution

PATIENCE = 300.0  # remaining sweeps above which a problem is solved alone, which then costs less
WINDOW = 16  # sweeps over which progress is measured: relaxed sweeps may raise the error for a few
SMALLEST = 1e-30  # stands for an error of zero where a later one is divided by it
LEAST = 1 << 10  # elements of a problem from which a CPU solves sharp problems faster in turn
LARGEST = 1 << 16  # elements of a problem above which the price of a call no longer matters


class BatchedScaling(Scaling):
    """The iterates of N problems: vectors (N, n), kernels (N, n, m)."""

    def sweep_each(self, length: Array, momentum: Array) -> Array:
        """:meth:`Scaling.sweep` with a length and a momentum (N,) for each problem; returns the errors (N,)."""
        lack = self.xp.log(self.a / (matvec(self.kernel, self.v) * self.u))
        error = inner_product(self.a, abs(lack))
        self.change = length[:, None] * lack + momentum[:, None] * self.change
        self.u = self.u * self.xp.exp(self.change)
        self.fit_columns()
        return error


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
    """:func:`dense.solve` for N problems of one shape.

    Args:
        cost: costs (N, n, m).
        a: positive masses (N, n), or (n,) shared by all problems; each sums to 1.
        b: positive masses (N, m), or (m,).
        epsilon: regularisation strength in units of the cost.
        tolerance: L1 error of the marginals that each plan must meet.
        max_iterations: the most sweeps.
        largest: (a bound on) the maximum of the cost, where annealing starts.
        potentials: ``f`` (N, n) and ``g`` (N, m) to start from, or None.

    Returns:
        The solutions, as one :class:`DenseSolution` with a leading dimension.
    """
    stack, way = initialise(BatchedScaling, cost, a, b, epsilon, largest, potentials, max_iterations)
    if len(way) > 1 and not isinstance(a, Tensor) and math.prod(cost.shape[1:]) >= LEAST:
        return solve_each(cost, a, b, epsilon, tolerance, max_iterations, potentials)
    used, later = 0, len(way)
    for stage in way:
        later -= 1  # every later stage takes a sweep
        stack.ensure_kernel(stage)
        asked = STAGE_TOLERANCE if later else tolerance
        error, short, spent = sweep_until(stack, asked, max_iterations - used - later)
        used += spent
        if later:
            stack.absorb()
    if stack.clamped and not stack.clamp_is_exact().all():  # as in dense.solve
        stack.refresh()
        error = stack.xp.where(stack.clamp_is_exact(), sum_last(abs(stack.fit_rows())), math.inf)
        short = ~(error <= tolerance)
    if stack.clamped and is_double(stack.a) and stack.precision_lost():
        error, short = error + math.inf, short | True  # each will tell for itself
    return fallback(stack.solution(error, used, tolerance), short, cost, a, b, epsilon, max_iterations - used)


def solve_each(
    cost: GroundCost,
    a: Array,
    b: Array,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    potentials: tuple[Tensor, Tensor] | None,
) -> DenseSolution:
    """:func:`solve` by :func:`dense.solve` of one problem after the other, whose solutions are those of separate calls.

    The arguments are those of :func:`solve`.
    """
    count = cost.shape[0]
    a, b = expand_batch(a, count), expand_batch(b, count)
    each = []
    for i in range(count):
        part, start = cost.select_problem(i), None if potentials is None else (potentials[0][i], potentials[1][i])
        each.append(dense.solve(part, a[i], b[i], epsilon, tolerance, max_iterations, part.upper_bound(), start))

    def stack(name: str) -> Any:
        parts = zip(*(getattr(one, name) for one in each))
        return tuple(np.stack(part, dtype=a.dtype, casting="same_kind") for part in parts)

    error = np.array([one.error for one in each])
    most = max(one.iterations for one in each)
    factors, marginals, sides = stack("factors"), stack("marginals"), stack("sides")
    solution = DenseSolution(factors, marginals, (a, b), sides, epsilon, error, most, tolerance)
    solution.value, solution.gap = (np.array([getattr(s, name) for s in each], a.dtype) for name in ("value", "gap"))
    return solution


def sweep_until(stack: BatchedScaling, tolerance: float, limit: int) -> tuple[Array, Array, int]:
    """Sweep until every problem has converged or shows that sweeps converge too slowly for it.

    Args:
        stack: the iterates of N problems; they move in place.
        tolerance: L1 error of the marginals to meet.
        limit: the most sweeps.

    Returns:
        The errors (N,), a mask (N,) of the problems that fall short, and the number of sweeps.
    """
    xp = stack.xp
    none = 0.0 * inner_product(stack.a, stack.a)
    one, all_of_them = none + 1.0, none == 0.0
    slowest, steady, last, mark = none, none, none, none + math.inf  # the first three as in dense.sweep_until
    length, momentum, active, hard = one, none, all_of_them, ~all_of_them
    used = 0
    while True:
        relaxed = active & (steady > 0)
        error = stack.sweep_each(xp.where(relaxed, length, active * one), xp.where(relaxed, momentum, none))
        used, steady = used + 1, steady + 1.0
        rate, last = (xp.clip(error / xp.clip(last, SMALLEST, None), None, 1.0) if used > 1 else one), error
        shown = active & (steady > 2)
        seen = 1.0 - (1.0 + momentum - rate - momentum / rate) / length
        slower = shown & (momentum < rate * rate) & (rate < 1.0) & (seen > slowest)
        slowest = xp.where(slower, xp.clip(xp.where(slowest > 0, seen, abs(seen) ** 0.5), None, 0.999), slowest)
        steady = xp.where(slower, one, steady)
        length, momentum = dense.compute_relaxation(slowest)
        enough = xp.clip(tolerance * xp.clip(1.5 * (1.0 - slowest), 0.1, CAUTION), min(tolerance, stack.rounding), None)
        arrived = error * rate <= enough
        active = active & ~arrived
        if used % WINDOW == 0:
            mark = xp.clip(mark, SMALLEST, None)
            hard = hard | (active & ~((error / mark) ** (PATIENCE / WINDOW) * error <= enough))
            active, mark = active & ~hard, error
        if used >= limit or not active.any():
            error = sum_last(abs(stack.fit_rows()))
            short = ~(error <= enough)
            active = short & ~hard
            if used >= limit or not active.any():
                return error, short, used


def fallback(
    solution: DenseSolution, short: Array, cost: GroundCost, a: Array, b: Array, epsilon: float, left: int
) -> DenseSolution:
    """Solve the problems that fall short again, one by one, where iterations are left for that.

    Args:
        solution: the solutions of N problems; those that are solved again are replaced in place.
        short: mask (N,) of the problems that fall short.
        cost: costs (N, n, m).
        a: masses (N, n) or (n,).
        b: masses (N, m) or (m,).
        epsilon: regularisation strength in units of the cost.
        left: iterations that are left for each problem.

    Returns:
        The solution that was given.
    """
    failed = [i for i, falls_short in enumerate(short.tolist()) if falls_short]
    if not failed or left <= 0:
        return solution
    a, b = expand_batch(a, len(solution.error)), expand_batch(b, len(solution.error))
    u, kernel, v = solution.factors
    solution.factors = u + 0.0, kernel, v + 0.0  # they may be views, and the second sides the first
    solution.sides = solution.sides[0], solution.sides[1] + 0.0
    solution.marginals = solution.marginals[0], solution.marginals[1] + 0.0
    most = 0
    for i in failed:
        part = cost.select_problem(i)
        one = dense.solve(part, a[i], b[i], epsilon, solution.tolerance, left, part.upper_bound())
        solution.put(i, one)
        most = max(most, one.iterations)
    solution.iterations += most
    return solution
