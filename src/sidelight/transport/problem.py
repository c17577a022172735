"""One transport problem: its cost or its points, its masses, the path that solves it, and where gradients go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sidelight.transport import dense, implicit
from sidelight.transport.costs import SQUARED, Cost, cost_matrix
from sidelight.transport.points import Points
from sidelight.transport.result import Transport

TINY = 1e-30  # stands for a mass of zero


class _WithGradients(Function):
    """A value whose gradients are already known: the envelope theorem leaves nothing to differentiate through."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[count:])
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return (None, None, *[grad * g for g in gradients], *[None] * len(gradients))


def with_gradients(value: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """``value`` with the given (input, gradient) pairs as its backward pass."""
    if not pairs:
        return value
    inputs, gradients = zip(*pairs)
    result: Tensor = _WithGradients.apply(value, len(pairs), *inputs, *gradients)  # type: ignore[no-untyped-call]
    return result


class Problem:
    """Transport between ``n`` and ``m`` masses, from clouds ``x``, ``y`` or from a cost matrix. Not batched."""

    def __init__(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
        symmetric: bool = False,
        second_order: bool = False,
    ) -> None:
        self.symmetric, self.second_order = symmetric, second_order
        self.x, self.y, self.offset = x, y, offset
        self.matrix: Tensor | None = None
        self.points: Points | None = None
        if isinstance(cost, Tensor):
            self.matrix = cost
            self.shape = (cost.shape[0], cost.shape[1])
        else:
            assert x is not None
            assert y is not None
            self.shape = (len(x), len(y))
            if isinstance(cost, str) and cost in SQUARED and not second_order:
                with torch.no_grad():
                    self.points = Points(x, y, SQUARED[cost], symmetric)
            else:
                self.matrix = cost_matrix(x, y, cost)
        if 0 in self.shape or (symmetric and self.shape[0] != self.shape[1]):
            raise ValueError(f"a cost matrix is (n, m) with n, m >= 1, square for a self-cost; got {self.shape}")
        if self.matrix is not None and offset is not None:
            self.matrix = self.matrix + offset.detach().to(self.matrix)
        self.a, self.b = a, b

    # ------------------------------------------------------------ what is given

    @cached_property
    def dense_cost(self) -> Tensor:
        """The detached cost matrix."""
        if self.points is None:
            assert self.matrix is not None
            return self.matrix.detach()
        with torch.no_grad():
            matrix = self.points.cost()
            return matrix if self.offset is None else matrix.add_(self.offset.to(matrix))

    @cached_property
    def cost_scale(self) -> tuple[float, float]:
        """Mean of the cost, and a bound on its maximum, without forming it where it is of points."""
        with torch.no_grad():
            if self.points is not None and self.offset is None:
                both = self.points.mean_and_bound()
            else:
                both = torch.stack([self.dense_cost.mean(), self.dense_cost.max()])
            mean, largest = both.tolist()
        if not (abs(mean) < float("inf") and largest < float("inf")):
            raise ValueError("the transport cost holds NaN or infinity: check the inputs")
        return mean, largest

    def masses(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positive ``a`` and ``b`` of sum 1 (differentiable where given), and the total mass if it is not 1."""
        n, m = self.shape
        a, b = like.new_full((n,), 1 / n), like.new_full((m,), 1 / m)
        if self.a is None and self.b is None:
            return a, b, None
        given = self.a if self.a is not None else self.b
        assert given is not None
        total = given.sum()
        if self.a is not None:
            a = (self.a / total).clamp_min(TINY)
        if self.b is not None:
            other = self.b.sum()
            if abs(other.item() - total.item()) > 1e-3 * total.item():
                raise ValueError(f"a and b must have the same mass, got {total.item()} and {other.item()}")
            b = (self.b / other).clamp_min(TINY)
        return a, b, total

    # ------------------------------------------------------------ what comes back

    def solve(
        self, epsilon: float, tolerance: float, limit: int, potentials: tuple[Tensor, Tensor] | None
    ) -> Transport:
        differentiable = torch.is_grad_enabled()
        with torch.no_grad():
            scale = self.cost_scale
            cost = self.dense_cost
            a, b, mass = self.masses(cost)
            if self.symmetric:
                solution = dense.solve_symmetric(cost, a, epsilon, tolerance, limit, scale)
            elif cost.shape[0] <= cost.shape[1]:
                solution = dense.solve(cost, a, b, epsilon, tolerance, limit, scale, potentials)
            else:  # Newton works on the first side: make it the smaller one
                swapped = None if potentials is None else (potentials[1], potentials[0])
                solution = dense.solve(cost.T, b, a, epsilon, tolerance, limit, scale, swapped).transpose()
            value, f, g = evaluate(a, b, epsilon, solution)
            if mass is not None:
                value = value * mass
        if self.second_order and differentiable:
            return self._twice_differentiable(value, f, g, solution, epsilon)
        with torch.no_grad():
            pairs = self._gradients(solution, f, g, mass) if differentiable else []
        factor = 1.0 if mass is None else mass.detach()
        return Transport(
            with_gradients(value, pairs),
            (f, g),
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            "dense",
            lambda: solution.plan() * factor,
            lambda: (solution.plan() * cost).sum() * factor,
        )

    def _gradients(
        self, solution: dense.Solution, f: Tensor, g: Tensor, mass: Tensor | None
    ) -> list[tuple[Tensor, Tensor]]:
        """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
        pairs: list[tuple[Tensor, Tensor]] = []
        factor: float | Tensor = 1.0 if mass is None else mass.detach()
        if self.points is None:
            assert self.matrix is not None
            if self.matrix.requires_grad:
                pairs.append((self.matrix, solution.plan() * factor))
        else:
            if self.x is not None and self.x.requires_grad:
                pairs.append((self.x, self.points.gradient_x(solution) * factor))
            if self.y is not None and self.y.requires_grad and not self.symmetric:
                pairs.append((self.y, self.points.gradient_y(solution) * factor))
        for weight, potential in ((self.a, f), (self.b, g)):
            if weight is not None and weight.requires_grad:
                pairs.append((weight, potential))
        return pairs

    def _twice_differentiable(
        self, value: Tensor, f: Tensor, g: Tensor, solution: dense.Solution, epsilon: float
    ) -> Transport:
        """The envelope's gradient made differentiable in turn; plan, cost and potentials carry gradients too."""
        cost = self.matrix
        assert cost is not None
        a, b, mass = self.masses(cost)
        unit = value if mass is None else value / mass.detach()
        plan = solution.plan()
        objective, plan, f, g = implicit.attach(unit.detach(), cost, a, b, plan, f, g, epsilon)
        factor: float | Tensor = 1.0 if mass is None else mass
        return Transport(
            objective * factor,
            (f, g),
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            "dense",
            lambda: plan * factor,
            lambda: (plan * cost).sum() * factor,
        )


def evaluate(a: Tensor, b: Tensor, epsilon: float, solution: dense.Solution) -> tuple[Tensor, Tensor, Tensor]:
    """The dual objective, and the potentials with the constant that splits it evenly between them."""
    left, right = torch.dot(a, solution.f).item(), torch.dot(b, solution.g).item()
    gap = 0.5 * (right - left)
    return a.new_tensor(left + right - epsilon * solution.excess()), solution.f + gap, solution.g - gap
