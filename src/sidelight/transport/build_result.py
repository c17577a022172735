"""Turn a solution for masses of sum 1 into the caller's result: tensors, the caller's masses, gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sidelight.transport import implicit
from sidelight.transport.arrays import Array, tensor
from sidelight.transport.gradients import attach_gradients, scale_by, to_value
from sidelight.transport.online import OnlineSolution
from sidelight.transport.result import Transport
from sidelight.transport.solution import DenseSolution

if TYPE_CHECKING:
    from sidelight.transport.problem import Problem


def build_result(
    problem: Problem, solution: DenseSolution | OnlineSolution, mass: Array, epsilon: float, attach: bool
) -> Transport:
    """The solution for masses of sum 1 as the caller's: in tensors, for the caller's masses, with gradients.

    Args:
        solution: the solution for masses of sum 1.
        mass: the total mass, or one for each problem of a batch.
        epsilon: regularisation strength in units of the cost.
        attach: whether the objective carries gradients.

    Returns:
        The result; plan, cost and potentials are computed when first read.
    """
    like, ground = problem.like, problem.ground
    if problem.second_order and torch.is_grad_enabled():
        return _twice_differentiable(problem, solution, epsilon)
    pairs = _gradients(problem, solution, mass) if torch.is_grad_enabled() else []
    number = solution.value * mass

    def as_tensor(array: Array) -> Tensor:
        return tensor(array).to(like)

    def plan() -> Tensor:
        return as_tensor(scale_by(solution.plan(), mass))

    objective = attach_gradients(to_value(number, like), pairs) if attach else None
    return Transport(
        epsilon,
        solution.worst,
        solution.iterations,
        solution.converged,
        solution.path,
        number,
        lambda: to_value(number, like) if objective is None else objective,
        lambda: (as_tensor(solution.potentials[0]), as_tensor(solution.potentials[1])),
        plan,
        lambda: (plan() * as_tensor(ground.cost())).sum((-2, -1)),
        pairs,
    )


def _gradients(problem: Problem, solution: DenseSolution | OnlineSolution, mass: Array) -> list[tuple[Tensor, Tensor]]:
    """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
    pairs: list[tuple[Tensor, Array]] = []
    if problem.points is None:
        assert problem.matrix is not None
        if problem.matrix.requires_grad:
            pairs.append((problem.matrix, solution.plan()))
    else:
        if problem.x is not None and problem.x.requires_grad:
            pairs.append((problem.x, problem.points.gradient_x(solution)))
        if problem.y is not None and problem.y.requires_grad and not problem.symmetric:
            pairs.append((problem.y, problem.points.gradient_y(solution)))
    pairs = [(variable, scale_by(gradient, mass)) for variable, gradient in pairs]
    for side, weight in enumerate((problem.a, problem.b)):
        if weight is not None and weight.requires_grad:
            pairs.append((weight, solution.potentials[side]))
    return [(variable, tensor(gradient).to(problem.like)) for variable, gradient in pairs]


def _twice_differentiable(problem: Problem, solution: DenseSolution | OnlineSolution, epsilon: float) -> Transport:
    """The envelope's gradient made differentiable in turn; plan, cost and potentials carry gradients too."""
    cost = problem.matrix
    assert cost is not None
    a, b, mass = problem.masses(cost)
    f, g = (tensor(z).to(cost) for z in solution.potentials)
    plan = tensor(solution.plan()).to(cost)
    objective, plan, f, g = implicit.attach(cost.new_tensor(solution.value), cost, a, b, plan, f, g, epsilon)
    factor: float | Tensor = 1.0 if mass is None else mass
    objective = objective * factor
    return Transport(
        epsilon,
        solution.worst,
        solution.iterations,
        solution.converged,
        solution.path,
        solution.value if mass is None else solution.value * mass.item(),
        lambda: objective,
        lambda: (f, g),
        lambda: plan * factor,
        lambda: (plan * cost).sum() * factor,
    )
