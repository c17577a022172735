"""Entropic optimal transport and its debiased divergence, for points or a given cost."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sidelight.transport import checks
from sidelight.transport.costs import Cost
from sidelight.transport.gradients import attach_gradients, merge_gradients, to_value
from sidelight.transport.problem import Path
from sidelight.transport.result import Divergence, OnFailure, Transport, gather_results, report_failure
from sidelight.transport.self_terms import SelfTermInput, build_self_term, reuse_self_term
from sidelight.transport.solver import Potentials, Solver, read_clouds, to_float
from sidelight.utils.precision import find_device, in_full_precision

MAX_ITERATIONS = 5000
Triple = tuple[Tensor, Tensor, Tensor]


def sinkhorn(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    epsilon: float | str = 0.1,
    cost: Cost = "sqeuclidean/2",
    a: Tensor | None = None,
    b: Tensor | None = None,
    offset: Tensor | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = MAX_ITERATIONS,
    potentials: Potentials | None = None,
    on_failure: OnFailure = "warn",
    second_order: bool = False,
    path: Path = "auto",
) -> Transport:
    """Entropic transport ``min_P <P, C> + epsilon KL(P | a b' / M)`` over plans with marginals ``a`` and ``b``.

    Leading dimensions are independent problems. For a total mass M the plan and the objective are M times those of the
    normalised masses. Half-precision input becomes float32. Where a mass requires a gradient, the potentials are solved
    for in float64 until they too meet the tolerance.

    Args:
        x: points (..., n, d); None beside a cost matrix.
        y: points (..., m, d); None beside a cost matrix.
        epsilon: regularisation strength in units of the cost, or ``"relative:r"`` for r times the mean cost over the
            batch.
        cost: a name (see :func:`cost_matrix`), a function of ``(x, y)``, or a matrix (..., n, m) in place of both
            clouds.
        a: non-negative masses (..., n); by default uniform, with the sum of ``b``, or 1.
        b: non-negative masses (..., m) of the same sum M.
        offset: (..., n, m) added to the cost without gradient.
        tolerance: L1 error of the marginals, relative to the mass, at which iteration stops.
        max_iterations: the most pairs of matrix-vector products.
        potentials: ``f`` (..., n) and ``g`` (..., m) of an earlier result, as a start.
        on_failure: ``"warn"`` (once per process), ``"raise"`` or ``"ignore"`` where ``max_iterations`` did not suffice.
        second_order: make the gradient differentiable, and with it plan, cost and potentials (implicit
            differentiation).
        path: ``"dense"`` holds (n, m) matrices, ``"online"`` (squared costs of points) only blocks, ``"auto"`` chooses
            by size.

    Returns:
        The plan, the objective with its gradient, the potentials, and how well the marginals are met.

    Raises:
        ValueError: An argument is out of range, holds NaN or infinity, or does not fit the others; the error names it.
        TypeError: An argument has the wrong type.
        ConvergenceError: The tolerance was not met, and ``on_failure`` is ``"raise"``.
    """
    checks.require_settings(tolerance, max_iterations, path=path, on_failure=on_failure)
    with in_full_precision(find_device(x, y, cost)), np.errstate(all="ignore"):  # what overflows is found and mended
        clouds = read_clouds(x, y, cost)
        matrix = to_float(cost) if isinstance(cost, Tensor) else cost
        solve = Solver(epsilon, tolerance, max_iterations, second_order, path)
        problems, shape = solve.build_problems(*clouds, matrix, a, b, offset)
        result = gather_results(solve(problems, potentials), shape)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def sinkhorn_divergence(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    epsilon: float | str = 0.1,
    cost: Cost | Triple = "sqeuclidean/2",
    a: Tensor | None = None,
    b: Tensor | None = None,
    offset: Tensor | Triple | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = MAX_ITERATIONS,
    potentials: Potentials | None = None,
    self_y: Transport | None = None,
    on_failure: OnFailure = "warn",
    second_order: bool = False,
    path: Path = "auto",
) -> Divergence:
    """Debiased transport ``OT(x, y) - OT(x, x)/2 - OT(y, y)/2``: zero for equal clouds, positive otherwise.

    Source: Feydy et al. 2019.

    Args:
        x: points (..., n, d); None beside cost matrices.
        y: points (..., m, d); None beside cost matrices.
        epsilon: regularisation strength in units of the cost, or ``"relative:r"`` for r times the mean cost between
            ``x`` and ``y``, over the batch.
        cost: a name, a function of two clouds, or a triple of matrices (x-y, x-x, y-y), the latter two symmetric.
        a: non-negative masses (..., n) of ``x``; uniform by default.
        b: non-negative masses (..., m) of ``y``, of the same sum.
        offset: added to the cost without gradient: a triple as for ``cost``, or one tensor for all three.
        tolerance: L1 error of the marginals, relative to the mass, of each of the three.
        max_iterations: the most pairs of matrix-vector products for each of the three.
        potentials: ``cross.potentials`` of an earlier result, as a start.
        self_y: the ``self_y`` of an earlier result, to save its solve. ``y``, ``b``, cost and epsilon must be the same
            and must not require gradients.
        on_failure: ``"warn"`` (once per process), ``"raise"`` or ``"ignore"`` where ``max_iterations`` did not suffice.
        second_order: make the gradient differentiable (implicit differentiation).
        path: ``"dense"``, ``"online"`` or ``"auto"``, as in :func:`sinkhorn`.

    Returns:
        The divergence with its gradient, and the three transports.

    Raises:
        ValueError: An argument is out of range, holds NaN or infinity, or does not fit the others; the error names it.
        TypeError: An argument has the wrong type.
        ConvergenceError: The tolerance was not met, and ``on_failure`` is ``"raise"``.
    """
    checks.require_settings(tolerance, max_iterations, path=path, on_failure=on_failure)
    if isinstance(cost, Tensor):
        raise ValueError("given costs of a divergence are a triple (x-y, x-x, y-y), got one matrix")
    costs: tuple[Cost, Cost, Cost]
    if isinstance(cost, tuple | list):
        costs = given = tuple(map(to_float, checks.require_triple("cost", cost)))  # type: ignore[assignment]
        for i in (1, 2):
            checks.require_symmetric(f"cost[{i}]", given[i])
    else:
        costs = cost, cost, cost
    offsets = checks.require_triple("offset", offset) if isinstance(offset, tuple | list) else (offset, offset, offset)
    with in_full_precision(find_device(x, y, *costs)), np.errstate(all="ignore"):  # what overflows is found and mended
        first, second = read_clouds(x, y, costs[0])
        solve = Solver(epsilon, tolerance, max_iterations, second_order, path, attach=False)
        problems, shape = solve.build_problems(first, second, costs[0], a, b, offsets[0])
        cross = solve(problems, potentials)
        solve.epsilon = cross[0].epsilon

        clouds = first, second
        sides = [SelfTermInput(costs[1 + i], clouds[i], solve.masses[i], offsets[1 + i]) for i in range(2)]

        def solve_self_term(side: int) -> tuple[Transport, list[Transport]]:
            expected = (*solve.shapes[side], solve.shapes[side][-1])
            own = [costs[1 + side], offsets[1 + side]]
            for i, name in enumerate(("cost", "offset")):
                if isinstance(z := own[i], Tensor):
                    z = checks.require_shape(
                        f"{name} of {'xy'[side]} with itself", z, expected, last=2 * (name == "cost")
                    )
                    own[i] = z.expand(expected)
            results = solve(
                [p.self_problem(side, *parts) for p, *parts in zip(problems, *solve.split_arguments(shape, *own))]
            )
            return build_self_term(gather_results(results, shape), results, sides[side]), results

        self_x, each_x = solve_self_term(0)
        other, each_y = solve_self_term(1) if self_y is None else reuse_self_term(self_y, sides[1], cross, tolerance)
        like = problems[0].like
        values = [_compute_divergence(c, p, q, like, second_order) for c, p, q in zip(cross, each_x, each_y)]
        value = values[0] if not shape else torch.stack(values).reshape(shape)
        result = Divergence(value, gather_results(cross, shape), self_x, other)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def _compute_divergence(
    cross: Transport, self_x: Transport, self_y: Transport, like: Tensor, second_order: bool
) -> Tensor:
    """``OT(x, y) - OT(x, x)/2 - OT(y, y)/2`` with one backward node."""
    if second_order:
        return cross.objective - 0.5 * (self_x.objective + self_y.objective)
    value = to_value(cross._value - 0.5 * (self_x._value + self_y._value), like)
    return attach_gradients(value, merge_gradients([(1.0, cross._pairs), (-0.5, self_x._pairs), (-0.5, self_y._pairs)]))
