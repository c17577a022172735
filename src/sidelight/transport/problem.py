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
from sidelight.transport.arrays import Array, alike, full, suits_numpy, tensor, variant
from sidelight.transport.costs import SQUARED, Cost, cost_matrix
from sidelight.transport.dense import Ground
from sidelight.transport.points import Matrix, Points
from sidelight.transport.result import Transport

Path = Literal["auto", "dense", "online"]

TINY = 1e-30  # stands for a mass of zero
LARGE = 1 << 27  # elements of the cost above which it is never formed


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


def finite(cost: float) -> float:
    if not abs(cost) < float("inf"):
        raise ValueError("the transport cost holds NaN or infinity: check the inputs")
    return cost


class Problem:
    """Transport between ``n`` and ``m`` masses, from clouds ``x``, ``y`` or from a cost matrix. Not batched."""

    symmetric = False

    def __init__(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
        path: Path = "auto",
        second_order: bool = False,
    ) -> None:
        self.x, self.y, self.a, self.b, self.offset, self.second_order = x, y, a, b, offset, second_order
        self.matrix: Tensor | None = None
        self.points: Points | None = None
        if isinstance(cost, Tensor):
            self.matrix = cost
            self.shape = (cost.shape[0], cost.shape[1])
        else:
            assert x is not None
            assert y is not None
            self.shape = (x.shape[0], y.shape[0])
        if 0 in self.shape:
            raise ValueError(f"a cost matrix is (n, m) with n, m >= 1; got {self.shape}")
        size = self.shape[0] * self.shape[1]
        of_points = isinstance(cost, str) and cost in SQUARED and not second_order
        if path == "online" and not (of_points and offset is None):
            raise ValueError("the online path serves clouds under a squared Euclidean cost, to first order")
        self.online = path == "online" or (path == "auto" and of_points and offset is None and size > LARGE)
        if of_points:
            assert x is not None
            assert y is not None
            in_numpy = not self.online and suits_numpy(size, x)
            self.points = Points(x, y, SQUARED[cost], in_numpy)  # type: ignore[index]
        elif self.matrix is None:
            assert x is not None
            assert y is not None
            self.matrix = cost_matrix(x, y, cost)
        if self.matrix is not None and offset is not None:
            self.matrix = self.matrix + offset.detach().to(self.matrix)

    def alone(self, side: int, cost: Cost, offset: Tensor | None) -> Problem:
        """The transport of one side onto itself."""
        own, mass, n = (self.y, self.b, self.shape[1]) if side else (self.x, self.a, self.shape[0])
        if self.points is None:
            other = Problem(own, own, cost, mass, mass, offset, second_order=self.second_order)
            if other.shape != (n, n):
                raise ValueError(f"the cost of a side with itself is {n} x {n}; got {other.shape}")
        else:
            points = self.points.alone(side)
            other = variant(self, x=own, y=own, a=mass, b=mass, shape=(n, n), offset=offset, points=points)
            other.__dict__.pop("ground", None)
        other.symmetric = True
        return other

    # ------------------------------------------------------------ what is given

    @cached_property
    def ground(self) -> Ground:
        """The detached cost."""
        if self.points is not None:
            if self.offset is None:
                return self.points
            cost = self.points.cost()
            return Matrix(cost + alike(self.offset.detach(), cost))
        assert self.matrix is not None
        cost = self.matrix.detach()
        return Matrix(cost.numpy() if suits_numpy(cost.numel(), cost) else cost)

    def mean_cost(self) -> float:
        """Mean of the cost, without forming it where it is of points."""
        ground = self.ground
        return finite(ground.mean() if isinstance(ground, Points) else float(ground.given.mean()))

    def masses(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positive ``a`` and ``b`` of sum 1 (differentiable where given), and the total mass if it is not 1."""
        n, m = self.shape
        a, b = like.new_full((n,), 1 / n), like.new_full((m,), 1 / m)
        given = self.a if self.a is not None else self.b
        if given is None:
            return a, b, None
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
        potentials: tuple[Tensor, Tensor] | None = None,
        attach: bool = True,
    ) -> Transport:
        """Solve; without ``attach`` the gradients stay in the result for the caller to combine."""
        differentiable = torch.is_grad_enabled()
        with torch.no_grad(), np.errstate(all="ignore"):  # what overflows is found and mended
            like = self.x if self.x is not None else self.matrix
            assert like is not None
            settings = (epsilon, tolerance, limit)
            ground, largest = self.ground, 0.0 if self.symmetric else finite(self.ground.bound())
            solution: dense.Solution | online.Solution
            if self.online:
                assert self.points is not None
                a, b, mass = self.masses(like)
                solution = online.solve(self.points, a, b, *settings, potentials)
            else:
                array = ground.x if isinstance(ground, Points) else ground.given
                if self.a is None and self.b is None:
                    a, b, mass = (*(full(n, 1.0 / n, array) for n in self.shape), None)
                else:
                    *both, mass = self.masses(like)
                    a, b = (alike(z, array) for z in both)
                if self.symmetric:
                    solution = dense.solve_symmetric(ground, a, *settings)
                elif self.shape[0] <= self.shape[1]:
                    solution = dense.solve(ground, a, b, *settings, largest, potentials)
                else:  # Newton works on the first side: make it the smaller one
                    swapped = None if potentials is None else potentials[::-1]
                    solution = dense.solve(ground.transpose(), b, a, *settings, largest, swapped).transpose()
            factor = 1.0 if mass is None else mass.item()
            second_order = self.second_order and differentiable
            pairs = self._gradients(solution, factor, like) if differentiable and not second_order else []
            number = solution.value * factor
            value = like.new_tensor(number)
        if second_order:
            return self._twice_differentiable(solution, epsilon)

        def as_tensor(array: Array) -> Tensor:
            return tensor(array).to(like)

        return Transport(
            with_gradients(value, pairs) if attach else value,
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            solution.path,
            number,
            lambda: (as_tensor(solution.potentials[0]), as_tensor(solution.potentials[1])),
            lambda: as_tensor(solution.plan()) * factor,
            lambda: (as_tensor(solution.plan()) * as_tensor(ground.cost())).sum() * factor,
            pairs,
        )

    def _gradients(
        self, solution: dense.Solution | online.Solution, factor: float, like: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
        pairs: list[tuple[Tensor, Array]] = []
        if self.points is None:
            assert self.matrix is not None
            if self.matrix.requires_grad:
                pairs.append((self.matrix, solution.plan() * factor))
        else:
            if self.x is not None and self.x.requires_grad:
                pairs.append((self.x, self.points.gradient_x(solution, factor)))
            if self.y is not None and self.y.requires_grad and not self.symmetric:
                pairs.append((self.y, self.points.gradient_y(solution, factor)))
        for side, weight in enumerate((self.a, self.b)):
            if weight is not None and weight.requires_grad:
                pairs.append((weight, solution.potentials[side]))
        return [(variable, tensor(gradient).to(like)) for variable, gradient in pairs]

    def _twice_differentiable(self, solution: dense.Solution | online.Solution, epsilon: float) -> Transport:
        """The envelope's gradient made differentiable in turn; plan, cost and potentials carry gradients too."""
        cost = self.matrix
        assert cost is not None
        a, b, mass = self.masses(cost)
        f, g = (tensor(z).to(cost) for z in solution.potentials)
        plan = tensor(solution.plan()).to(cost)
        objective, plan, f, g = implicit.attach(cost.new_tensor(solution.value), cost, a, b, plan, f, g, epsilon)
        factor: float | Tensor = 1.0 if mass is None else mass
        return Transport(
            objective * factor,
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
            solution.path,
            solution.value,
            lambda: (f, g),
            lambda: plan * factor,
            lambda: (plan * cost).sum() * factor,
        )
