"""Entropic optimal transport and its debiased divergence, for points or a given cost."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sidelight.transport import dense
from sidelight.transport.costs import (
    SQUARED,
    Cost,
    cost_matrix,
    resolve_epsilon,
    squared_distances,
    squared_self_distances,
)
from sidelight.transport.result import Divergence, OnFailure, Transport, report_failure

TINY = 1e-30  # stands for a weight of zero
MAX_ITERATIONS = 5000


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
        scaled = [grad.reshape(grad.shape + (1,) * (g.ndim - grad.ndim)) * g for g in gradients]
        return (None, None, *scaled, *[None] * len(gradients))


def with_gradients(value: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    if not pairs:
        return value
    inputs, gradients = zip(*pairs)
    result: Tensor = _WithGradients.apply(value, len(pairs), *inputs, *gradients)  # type: ignore[no-untyped-call]
    return result


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
    potentials: tuple[Tensor, Tensor] | None = None,
    on_failure: OnFailure = "warn",
) -> Transport:
    """Entropic transport ``min_P <P, C> + epsilon KL(P | a b')`` over plans with marginals ``a`` and ``b``.

    ``x`` (..., n, d) and ``y`` (..., m, d) are clouds, leading dimensions are independent problems; or leave both out
    and pass ``cost`` as a matrix (..., n, m). ``a`` (..., n) and ``b`` (..., m) are non-negative masses of equal sum
    (default: uniform, sum 1); for a total mass M the objective is M times that of the normalised masses. ``offset``
    (n, m) is added to the cost without gradient. ``epsilon`` is in units of the cost, or ``"relative:r"`` for r times
    the mean cost. Iterates until the L1 marginal error is at most ``tolerance`` (relative to the mass).
    Half-precision input is computed in float32, float64 in float64. See :class:`Transport` for what comes back.
    """
    with _exact_arithmetic():
        problem = _Problem.read(x, y, cost, a, b, offset)
        eps = problem.epsilon(epsilon)
        result = problem.solve(eps, tolerance, max_iterations, potentials)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def sinkhorn_divergence(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    epsilon: float | str = 0.1,
    cost: Cost | tuple[Tensor, Tensor, Tensor] = "sqeuclidean/2",
    a: Tensor | None = None,
    b: Tensor | None = None,
    offset: Tensor | tuple[Tensor, Tensor, Tensor] | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = MAX_ITERATIONS,
    potentials: tuple[Tensor, Tensor] | None = None,
    on_failure: OnFailure = "warn",
) -> Divergence:
    """Debiased transport ``OT(x, y) - OT(x, x)/2 - OT(y, y)/2``: zero for equal clouds, positive otherwise.

    Arguments as for :func:`sinkhorn`; given costs and offsets are triples (x-y, x-x, y-y), the latter two symmetric
    (one offset is used for all three). A relative epsilon refers to the mean cost between ``x`` and ``y``. Feydy et al. 2019.
    """
    given = isinstance(cost, tuple)
    costs: tuple[Cost, Cost, Cost] = cost if isinstance(cost, tuple) else (cost, cost, cost)
    offsets = offset if isinstance(offset, tuple) else (offset, offset, offset)
    with _exact_arithmetic():
        cross = _Problem.read(x, y, costs[0], a, b, offsets[0])
        eps = cross.epsilon(epsilon)
        problems = [
            cross,
            _Problem.read(None if given else x, None if given else x, costs[1], a, a, offsets[1], symmetric=True),
            _Problem.read(None if given else y, None if given else y, costs[2], b, b, offsets[2], symmetric=True),
        ]
        parts = [p.solve(eps, tolerance, max_iterations, potentials if p is cross else None) for p in problems]
        value = parts[0].objective - 0.5 * (parts[1].objective + parts[2].objective)
    result = Divergence(value, *parts)
    if not result.converged:
        report_failure(result.marginal_error, tolerance, result.iterations, on_failure)
    return result


def _exact_arithmetic() -> Any:
    """Autocast off: exponentials of costs over epsilon need float32."""
    if not (torch.is_autocast_enabled() or torch.is_autocast_enabled("cpu")):
        return nullcontext()
    device = "cuda" if torch.is_autocast_enabled() else "cpu"
    return torch.autocast(device, enabled=False)


def _float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


class _Problem:
    """One (batch of) transport problem(s): detached cost and masses, and where the gradients go."""

    def __init__(self, matrix: Tensor, a: Tensor | None, b: Tensor | None, symmetric: bool) -> None:
        self.matrix, self.symmetric = matrix, symmetric
        self.points: tuple[Tensor, Tensor, float] | None = None
        self.a = self._masses("a", a, -2)
        self.b = self._masses("b", b, -1)

    def _masses(self, name: str, weight: Tensor | None, axis: int) -> Tensor | None:
        """A weight in the dtype and shape of the problem, still differentiable."""
        if weight is None:
            return None
        if weight.shape[-1] != self.matrix.shape[axis]:
            raise ValueError(f"{name} has {weight.shape[-1]} masses for {self.matrix.shape[axis]} points")
        if not (weight >= 0).all().item() or not (weight.sum(-1) > 0).all().item():
            raise ValueError(f"{name} must be non-negative with a positive sum")
        return weight.to(self.matrix).expand(*self.matrix.shape[:-2], -1)

    @classmethod
    def read(
        cls,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
        symmetric: bool = False,
    ) -> _Problem:
        if isinstance(cost, Tensor):
            if x is not None or y is not None:
                raise ValueError("pass either two clouds or a cost matrix, not both")
            problem = cls(_float(cost), a, b, symmetric)
        elif x is None or y is None:
            raise ValueError("two clouds x and y are needed, or a matrix as cost")
        else:
            problem = cls._from_points(_float(x), _float(y), cost, a, b, symmetric)
        if problem.matrix.ndim < 2 or 0 in problem.matrix.shape[-2:]:
            raise ValueError(f"a cost matrix has shape (..., n, m) with n, m >= 1, got {tuple(problem.matrix.shape)}")
        if symmetric and problem.matrix.shape[-1] != problem.matrix.shape[-2]:
            raise ValueError(f"a self-cost is square, got {tuple(problem.matrix.shape)}")
        if offset is not None:
            problem.matrix = problem.matrix + offset.detach().to(problem.matrix)
        return problem

    @classmethod
    def _from_points(
        cls, x: Tensor, y: Tensor, cost: Cost, a: Tensor | None, b: Tensor | None, symmetric: bool
    ) -> _Problem:
        if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1] or x.shape[:-2] != y.shape[:-2]:
            raise ValueError(
                f"x (..., n, d) and y (..., m, d) must agree in d and in leading dimensions, got {tuple(x.shape)} "
                f"and {tuple(y.shape)}"
            )
        if x.dtype != y.dtype:
            x, y = x.to(torch.promote_types(x.dtype, y.dtype)), y.to(torch.promote_types(x.dtype, y.dtype))
        if not (isinstance(cost, str) and cost in SQUARED):
            return cls(cost_matrix(x, y, cost), a, b, symmetric)
        scale = SQUARED[cost]
        with torch.no_grad():
            matrix = squared_self_distances(x, scale) if symmetric else squared_distances(x, y, scale)
        problem = cls(matrix, a, b, symmetric)
        problem.points = (x, y, scale)
        return problem

    def epsilon(self, epsilon: float | str) -> float:
        return resolve_epsilon(epsilon, lambda: self.matrix.detach().mean().item())

    def masses(self) -> tuple[Tensor, Tensor, Tensor | float]:
        """Positive ``a`` and ``b`` of sum 1 in the shape of the problem, and the total mass."""
        shape, (n, m) = self.matrix.shape[:-2], self.matrix.shape[-2:]
        a = self.matrix.new_full((*shape, n), 1 / n)
        b = self.matrix.new_full((*shape, m), 1 / m)
        if self.a is None and self.b is None:
            return a, b, 1.0
        total = (self.a if self.a is not None else self.b).sum(-1, keepdim=True)  # type: ignore[union-attr]
        if self.a is not None:
            a = (self.a / total).clamp_min(TINY)
        if self.b is not None:
            other = self.b.sum(-1, keepdim=True)
            if not torch.allclose(total, other, rtol=1e-3, atol=0.0):
                raise ValueError(f"a and b must have the same mass, got {total.max().item()} and {other.max().item()}")
            b = (self.b / other).clamp_min(TINY)
        return a, b, total.squeeze(-1)

    def solve(
        self, epsilon: float, tolerance: float, limit: int, potentials: tuple[Tensor, Tensor] | None
    ) -> Transport:
        differentiable = torch.is_grad_enabled()
        with torch.no_grad():
            matrix = self.matrix.detach()
            a, b, mass = self.masses()
            if not torch.isfinite(matrix.sum()).item() and not torch.isfinite(matrix).all().item():
                raise ValueError("the transport cost holds NaN or infinity: check the inputs")
            solution = self._run(matrix, a, b, epsilon, tolerance, limit, potentials)
            objective, cost, gap = _values(matrix, a, b, epsilon, solution)
            f, g, plan = solution.f + gap, solution.g - gap, solution.plan
            if isinstance(mass, Tensor):
                objective, cost = objective * mass, cost * mass
                plan = plan * mass.unsqueeze(-1).unsqueeze(-1)
            pairs = self._gradients(plan, f, g) if differentiable else []
        return Transport(
            with_gradients(objective, pairs),
            cost,
            plan,
            (f, g),
            epsilon,
            solution.error,
            solution.iterations,
            solution.converged,
        )

    def _run(
        self,
        matrix: Tensor,
        a: Tensor,
        b: Tensor,
        epsilon: float,
        tolerance: float,
        limit: int,
        potentials: tuple[Tensor, Tensor] | None,
    ) -> dense.Solution:
        if matrix.ndim == 2:
            if self.symmetric:
                return dense.solve_symmetric(matrix, a, epsilon, tolerance, limit)
            return dense.solve(matrix, a, b, epsilon, tolerance, limit, potentials)
        flat = matrix.flatten(0, -3)
        starts: list[tuple[Tensor, Tensor] | None] = [None] * len(flat)
        if potentials is not None:
            starts = list(zip(potentials[0].flatten(0, -2), potentials[1].flatten(0, -2)))
        solutions = [
            dense.solve_symmetric(c, ai, epsilon, tolerance, limit)
            if self.symmetric
            else dense.solve(c, ai, bi, epsilon, tolerance, limit, start)
            for c, ai, bi, start in zip(flat, a.flatten(0, -2), b.flatten(0, -2), starts)
        ]
        return dense.Solution(
            torch.stack([s.f for s in solutions]).reshape(a.shape),
            torch.stack([s.g for s in solutions]).reshape(b.shape),
            torch.stack([s.plan for s in solutions]).reshape(matrix.shape),
            max(s.error for s in solutions),
            max(s.iterations for s in solutions),
            all(s.converged for s in solutions),
        )

    def _gradients(self, plan: Tensor, f: Tensor, g: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Envelope theorem: d objective / d cost is the plan, d / d masses are the potentials."""
        pairs: list[tuple[Tensor, Tensor]] = []
        if self.points is None:
            if self.matrix.requires_grad:
                pairs.append((self.matrix, plan))
        else:
            pairs += self._point_gradients(plan)
        for weight, potential in ((self.a, f), (self.b, g)):
            if weight is not None and weight.requires_grad:
                pairs.append((weight, potential))
        return pairs

    def _point_gradients(self, plan: Tensor) -> list[tuple[Tensor, Tensor]]:
        assert self.points is not None
        x, y, scale = self.points
        centre = y.mean(-2, keepdim=True)  # differences of nearly equal rows keep their digits
        left, right = x - centre, y - centre
        pairs = []
        if x.requires_grad:
            factor = 2.0 * scale * (2.0 if self.symmetric else 1.0)
            pairs.append((x, (plan.sum(-1, keepdim=True) * left).sub_(plan @ right).mul_(factor)))
        if y.requires_grad and not self.symmetric:
            pairs.append((y, (plan.sum(-2).unsqueeze(-1) * right).sub_(plan.mT @ left).mul_(2.0 * scale)))
        return pairs


def _values(
    matrix: Tensor, a: Tensor, b: Tensor, epsilon: float, solution: dense.Solution
) -> tuple[Tensor, Tensor, Tensor]:
    """Dual objective, transport cost, and the shift that splits the objective evenly between the potentials."""
    left, right = (a * solution.f).sum(-1), (b * solution.g).sum(-1)
    excess = solution.plan.sum((-2, -1)).sub_(1.0)
    cost = (solution.plan * matrix).sum((-2, -1))
    return left + right - epsilon * excess, cost, (0.5 * (right - left)).unsqueeze(-1)
