"""The solver for a cost matrix that fits in memory: annealed Sinkhorn sweeps, then Newton steps on the semi-dual.

With potentials ``f, g`` absorbed into ``K = exp((f + g' - C) / epsilon)``, the plan is ``P = diag(u) K diag(v)``.
A Sinkhorn sweep ``u = a / K v``, ``v = b / K' u`` costs two matrix-vector products and no ``exp``. Sweeps converge
linearly at the square of the second singular value of the normalised plan: fast for smooth plans, hopeless for sharp
ones. There the (truncated) Newton direction of the concave semi-dual ``<a, log u> - <b, log K' u>`` takes over.
docs/transport.md explains the choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sidelight.transport.newton import Newton

# Exponents are clamped before exp: results below the normal range would make later products several times slower.
LOWEST, HIGHEST = -80.0, 60.0
ANNEALING = 4.0  # ratio of consecutive epsilons on the way down
SWEEPS_PER_STAGE = 2  # at each epsilon above the target
PATIENCE = 6  # remaining sweeps above which a Newton step is worth its price
ABSORB = 15.0  # log range of u, v above which they move into f, g


@dataclass
class Solution:
    """Potentials, plan and the state of convergence of one solve."""

    f: Tensor
    g: Tensor
    plan: Tensor
    error: float
    iterations: int
    converged: bool


class Scaling:
    """The iterate ``P = diag(u) K diag(v)`` with absorbed potentials ``f, g`` at some ``epsilon``."""

    def __init__(self, cost: Tensor, a: Tensor, b: Tensor, f: Tensor, g: Tensor, epsilon: float) -> None:
        self.cost, self.a, self.b = cost, a, b
        self.f, self.g = f, g
        self.u, self.v = a, b
        self.kernel = torch.empty_like(cost)
        self.exponentiate(epsilon)

    def exponentiate(self, epsilon: float) -> None:
        """Form ``K`` from the absorbed potentials."""
        self.epsilon = epsilon
        kernel = torch.sub(self.g, self.cost, out=self.kernel).add_(self.f.unsqueeze(-1))
        kernel.mul_(1.0 / epsilon).clamp_(LOWEST, HIGHEST).exp_()

    def absorb(self) -> None:
        """Move ``u, v`` into the potentials (the kernel is stale until the next ``exponentiate``)."""
        self.f, self.g = self.potentials()
        self.u, self.v = self.a, self.b

    def potentials(self) -> tuple[Tensor, Tensor]:
        f = torch.log(self.u / self.a).mul_(self.epsilon).add_(self.f)
        g = torch.log(self.v / self.b).mul_(self.epsilon).add_(self.g)
        return f, g

    def rows(self) -> Tensor:
        """``K v``."""
        return torch.mv(self.kernel, self.v)

    def fit_columns(self) -> None:
        """``v`` such that the columns of the plan have their masses."""
        self.v = torch.div(self.b, torch.mv(self.kernel.T, self.u))

    def out_of_range(self) -> bool:
        low, high = torch.aminmax(torch.cat([self.u / self.a, self.v / self.b]))
        return not (low.item() > math.exp(-ABSORB) and high.item() < math.exp(ABSORB))

    def plan(self) -> Tensor:
        """The plan, written over the kernel."""
        return self.kernel.mul_(self.u.unsqueeze(-1)).mul_(self.v)


def l1(residual: Tensor) -> float:
    return float(torch.linalg.vector_norm(residual, 1).item())


def solve(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    potentials: tuple[Tensor, Tensor] | None = None,
) -> Solution:
    """Transport between positive ``a`` (n,) and ``b`` (m,) of mass 1 at cost (n, m). No autograd inside."""
    if potentials is None:
        start = max(epsilon, 0.5 * cost.mean().item(), cost.max().item() / 60)
        scaling = Scaling(cost, a, b, torch.zeros_like(a), torch.zeros_like(b), start)
    else:
        scaling = Scaling(cost, a, b, *refit(cost, a, b, potentials, epsilon), epsilon)
    used = 0
    while scaling.epsilon > epsilon:
        _, _, sweeps = sweep(scaling, 0.05, SWEEPS_PER_STAGE, patient=True)
        used += sweeps
        scaling.absorb()
        scaling.exponentiate(max(epsilon, scaling.epsilon / ANNEALING))
    rows, error, sweeps = sweep(scaling, tolerance, max_iterations - used, patient=False)
    used += sweeps
    if error > tolerance and used < max_iterations:
        newton = Newton(scaling, tolerance, max_iterations - used)
        rows, error = newton.run(rows, error)
        used += newton.used
    f, g = scaling.potentials()
    return Solution(f, g, scaling.plan(), error, used, error <= tolerance)


def sweep(scaling: Scaling, tolerance: float, limit: int, *, patient: bool) -> tuple[Tensor, float, int]:
    """Sinkhorn sweeps until the row error is met, the limit is reached or (impatient) they converge too slowly."""
    before, error, done = math.inf, math.inf, 0
    while True:
        rows = scaling.rows()
        if done:
            before, error = error, l1(torch.addcmul(scaling.a, scaling.u, rows, value=-1))
        if error <= tolerance or done >= limit or math.isnan(error):
            break
        if not patient and done >= 4 and remaining(before, error, tolerance) > PATIENCE:
            break
        scaling.u = torch.div(scaling.a, rows)
        scaling.fit_columns()
        done += 1
    return rows, error, done


def remaining(before: float, error: float, tolerance: float) -> float:
    """Sweeps left at the present rate."""
    rate = error / before if before > 0 else 0.0
    return math.inf if rate >= 0.999 else math.log(tolerance / error) / math.log(max(rate, 1e-12))


def refit(
    cost: Tensor, a: Tensor, b: Tensor, potentials: tuple[Tensor, Tensor], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Potentials from elsewhere, moved by one exact update each so that no exponent can overflow."""
    g = potentials[1].detach().to(cost)
    f = torch.logsumexp(torch.sub(g, cost).div_(epsilon).add_(b.log()), -1).mul_(-epsilon)
    return f, g


def solve_symmetric(cost: Tensor, a: Tensor, epsilon: float, tolerance: float, max_iterations: int) -> Solution:
    """Transport of a cloud onto itself: one potential, averaged updates that at least halve the error each time."""
    start = max(epsilon, 0.5 * cost.mean().item(), cost.max().item() / 60)
    scaling = Scaling(cost, a, a, torch.zeros_like(a), torch.zeros_like(a), start)
    used, error = 0, math.inf
    while True:
        last = scaling.epsilon <= epsilon
        limit = used + (60 if last else SWEEPS_PER_STAGE)
        while True:
            rows = scaling.rows()
            error = l1(torch.addcmul(a, scaling.u, rows, value=-1))
            if error <= (tolerance if last else 0.05) or used >= min(limit, max_iterations):
                break
            scaling.u = scaling.v = (scaling.u * a / rows).sqrt_()
            used += 1
        if last:
            break
        scaling.absorb()
        scaling.exponentiate(max(epsilon, scaling.epsilon / ANNEALING))
    f, g = scaling.potentials()
    if not error <= tolerance and used < max_iterations:  # a cost whose kernel is not positive definite
        return solve(cost, a, a, epsilon, tolerance, max_iterations - used)
    return Solution(f, g, scaling.plan(), error, used, error <= tolerance)
