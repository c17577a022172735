"""The online path's passes as Triton kernels for CUDA: blocks of the kernel never leave the chip.

Tested in Triton's interpreter against the blocks of :mod:`sidelight.transport.online`; not yet measured on a GPU.
"""

# mypy: disable-error-code="import-untyped,import-not-found,untyped-decorator,no-redef,no-untyped-def,unused-ignore"
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sidelight.transport.online import Blocks
from sidelight.transport.points import PointCost

try:
    import triton
    import triton.language as tl
except ImportError:  # CPU builds of torch come without it
    triton = None

WIDEST = 128  # dimensions up to which a tile of points fits the registers


def usable(points: PointCost) -> bool:
    """Whether Triton is installed and the points have few enough dimensions for its tiles."""
    return triton is not None and points.x.shape[1] <= WIDEST


class FusedBlocks(Blocks):
    """The same passes as :class:`Blocks`: one kernel for soft minima, one for products with the plan."""

    def __init__(self, points: PointCost, a: Tensor, b: Tensor, epsilon: float) -> None:
        super().__init__(points, a, b, epsilon)
        self.x, self.y = points.x.contiguous(), points.y.contiguous()

    def sweep(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        f = self.soft_minimum(g)
        columns = self._product(self.y, self.x, *self._sides(g, f)[:2], self.a.unsqueeze(1))
        return f, columns.squeeze(1)

    def soft_minimum(self, g: Tensor) -> Tensor:
        side = (g - self.points.yy) / self.epsilon + self.b.log()
        out = torch.empty_like(self.a)
        n, m, d = len(self.x), len(self.y), self.x.shape[1]
        side_length = tile(_padded(d))
        _soft_maximum[(triton.cdiv(n, side_length),)](
            self.x, self.y, side, out, n, m, d, 2.0 * self.points.scale / self.epsilon,
            _padded(d), side_length, side_length,
        )  # fmt: skip
        result: Tensor = self.points.xx - self.epsilon * out
        return result

    def matmul(self, f: Tensor, g: Tensor, z: Tensor) -> Tensor:
        """``P z`` (n, d), in one kernel call.

        Args:
            f: potentials of the rows (n,).
            g: potentials of the columns (m,).
            z: (m, d).
        """
        left, right = self._sides(f, g, swapped=False)
        return self._product(self.x, self.y, left, right, self.b.unsqueeze(1) * z).mul_(self.a.unsqueeze(1))

    def matmul_transposed(self, f: Tensor, g: Tensor, z: Tensor) -> Tensor:
        """``P' z`` (m, d), in one kernel call.

        Args:
            f: potentials of the rows (n,).
            g: potentials of the columns (m,).
            z: (n, d).
        """
        left, right = self._sides(f, g, swapped=False)
        return self._product(self.y, self.x, right, left, self.a.unsqueeze(1) * z).mul_(self.b.unsqueeze(1))

    def _sides(self, one: Tensor, two: Tensor, swapped: bool = True) -> tuple[Tensor, Tensor]:
        """The terms of rows and of columns in the exponent."""
        first, second = (self.points.yy, self.points.xx) if swapped else (self.points.xx, self.points.yy)
        return (one - first) / self.epsilon, (two - second) / self.epsilon

    def _product(self, rows: Tensor, columns: Tensor, left: Tensor, right: Tensor, z: Tensor) -> Tensor:
        """``exp(left_i + right_j + factor <rows_i, columns_j>) @ z``."""
        n, m, d, width = len(rows), len(columns), rows.shape[1], z.shape[1]
        out = z.new_empty(n, width)
        factor = 2.0 * self.points.scale / self.epsilon
        side_length = tile(max(_padded(d), _padded(width)))
        _exponential_product[(triton.cdiv(n, side_length),)](
            rows, columns, left, right, z.contiguous(), out, n, m, d, width, factor,
            _padded(d), _padded(width), side_length, side_length,
        )  # fmt: skip
        return out


def tile(width: int) -> int:
    """Rows, and columns, of a block: as many as fit the shared memory of GPUs since Ampere, 99 KiB at least."""
    return 64 if width <= 64 else 32


def _padded(size: int) -> int:
    """A power of two that ``tl.dot`` accepts."""
    return max(16, 1 << (size - 1).bit_length())


if triton is not None:

    @triton.jit
    def _soft_maximum(x, y, side, out, n, m, d, factor, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
        """``out_i = log sum_j exp(side_j + factor <x_i, y_j>)`` with a running maximum."""
        i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        k = tl.arange(0, D)
        own = tl.load(x + i[:, None] * d + k[None, :], mask=(i[:, None] < n) & (k[None, :] < d), other=0.0)
        largest = tl.full((ROWS,), -float("inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for start in range(0, m, COLUMNS):
            j = start + tl.arange(0, COLUMNS)
            other = tl.load(y + j[:, None] * d + k[None, :], mask=(j[:, None] < m) & (k[None, :] < d), other=0.0)
            more = tl.load(side + j, mask=j < m, other=-float("inf"))
            value = factor * tl.dot(own, tl.trans(other), input_precision="ieee") + more[None, :]
            highest = tl.maximum(largest, tl.max(value, 1))
            total = total * tl.exp(largest - highest) + tl.sum(tl.exp(value - highest[:, None]), 1)
            largest = highest
        tl.store(out + i, largest + tl.log(total), mask=i < n)

    @triton.jit
    def _exponential_product(
        x, y, left, right, z, out, n, m, d, width, factor,
        D: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    ):  # fmt: skip
        """``out_i = sum_j exp(left_i + right_j + factor <x_i, y_j>) z_j``."""
        i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        k = tl.arange(0, D)
        w = tl.arange(0, W)
        own = tl.load(x + i[:, None] * d + k[None, :], mask=(i[:, None] < n) & (k[None, :] < d), other=0.0)
        mine = tl.load(left + i, mask=i < n, other=0.0)
        total = tl.zeros((ROWS, W), tl.float32)
        for start in range(0, m, COLUMNS):
            j = start + tl.arange(0, COLUMNS)
            other = tl.load(y + j[:, None] * d + k[None, :], mask=(j[:, None] < m) & (k[None, :] < d), other=0.0)
            more = tl.load(right + j, mask=j < m, other=-float("inf"))
            value = factor * tl.dot(own, tl.trans(other), input_precision="ieee") + more[None, :] + mine[:, None]
            vectors = tl.load(
                z + j[:, None] * width + w[None, :], mask=(j[:, None] < m) & (w[None, :] < width), other=0.0
            )
            total += tl.dot(tl.exp(tl.minimum(value, 60.0)), vectors, input_precision="ieee")
        place = out + i[:, None] * width + w[None, :]
        tl.store(place, total, mask=(i[:, None] < n) & (w[None, :] < width))

else:
    _soft_maximum: Any = None
    _exponential_product: Any = None
