"""Two clouds under the cost ``scale |x - y|^2``: the cost, its scale, and the gradient of the objective."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor


class Products(Protocol):
    """What the gradient needs of a transport plan ``P``."""

    marginals: tuple[Tensor, Tensor]

    def right(self, z: Tensor) -> Tensor:
        """``P z``."""

    def left(self, z: Tensor) -> Tensor:
        """``P' z``."""


class Points:
    """Detached clouds ``x`` (n, d) and ``y`` (m, d), centred so that float32 keeps the digits of small distances."""

    def __init__(self, x: Tensor, y: Tensor, scale: float, same: bool) -> None:
        self.scale, self.same = scale, same
        y = y.detach()
        centre = y.mean(0)
        self.y = y - centre
        self.x = self.y if same else x.detach() - centre

    @cached_property
    def xx(self) -> Tensor:
        return self.x.square().sum(1).mul_(self.scale)

    @cached_property
    def yy(self) -> Tensor:
        return self.xx if self.same else self.y.square().sum(1).mul_(self.scale)

    def between(self, rows: Tensor | None, columns: Tensor | None) -> Points:
        """Some of the points of either cloud, in the same coordinates."""
        other = copy(self)
        other.__dict__.pop("xx", None)
        other.__dict__.pop("yy", None)
        other.x = self.x if rows is None else self.x[rows]
        other.y = self.y if columns is None else self.y[columns]
        other.same = False
        return other

    def transpose(self) -> Points:
        other = self.between(None, None)
        other.x, other.y = self.y, self.x
        return other

    def mean_and_bound(self) -> Tensor:
        """Mean of the cost (``y`` has mean 0) and an upper bound of it, in O(n d)."""
        return torch.stack([self.xx.mean() + self.yy.mean(), 2.0 * (self.xx.max() + self.yy.max())])

    def cost(self) -> Tensor:
        """(n, m) matrix; its diagonal is exactly zero for a cloud against itself."""
        matrix = torch.addmm(self.yy, self.x, self.y.T, alpha=-2.0 * self.scale)
        matrix.add_(self.xx.unsqueeze(1)).clamp_min_(0.0)
        return matrix.fill_diagonal_(0.0) if self.same else matrix

    def gradient_x(self, plan: Products, factor: float) -> Tensor:
        """``2 scale (diag(P 1) x - P y)``, twice that for a cloud against itself (both its roles), times ``factor``."""
        factor *= 2.0 * self.scale * (2.0 if self.same else 1.0)
        return (plan.marginals[0].unsqueeze(1) * self.x).sub_(plan.right(self.y)).mul_(factor)

    def gradient_y(self, plan: Products, factor: float) -> Tensor:
        factor *= 2.0 * self.scale
        return (plan.marginals[1].unsqueeze(1) * self.y).sub_(plan.left(self.x)).mul_(factor)
