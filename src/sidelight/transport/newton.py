"""Damped Newton ascent on the semi-dual of entropic transport: for plans too sharp for plain sweeps.

The semi-dual ``h(s) = <a, s> - <b, log K' exp(s)>`` (``s = log u``, columns always exact) has gradient ``a - r`` and
Hessian ``-(diag(r) - P diag(1/b) P')`` with ``r = P 1``: a weighted graph Laplacian. Its Newton direction comes from a
few preconditioned conjugate-gradient steps, or, when these crawl and the problem is small, from a Cholesky factor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sidelight.transport.dense import Scaling

DIRECT_LIMIT = 2048  # largest n for which a Cholesky factor is formed


class Newton:
    """Newton steps on a :class:`~sidelight.transport.dense.Scaling`, each followed by one Sinkhorn sweep."""

    def __init__(self, scaling: Scaling, tolerance: float, limit: int) -> None:
        self.scaling, self.tolerance, self.limit = scaling, tolerance, limit
        self.used = 0
        self.direct = False
        n = scaling.a.shape[0]
        self.patience = 12 if n <= 256 else 60

    def run(self, rows: Tensor, error: float) -> tuple[Tensor, float]:
        """Iterate from ``rows = K v`` with exact columns until the tolerance or the limit; return the last of both."""
        s = self.scaling
        while error > self.tolerance and self.used < self.limit:
            residual = torch.addcmul(s.a, s.u, rows, value=-1)
            if self.direct:
                direction = self.cholesky()
            else:
                direction = self.conjugate_gradients(s.u * rows, residual, error)
            self.step(direction, residual)
            s.u = s.a / s.rows()
            s.fit_columns()
            self.used += 1
            if s.out_of_range():
                s.absorb()
                s.exponentiate(s.epsilon)
                s.fit_columns()
            rows = s.rows()
            error = torch.linalg.vector_norm(torch.addcmul(s.a, s.u, rows, value=-1), 1).item()
        return rows, error

    def conjugate_gradients(self, r: Tensor, residual: Tensor, error: float) -> Tensor:
        """Solve ``(diag(r) - P diag(1/b) P') d = residual`` to the accuracy that the outer step can use."""
        s = self.scaling
        target = max(min(0.3, 0.5 * math.sqrt(error)) * error, 0.3 * self.tolerance)
        weight = s.v * s.v / s.b
        d = torch.zeros_like(residual)
        z = residual / r
        p, rz = z, torch.dot(residual, z)
        for _ in range(self.patience):
            product = torch.mv(s.kernel.T, s.u * p).mul_(weight)
            product = torch.addcmul(r * p, s.u, torch.mv(s.kernel, product), value=-1)
            self.used += 1
            curvature = torch.dot(p, product)
            if not curvature.item() > 0:
                return d if d.any() else z
            alpha = rz / curvature
            d = torch.addcmul(d, alpha, p)
            residual = torch.addcmul(residual, alpha, product, value=-1)
            if torch.linalg.vector_norm(residual, 1).item() < target:
                return d
            z = residual / r
            rz, previous = torch.dot(residual, z), rz
            p = torch.addcmul(z, rz / previous, p)
        self.direct = r.shape[0] <= DIRECT_LIMIT
        return d

    def cholesky(self) -> Tensor:
        """The exact direction in float64 (the Laplacian of a sharp plan is too close to singular for float32)."""
        s = self.scaling
        plan = (s.u.unsqueeze(-1) * s.kernel * s.v).double()
        rows, columns = plan.sum(1), plan.sum(0)
        scale = rows.rsqrt()
        plan.mul_(scale.unsqueeze(-1)).mul_(columns.rsqrt())
        matrix = torch.eye(rows.shape[0], dtype=plan.dtype, device=plan.device).sub_(plan @ plan.T)
        null = rows.sqrt()
        matrix.addr_(null, null).diagonal().add_(1e-14)
        factor, info = torch.linalg.cholesky_ex(matrix)
        right = scale * (s.a.double() - rows)
        self.used += 1
        if info.item():
            return (right * scale).to(s.a.dtype)
        return (scale * torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)).to(s.a.dtype)

    def step(self, direction: Tensor, residual: Tensor) -> None:
        """Move along the direction by a length at which the semi-dual surely rises."""
        s = self.scaling
        low, high = torch.aminmax(direction)
        spread = (high - low).item()
        if not math.isfinite(spread):
            return
        slope = torch.dot(residual, direction).item()
        start = self.semi_dual()
        u, length = s.u, min(1.0, 4.0 / max(spread, 1e-30))
        while True:
            s.u = u * torch.exp(direction * length)
            s.fit_columns()
            self.used += 1
            if length * spread < 0.5 or self.semi_dual() - start >= 0.1 * length * slope:
                return
            length *= 0.4

    def semi_dual(self) -> float:
        s = self.scaling
        return (torch.dot(s.a, s.u.log()) + torch.dot(s.b, s.v.log())).item()
