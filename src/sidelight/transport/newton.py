"""Damped Newton ascent on the semi-dual of entropic transport: for plans too sharp for plain sweeps.

The semi-dual ``h(s) = <a, s> - <b, log K' exp(s)>`` (``s = log u``, columns always exact) has gradient ``a - r`` and
Hessian ``-(diag(r) - P diag(1/b) P')`` with ``r = P 1``: a weighted graph Laplacian. Its Newton direction comes from a
few preconditioned conjugate-gradient steps or, when these crawl and the problem is small, from a Cholesky factor. A
Laplacian that defeats conjugate gradients has almost disconnected parts, whose offsets depend on masses below the
rounding of float32: from there on the problem is solved in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sidelight.transport.arrays import Array, is_double, tensor, to_double

if TYPE_CHECKING:
    from sidelight.transport.scaling import Scaling

DIRECT_LIMIT = 2048  # largest n for which a Cholesky factor is formed
STALL_STEPS = 12  # steps without convergence after which rounding is the likely cause
MAX_STEP = 40.0  # largest change of log u in one step


class Newton:
    """Newton steps on one :class:`~sidelight.transport.scaling.Scaling`."""

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling
        self.direct, self.steps = False, 0
        n = scaling.a.shape[0]
        self.patience = max(60, n // 8) if n <= DIRECT_LIMIT else 200

    def step(self, residual: Array, error: float, tolerance: float, limit: float) -> int:
        """Move uphill along the Newton direction.

        Args:
            residual: ``a - P 1`` (n,).
            error: its L1 norm.
            tolerance: the error to reach.
            limit: the most pairs of matrix-vector products, at least 2.

        Returns:
            The pairs of products used.
        """
        self.steps += 1
        if self.steps == STALL_STEPS:
            self.require_exact_steps()
            residual = self.scaling.fit_rows()  # in float64 too
        if self.direct:
            used, direction = 1, compute_cholesky_direction(self.scaling)
        else:
            used, direction = self.conjugate_gradients(error, tolerance, limit - 1)
            if self.direct:  # given up: the next step will be exact
                self.require_exact_steps()
                return used + 1
        used += self.line_search(direction, residual, limit - used)
        self.scaling.keep_in_range()
        return used

    def require_exact_steps(self) -> None:
        """From now on use float64 and, where the factor fits in memory, exact directions."""
        self.direct = self.scaling.a.shape[0] <= DIRECT_LIMIT
        if not is_double(self.scaling.kernel):
            self.scaling.continue_in_double()

    def conjugate_gradients(self, error: float, tolerance: float, limit: float) -> tuple[int, Array]:
        """Solve ``(diag(r) - P diag(1/b) P') d = a - r`` to the accuracy that the step can use.

        In the variables ``sqrt(r) d`` the diagonal is 1 and the 2-norm of the residual bounds the 1-norm of ``a - r``.

        Args:
            error: the L1 norm of ``a - r``.
            tolerance: the error that the solver is to reach.
            limit: the most pairs of matrix-vector products.

        Returns:
            The pairs of products used, and ``d`` (n,).
        """
        s = self.scaling
        target = max(min(0.3, 0.5 * math.sqrt(error)) * error, 0.2 * tolerance)
        root = s.xp.sqrt(s.u * s.rows)
        rho, gamma, kernel, transposed = s.u / root, s.v * (s.v / s.b), s.kernel, s.kernel.T
        residual = s.a / root - root
        residual = residual - root * (root @ residual)  # constants do not matter: keep rounding out of them
        p, squared = residual, float(residual @ residual)
        d = 0.0 * p
        used = 0
        while used < min(self.patience, limit):
            used += 1
            product = p - rho * (kernel @ (gamma * (transposed @ (rho * p))))
            curvature = float(p @ product)
            if not curvature > 0:  # rounding: no curvature left in this direction
                break
            length = squared / curvature
            d = d + length * p
            residual = residual - length * product
            squared, previous = float(residual @ residual), squared
            if math.sqrt(squared) < target:
                break
            p = residual + (squared / previous) * p
        else:
            self.direct = root.shape[0] <= DIRECT_LIMIT
        d = d if used > 1 or curvature > 0 else residual
        return used, (d - root * (root @ d)) / root

    def line_search(self, direction: Array, residual: Array, limit: float) -> int:
        """Backtrack from the full (or longest allowed) step until the semi-dual rises enough.

        Args:
            direction: change of ``log u`` (n,).
            residual: ``a - P 1`` (n,), the gradient of the semi-dual.
            limit: the most trials; where none of them succeeds, the iterate stays as it was.

        Returns:
            The number of trials.
        """
        s = self.scaling
        spread = float(direction.max()) - float(direction.min())
        if not math.isfinite(spread):
            return 0
        u, length, trials = s.u, min(1.0, MAX_STEP / max(spread, 1e-30)), 0
        slope, start = 0.0, 0.0
        if spread > 0.5:  # a shorter step cannot fail
            slope, start = float(residual @ direction), self.semi_dual()
        while True:
            s.u = u * s.xp.exp(direction * length)
            s.fit_columns()
            trials += 1
            if length * spread <= 0.5 or self.semi_dual() - start >= 0.1 * length * slope:
                return trials
            if trials >= limit:
                s.u = u
                s.fit_columns()
                return trials
            length *= 0.5

    def semi_dual(self) -> float:
        """``<a, log u> + <b, log v>`` at the current iterate."""
        s = self.scaling
        return float(s.a @ s.xp.log(s.u)) + float(s.b @ s.xp.log(s.v))


def compute_cholesky_direction(s: Scaling) -> Array:
    """The exact Newton direction (n,), computed in float64."""
    plan = tensor(to_double(s.plan()))
    alpha, _ = solve_laplacian(plan, tensor(to_double(s.a)) - plan.sum(1), torch.zeros_like(plan[0]))
    return alpha.to(s.a.dtype) if isinstance(s.a, Tensor) else alpha.numpy().astype(s.a.dtype)


def solve_laplacian(plan: Tensor, right: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Solve ``[diag(P 1), P; P', diag(P' 1)] (alpha, beta) = (right, below)``, orthogonal to its null space.

    The Schur complement in ``alpha`` is scaled to unit diagonal; its null vector is lifted by a rank-one term.

    Args:
        plan: ``P`` (n, m), positive.
        right: (n,).
        below: (m,).

    Returns:
        ``alpha`` (n,) and ``beta`` (m,).
    """
    rows, columns = plan.sum(1), plan.sum(0)
    scale = rows.rsqrt()
    scaled = (plan * scale.unsqueeze(-1)).mul_(columns.rsqrt())
    matrix = torch.eye(rows.shape[0], dtype=plan.dtype, device=plan.device).addmm_(scaled, scaled.T, alpha=-1)
    null = rows.sqrt()
    matrix.addr_(null, null).diagonal().add_(1e-14)
    factor, info = torch.linalg.cholesky_ex(matrix)
    reduced = scale * (right - torch.mv(plan, below / columns))
    if info.item():
        alpha = scale * reduced
    else:
        alpha = scale * torch.cholesky_solve(reduced.unsqueeze(-1), factor).squeeze(-1)
    return alpha, (below - torch.mv(plan.T, alpha)) / columns
