"""Ground costs as the solver needs them: a given matrix, or ``scale |x - y|^2`` between clouds, which is not kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sidelight.transport.arrays import Array, blocks, double, empty, tensor, variant


class Products(Protocol):
    """What the gradient needs of a transport plan ``P``."""

    marginals: tuple[Array, Array]

    def right(self, z: Array) -> Array:
        """``P z``."""

    def left(self, z: Array) -> Array:
        """``P' z``."""


class Matrix:
    """A cost (n, m) given as a matrix."""

    def __init__(self, cost: Array) -> None:
        self.given = cost
        self.shape: tuple[int, int] = (cost.shape[0], cost.shape[1])

    def exponents(
        self, out: Array, epsilon: float, f: Array | None = None, g: Array | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows of ``(f_i + g_j - C_ij) / epsilon``, written to ``out``; in torch, whose exp is faster."""
        for rows in blocks(out):
            part = torch.mul(tensor(self.given[rows]), -1.0 / epsilon, out=tensor(out[rows]))
            if g is not None:
                part += tensor(g * (1.0 / epsilon))
            if f is not None:
                part += tensor(f[rows] * (1.0 / epsilon)).unsqueeze(1)
            yield rows, part

    def transpose(self) -> Matrix:
        return Matrix(self.given.T)

    def double(self) -> Matrix:
        return Matrix(double(self.given))

    def cost(self) -> Array:
        return self.given

    def bound(self) -> float:
        """The largest cost, regardless of sign."""
        return max(abs(float(self.given.max())), abs(float(self.given.min())))


class Points:
    """Detached clouds ``x`` (n, d) and ``y`` (m, d), centred so that float32 keeps the digits of small distances."""

    def __init__(self, x: Tensor, y: Tensor, scale: float, in_numpy: bool = False) -> None:
        self.scale, self.same = scale, False
        own: tuple[Array, Array] = (x.detach(), y.detach())
        if in_numpy:
            own = own[0].numpy(), own[1].numpy()
        centre = own[1].sum(0) * (1.0 / own[1].shape[0])
        self.x, self.y = own[0] - centre, own[1] - centre
        self.shape: tuple[int, int] = (self.x.shape[0], self.y.shape[0])

    @cached_property
    def xx(self) -> Array:
        return (self.x * self.x).sum(1) * self.scale

    @cached_property
    def yy(self) -> Array:
        return (self.y * self.y).sum(1) * self.scale

    def between(self, rows: Tensor | None, columns: Tensor | None) -> Points:
        """Some of the points of either cloud, in the same coordinates."""
        x, y = self.x if rows is None else self.x[rows], self.y if columns is None else self.y[columns]
        part: Points = variant(self, x=x, y=y, shape=(x.shape[0], y.shape[0]))
        part.__dict__.pop("xx", None)
        part.__dict__.pop("yy", None)
        return part

    def transpose(self) -> Points:
        """The same clouds with the sides exchanged."""
        other: Points = variant(self, x=self.y, y=self.x, xx=self.yy, yy=self.xx, shape=self.shape[::-1])
        return other

    def alone(self, side: int) -> Points:
        """One of the clouds against itself."""
        z, zz = (self.y, self.yy) if side else (self.x, self.xx)
        other: Points = variant(self, x=z, y=z, xx=zz, yy=zz, shape=(len(z), len(z)), same=True)
        return other

    def double(self) -> Points:
        other: Points = variant(self, x=double(self.x), y=double(self.y))
        other.__dict__.pop("xx", None)
        other.__dict__.pop("yy", None)
        return other

    def mean(self) -> float:
        """Mean of the cost (one of the clouds has mean 0)."""
        return float(self.xx.mean() + self.yy.mean())

    def bound(self) -> float:
        """An upper bound of the cost, at most twice the largest possible between points of these norms."""
        return 2.0 * (float(self.xx.max()) + float(self.yy.max()))

    def exponents(
        self, out: Array, epsilon: float, f: Array | None = None, g: Array | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows of ``(f_i + g_j - C_ij) / epsilon``, written to ``out``; in torch, whose BLAS is faster."""
        one = 1.0 / epsilon
        left = tensor((self.xx if f is None else self.xx - f) * -one).unsqueeze(1)
        right = tensor((self.yy if g is None else self.yy - g) * -one)
        x, columns, whole, factor = tensor(self.x), tensor(self.y).T, tensor(out), 2.0 * self.scale * one
        every = blocks(out)
        if len(every) == 1:
            yield every[0], torch.addmm(right, x, columns, alpha=factor, out=whole).add_(left)
            return
        for rows in every:
            yield rows, torch.addmm(right, x[rows], columns, alpha=factor, out=whole[rows]).add_(left[rows])

    def cost(self) -> Array:
        """(n, m) matrix; its diagonal is exactly zero for a cloud against itself."""
        matrix = empty(self.shape, self.x)
        for _, part in self.exponents(matrix, 1.0):
            part.neg_().clamp_min_(0.0)
        if self.same:
            tensor(matrix).fill_diagonal_(0.0)
        return matrix

    def gradient_x(self, plan: Products, factor: float) -> Array:
        """``2 scale (diag(P 1) x - P y)``, twice that for a cloud against itself (both its roles), times ``factor``."""
        factor *= 2.0 * self.scale * (2.0 if self.same else 1.0)
        return (plan.marginals[0][:, None] * self.x - plan.right(self.y)) * factor

    def gradient_y(self, plan: Products, factor: float) -> Array:
        factor *= 2.0 * self.scale
        return (plan.marginals[1][:, None] * self.y - plan.left(self.x)) * factor
