"""One transport problem: its cost or its points, its masses, the path that solves it, and where gradients go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sidelight.transport import dense, implicit, online
from sidelight.transport.costs import SQUARED, Cost, cost_matrix
from sidelight.transport.points import Points
from sidelight.transport.result import Transport

Path = Literal["auto", "dense", "online"]

TINY = 1e-30  # stands for a mass of zero
LARGE = 1 << 27  # elements of the cost above which it is never formed
SMALL = 1 << 18  # elements up to which looking through a cost matrix is the cheapest way to its mean and maximum


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


def merged(groups: Sequence[tuple[float, Sequence[tuple[Tensor, Tensor]]]]) -> list[tuple[Tensor, Tensor]]:
    """(input, gradient) pairs of a weighted sum, one per input."""
    total: dict[int, tuple[Tensor, Tensor]] = {}
    for weight, pairs in groups:
        for variable, gradient in pairs:
            if id(variable) in total:
                total[id(variable)] = variable, torch.add(total[id(variable)][1], gradient, alpha=weight)
            else:
                total[id(variable)] = variable, gradient if weight == 1.0 else gradient * weight
    return list(total.values())


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
            if self.points is not None and self.offset is None and self.shape[0] * self.shape[1] > SMALL:
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
        self,
        epsilon: float,
        tolerance: float,
        limit: int,
        potentials: tuple[Tensor, Tensor] | None,
        path: Path = "auto",
        attach: bool = True,
    ) -> Transport:
        """Solve; without ``attach`` the gradients stay in the result for the caller to combine."""
        differentiable = torch.is_grad_enabled()
        with torch.no_grad():
            a, b, mass = self.masses(self.points.x if self.points is not None else self.dense_cost)
            solution: dense.Solution | online.Solution
            if self.goes_online(path):
                solution = self._solve_online(a, b, epsilon, tolerance, limit, potentials)
            else:
                with np.errstate(all="ignore"):  # what overflows is found and mended
                    solution = self._solve_dense(a, b, epsilon, tolerance, limit, potentials)
            factor = 1.0 if mass is None else mass.item()
            value = solution.f.new_tensor(solution.value * factor)
            second_order = self.second_order and differentiable
            pairs = self._gradients(solution, factor) if differentiable and not second_order else []
        if second_order:
            return self._twice_differentiable(solution, epsilon)
        return Transport(
            with_gradients(value, pairs) if attach else value,
            (solution.f, solution.g),
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            solution.path,
            lambda: solution.plan() * factor,
            lambda: (solution.plan() * self.dense_cost).sum() * factor,
            pairs,
        )

    def goes_online(self, path: Path) -> bool:
        possible = self.points is not None and self.offset is None
        if path == "online" and not possible:
            raise ValueError("the online path serves clouds under a squared Euclidean cost, to first order")
        return path == "online" or (path == "auto" and possible and self.shape[0] * self.shape[1] > LARGE)

    def _solve_dense(
        self,
        a: Tensor,
        b: Tensor,
        epsilon: float,
        tolerance: float,
        limit: int,
        potentials: tuple[Tensor, Tensor] | None,
    ) -> dense.Solution:
        cost = self.dense_cost
        if self.symmetric:
            return dense.solve_symmetric(cost, a, epsilon, tolerance, limit, lambda: self.cost_scale)
        if cost.shape[0] <= cost.shape[1]:
            return dense.solve(cost, a, b, epsilon, tolerance, limit, self.cost_scale, potentials)
        # Newton works on the first side: make it the smaller one
        swapped = None if potentials is None else (potentials[1], potentials[0])
        return dense.solve(cost.T, b, a, epsilon, tolerance, limit, self.cost_scale, swapped).transpose()

    def _solve_online(
        self,
        a: Tensor,
        b: Tensor,
        epsilon: float,
        tolerance: float,
        limit: int,
        potentials: tuple[Tensor, Tensor] | None,
    ) -> online.Solution:
        assert self.points is not None
        _ = self.cost_scale  # says so if the input is not finite
        return online.solve(self.points, a, b, epsilon, tolerance, limit, potentials)

    def _gradients(self, solution: dense.Solution | online.Solution, factor: float) -> list[tuple[Tensor, Tensor]]:
        """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
        pairs: list[tuple[Tensor, Tensor]] = []
        if self.points is None:
            assert self.matrix is not None
            if self.matrix.requires_grad:
                pairs.append((self.matrix, solution.plan().mul_(factor)))
        else:
            if self.x is not None and self.x.requires_grad:
                pairs.append((self.x, self.points.gradient_x(solution, factor)))
            if self.y is not None and self.y.requires_grad and not self.symmetric:
                pairs.append((self.y, self.points.gradient_y(solution, factor)))
        for weight, potential in ((self.a, solution.f), (self.b, solution.g)):
            if weight is not None and weight.requires_grad:
                pairs.append((weight, potential))
        return pairs

    def _twice_differentiable(self, solution: dense.Solution | online.Solution, epsilon: float) -> Transport:
        """The envelope's gradient made differentiable in turn; plan, cost and potentials carry gradients too."""
        cost = self.matrix
        assert cost is not None
        a, b, mass = self.masses(cost)
        objective, plan, f, g = implicit.attach(
            cost.new_tensor(solution.value), cost, a, b, solution.plan(), solution.f, solution.g, epsilon
        )
        factor: float | Tensor = 1.0 if mass is None else mass
        return Transport(
            objective * factor,
            (f, g),
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            solution.path,
            lambda: plan * factor,
            lambda: (plan * cost).sum() * factor,
        )
