"""Damped Newton ascent on the semi-dual of entropic transport: for plans too sharp for plain sweeps.

The semi-dual ``h(s) = <a, s> - <b, log K' exp(s)>`` (``s = log u``, columns always exact) has gradient ``a - r`` and
Hessian ``-(diag(r) - P diag(1/b) P')`` with ``r = P 1``: a weighted graph Laplacian. Its Newton direction comes from a
few preconditioned conjugate-gradient steps or, when these crawl and the problem is small, from a Cholesky factor. A
Laplacian that defeats conjugate gradients has almost disconnected parts, whose offsets are told by masses below the
rounding of float32: from there on the problem is solved in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sidelight.transport.dense import Scaling

DIRECT_LIMIT = 2048  # largest n for which a Cholesky factor is formed
LONGEST = 40.0  # largest change of log u in one step


class Newton:
    """Newton steps on one :class:`~sidelight.transport.dense.Scaling`."""

    def __init__(self, scaling: Scaling) -> None:
        self.scaling = scaling
        self.direct = False
        n = scaling.a.shape[0]
        self.patience = max(12, n // 8) if n <= DIRECT_LIMIT else 200

    def step(self, residual: Tensor, error: float, tolerance: float) -> int:
        """Move the scaling uphill along the Newton direction; return the pairs of products used."""
        s = self.scaling
        if self.direct:
            used, direction = 1, cholesky_direction(s)
        else:
            used, direction = self.conjugate_gradients(residual, error, tolerance)
            if self.direct:  # given up: the next step will be exact
                s.promote()
                s.fit_columns()
                s.rows = torch.mv(s.kernel, s.v)
                return used + 1
        used += self.climb(direction, residual)
        s.keep_in_range()
        s.rows = torch.mv(s.kernel, s.v)
        return used

    def conjugate_gradients(self, residual: Tensor, error: float, tolerance: float) -> tuple[int, Tensor]:
        """Solve ``(diag(r) - P diag(1/b) P') d = residual`` to the accuracy that the step can use."""
        s = self.scaling
        target = max(min(0.3, 0.5 * math.sqrt(error)) * error, 0.1 * tolerance)
        r, weight, transposed = s.u * s.rows, s.v * (s.v / s.b), s.kernel.T
        d = torch.zeros_like(residual)
        z = residual / r
        p, rz = z, torch.dot(residual, z)
        for used in range(1, self.patience + 1):
            product = torch.mv(transposed, s.u * p).mul_(weight)
            product = torch.addcmul(r * p, s.u, torch.mv(s.kernel, product), value=-1)
            alpha = rz / torch.dot(p, product)
            if not alpha.item() > 0:  # rounding: no curvature left in this direction
                return used, d if used > 1 else z
            d = torch.addcmul(d, alpha, p)
            residual = torch.addcmul(residual, alpha, product, value=-1)
            if torch.linalg.vector_norm(residual, 1).item() < target:
                return used, d
            z = residual / r
            rz, previous = torch.dot(residual, z), rz
            p = torch.addcmul(z, rz / previous, p)
        self.direct = r.shape[0] <= DIRECT_LIMIT
        return self.patience, d

    def climb(self, direction: Tensor, residual: Tensor) -> int:
        """Backtrack from the full (or longest allowed) step until the semi-dual rises enough; return the trials."""
        s = self.scaling
        low, high = torch.aminmax(direction)
        spread = (high - low).item()
        if not math.isfinite(spread):
            return 0
        u, length, trials = s.u, min(1.0, LONGEST / max(spread, 1e-30)), 0
        slope, start = 0.0, 0.0
        if spread > 0.5:  # a shorter step cannot fail
            slope, start = torch.dot(residual, direction.to(residual)).item(), self.semi_dual()
        while True:
            s.u = u * torch.exp(direction * length)
            s.fit_columns()
            trials += 1
            if length * spread <= 0.5 or self.semi_dual() - start >= 0.1 * length * slope:
                return trials
            length *= 0.5

    def semi_dual(self) -> float:
        s = self.scaling
        return float((torch.dot(s.a, s.u.log()) + torch.dot(s.b, s.v.log())).item())


def cholesky_direction(s: Scaling) -> Tensor:
    """The exact direction, in float64."""
    plan = s.plan().double()
    alpha, _ = solve_laplacian(plan, s.a.double() - plan.sum(1), torch.zeros_like(plan[0]))
    return alpha.to(s.a.dtype)


def solve_laplacian(plan: Tensor, right: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Solve ``[diag(P 1), P; P', diag(P' 1)] (alpha, beta) = (right, below)``, orthogonal to its null space.

    The Schur complement in ``alpha`` is scaled to unit diagonal; its null vector is lifted by a rank-one term.
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
