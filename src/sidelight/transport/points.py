"""Ground costs as the solver needs them: a given matrix, or ``scale |x - y|^2`` between clouds, which is never stored.

Both may carry a leading dimension: a batch of problems of one shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sidelight.transport.arrays import Array, copy_with, empty, full, row_blocks, tensor, to_double


class Products(Protocol):
    """The products with a transport plan ``P`` that its gradients need."""

    marginals: tuple[Array, Array]

    def matmul(self, z: Array) -> Array:
        """``P z``."""

    def matmul_transposed(self, z: Array) -> Array:
        """``P' z``."""


class MatrixCost:
    """A cost (..., n, m) given as a matrix."""

    def __init__(self, cost: Array) -> None:
        self.given = cost
        self.shape: tuple[int, ...] = tuple(cost.shape)

    def exponents(
        self, out: Array, epsilon: float, f: Array | None = None, g: Array | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows of ``(f_i + g_j - C_ij) / epsilon``; in torch, whose exp is faster.

        Args:
            out: (..., n, m) array that the exponents are written to.
            epsilon: regularisation strength in units of the cost.
            f: potentials of the rows (..., n); None for 0.
            g: potentials of the columns (..., m); None for 0.

        Yields:
            The slice of rows, and its exponents as a tensor.
        """
        for rows in row_blocks(out):
            part = torch.mul(tensor(self.given[rows]), -1.0 / epsilon, out=tensor(out[rows]))
            if g is not None:
                part += tensor(g * (1.0 / epsilon)).unsqueeze(-2)
            if f is not None:
                part += tensor(f[rows] * (1.0 / epsilon)).unsqueeze(-1)
            yield rows, part

    def transpose(self) -> MatrixCost:
        """The cost with the sides exchanged."""
        return MatrixCost(self.given.swapaxes(-1, -2))

    def select_problem(self, index: int) -> MatrixCost:
        """One problem of a batch."""
        return MatrixCost(self.given[index])

    def double(self) -> MatrixCost:
        """The same cost in float64."""
        return MatrixCost(to_double(self.given))

    def cost(self) -> Array:
        """The matrix (..., n, m)."""
        return self.given

    def upper_bound(self) -> float:
        """The largest cost, regardless of sign."""
        return max(abs(float(self.given.max())), abs(float(self.given.min())))


class PointCost:
    """Detached clouds ``x`` (..., n, d) and ``y`` (..., m, d), centred: float32 keeps small distances."""

    def __init__(self, x: Tensor, y: Tensor, scale: float, in_numpy: bool = False) -> None:
        self.scale, self.same = scale, False
        own: tuple[Array, Array] = (x.detach(), y.detach())
        if in_numpy:
            own = own[0].numpy(), own[1].numpy()
        m = own[1].shape[-2]
        centre = (full(m, 1.0 / m, own[1]) @ own[1])[..., None, :]
        self.x, self.y = own[0] - centre, own[1] - centre

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the cost, (..., n, m)."""
        return (*self.x.shape[:-1], self.y.shape[-2])

    @cached_property
    def xx(self) -> Array:
        """``scale |x_i|^2`` (..., n)."""
        return self._norms(self.x)

    @cached_property
    def yy(self) -> Array:
        """``scale |y_j|^2`` (..., m)."""
        return self._norms(self.y)

    @cached_property
    def left(self) -> Array:
        """``[2 scale x_i, -scale |x_i|^2, 1]``, (..., n, d + 2): its product with ``right`` is minus the cost."""
        d = self.x.shape[-1]
        left = empty((*self.x.shape[:-1], d + 2), self.x)
        left[..., :d] = self.x
        left[..., :d] *= 2.0 * self.scale
        left[..., d] = self.xx
        left[..., d] *= -1.0
        left[..., d + 1] = 1.0
        return left

    @cached_property
    def right(self) -> Array:
        """``[y_j, 1, -scale |y_j|^2]'``, (..., d + 2, m)."""
        m, d = self.y.shape[-2:]
        right = empty((*self.y.shape[:-2], d + 2, m), self.y)
        right[..., :d, :] = self.y.swapaxes(-1, -2)
        right[..., d, :] = 1.0
        right[..., d + 1, :] = self.yy
        right[..., d + 1, :] *= -1.0
        return right

    def _norms(self, z: Array) -> Array:
        """``scale |z_i|^2``."""
        return (z * z) @ full(z.shape[-1], self.scale, z)

    def select_points(self, rows: Tensor | None, columns: Tensor | None) -> PointCost:
        """Some of the points of either cloud, in the same coordinates."""
        x, y = self.x if rows is None else self.x[rows], self.y if columns is None else self.y[columns]
        return self.replace_points(x, y)

    def replace_points(self, x: Array, y: Array, **known: Array) -> PointCost:
        """The same cost between other points, in the same coordinates."""
        other: PointCost = copy_with(self, x=x, y=y)
        for name in ("xx", "yy", "left", "right"):  # what is cached is of the former clouds
            other.__dict__.pop(name, None)
        other.__dict__.update(known)
        return other

    def transpose(self) -> PointCost:
        """The same clouds with the sides exchanged."""
        return self.replace_points(self.y, self.x, xx=self.yy, yy=self.xx)

    def against_itself(self, side: int) -> PointCost:
        """One of the clouds against itself."""
        z, zz = (self.y, self.yy) if side else (self.x, self.xx)
        half = {"right": self.right} if side else {"left": self.left}
        return self.replace_points(z, z, xx=zz, yy=zz, same=True, **half)

    def select_problem(self, index: int) -> PointCost:
        """One problem of a batch."""
        return self.replace_points(self.x[index], self.y[index])

    def double(self) -> PointCost:
        """The same clouds in float64."""
        return self.replace_points(to_double(self.x), to_double(self.y))

    def mean(self) -> float:
        """Mean of the cost (one of the clouds has mean 0)."""
        return float(self.xx.mean() + self.yy.mean())

    def upper_bound(self) -> float:
        """An upper bound of the cost, at most twice the largest possible between points of these norms."""
        if self.xx is self.yy:
            return 4.0 * float(self.xx.max())
        return 2.0 * (float(self.xx.max()) + float(self.yy.max()))

    def exponents(
        self, out: Array, epsilon: float, f: Array | None = None, g: Array | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows of ``(f_i + g_j - C_ij) / epsilon``: one product of ``left`` and ``right``.

        Args:
            out: (..., n, m) array that the exponents are written to.
            epsilon: regularisation strength in units of the cost.
            f: potentials of the rows (..., n); None for 0.
            g: potentials of the columns (..., m); None for 0.

        Yields:
            The slice of rows, and its exponents as a tensor.
        """
        left, right = self.left, self.right
        if f is not None:
            left = left + 0.0
            left[..., -2] += f
        if g is not None:
            right = right + 0.0
            right[..., -1, :] += g
        rows, columns, whole = tensor(left), tensor(right), tensor(out)
        product, over = torch.addmm if out.ndim == 2 else torch.baddbmm, {"beta": 0, "alpha": 1.0 / epsilon}
        every = row_blocks(out)
        if len(every) == 1:
            yield every[0], product(whole, rows, columns, **over, out=whole)
            return
        for part in every:
            yield part, product(whole[part], rows[part], columns, **over, out=whole[part])

    def cost(self) -> Array:
        """(..., n, m) matrix; its diagonal is exactly zero for a cloud against itself."""
        matrix = empty(self.shape, self.x)
        for _, part in self.exponents(matrix, 1.0):
            part.neg_().clamp_min_(0.0)
        if self.same:
            tensor(matrix).diagonal(dim1=-2, dim2=-1).zero_()
        return matrix

    def gradient_x(self, plan: Products) -> Array:
        """``2 scale (diag(P 1) x - P y)``, twice that for a cloud against itself (both its roles)."""
        factor = 2.0 * self.scale * (2.0 if self.same else 1.0)
        return (plan.marginals[0][..., None] * self.x - plan.matmul(self.y)) * factor

    def gradient_y(self, plan: Products) -> Array:
        """``2 scale (diag(P' 1) y - P' x)``."""
        return (plan.marginals[1][..., None] * self.y - plan.matmul_transposed(self.x)) * (2.0 * self.scale)
