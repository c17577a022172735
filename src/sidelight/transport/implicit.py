"""Derivatives of the plan itself, by implicit differentiation of the marginal conditions: ``second_order=True``.

The plan ``P = exp(phi + psi' - C / epsilon)``, with ``phi = f / epsilon + log a`` and ``psi`` likewise, satisfies
``P 1 = a``, ``P' 1 = b``. Differentiating both gives a linear system with the symmetric matrix
``H = [diag(a), P; P', diag(b)]``; one solve with ``H`` answers every backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from sidelight.transport.double_backward import refuse_double_backward
from sidelight.transport.newton import solve_laplacian


class _Implicit(Function):
    """(cost, a, b) -> (plan, f, g), all already solved for; backward solves with ``H``."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, cost: Tensor, a: Tensor, b: Tensor, plan: Tensor, f: Tensor, g: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(plan, a, b, cost)
        ctx.set_materialize_grads(False)
        ctx.epsilon = epsilon
        return plan.clone(), f.clone(), g.clone()

    @staticmethod
    @refuse_double_backward(
        "the objective of a transport is differentiable twice; its plan, cost and potentials are differentiable once"
    )
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(z is None for z in grads):  # of the objective's gradient
            return (None,) * 7
        plan, a, b = (t.double() for t in ctx.saved_tensors[:3])
        epsilon, dtype = ctx.epsilon, ctx.saved_tensors[0].dtype
        grad_plan, grad_f, grad_g = (torch.zeros_like(z) if d is None else d for d, z in zip(grads, (plan, a, b)))
        weighted = plan * grad_plan
        right = weighted.sum(1) + epsilon * grad_f
        below = weighted.sum(0) + epsilon * grad_g
        gap = right.sum() - below.sum()  # potentials are known up to a constant: drop what depends on it
        right, below = right - gap / 2 * a / a.sum(), below + gap / 2 * b / b.sum()
        alpha, beta = solve_laplacian(plan, right, below)
        grad_cost = (plan * (alpha.unsqueeze(-1) + beta) - weighted) / epsilon
        grad_a, grad_b = alpha - epsilon * grad_f / a, beta - epsilon * grad_g / b
        return grad_cost.to(dtype), grad_a.to(dtype), grad_b.to(dtype), None, None, None, None


class _Objective(Function):
    """The objective, whose gradient is (plan, f, g), themselves differentiable."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, value: Tensor, cost: Tensor, a: Tensor, b: Tensor, plan: Tensor, f: Tensor, g: Tensor
    ) -> Tensor:
        ctx.save_for_backward(plan, f, g)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan, f, g = ctx.saved_tensors
        return None, grad * plan, grad * f, grad * g, None, None, None


def attach(
    value: Tensor, cost: Tensor, a: Tensor, b: Tensor, plan: Tensor, f: Tensor, g: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Connect a solution to its inputs: a twice differentiable objective, once differentiable plan and potentials.

    Args:
        value: the objective, a scalar.
        cost: costs (n, m).
        a: masses (n,) of sum 1.
        b: masses (m,) of sum 1.
        plan: the transport plan (n, m).
        f: potentials of the rows (n,).
        g: potentials of the columns (m,).
        epsilon: regularisation strength in units of the cost.

    Returns:
        The objective, plan, ``f`` and ``g`` with the same values and a backward pass.
    """
    plan, f, g = _Implicit.apply(cost, a, b, plan, f, g, epsilon)  # type: ignore[no-untyped-call]
    objective: Tensor = _Objective.apply(value, cost, a, b, plan, f, g)  # type: ignore[no-untyped-call]
    return objective, plan, f, g
