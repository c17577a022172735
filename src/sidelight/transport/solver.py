"""Read the arguments of a solve, split a batch into problems and solve them with common settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sidelight.transport import checks
from sidelight.transport.batched import LARGEST
from sidelight.transport.costs import Cost, resolve_epsilon
from sidelight.transport.problem import Path, Problem
from sidelight.transport.result import Transport

Potentials = tuple[Tensor, Tensor]


class Solver:
    """The settings of a solve, applied to every problem of a batch."""

    def __init__(
        self, epsilon: float | str, tolerance: float, limit: int, second_order: bool, path: Path, attach: bool = True
    ) -> None:
        self.epsilon, self.tolerance, self.limit = epsilon, tolerance, limit
        self.second_order, self.path, self.attach = second_order, path, attach

    def build_problems(
        self,
        x: Tensor | None,
        y: Tensor | None,
        cost: Cost,
        a: Tensor | None,
        b: Tensor | None,
        offset: Tensor | None,
    ) -> tuple[list[Problem], torch.Size]:
        """The problems of a batch, small ones as one batched problem.

        Args:
            x: points (..., n, d), or None beside a matrix.
            y: points (..., m, d), or None.
            cost: a name, a function or a matrix (..., n, m).
            a: masses that can be expanded to (..., n), or None.
            b: masses that can be expanded to (..., m), or None.
            offset: can be expanded to (..., n, m), or None.

        Returns:
            The problems, and their leading shape.

        Raises:
            ValueError: A shape does not fit, or masses are negative, infinite or sum to 0.
        """
        if isinstance(cost, Tensor):
            like, shape, n, m = cost, cost.shape[:-2], cost.shape[-2], cost.shape[-1]
        else:
            assert x is not None
            assert y is not None
            like, shape, n, m = x, x.shape[:-2], x.shape[-2], y.shape[-2]
        if not shape.numel():
            raise ValueError(f"a batch without problems: the leading shape is {tuple(shape)}")
        self.shapes = (*shape, n), (*shape, m)
        small = 0 < n * m <= LARGEST and self.path != "online" and not self.second_order
        self.whole = small and shape.numel() > 1 and isinstance(cost, Tensor | str)
        a, b = _prepare_masses("a", a, like, self.shapes[0]), _prepare_masses("b", b, like, self.shapes[1])
        if (a is None) != (b is None):
            a, b = _fill_uniform(a, b, n), _fill_uniform(b, a, m)
        self.masses = a, b
        if offset is not None:
            offset = checks.require_shape("offset", offset, (*shape, n, m)).expand(*shape, n, m)
        how = self.path, self.second_order
        batch = zip(*self.split_arguments(shape, x, y, cost, a, b, offset))
        return [Problem(xi, yi, ci, ai, bi, oi, *how) for xi, yi, ci, ai, bi, oi in batch], shape

    def split_arguments(self, shape: torch.Size, *given: Any) -> list[Sequence[Any]]:
        """Each argument as a list with one entry for each problem."""
        count = 1 if self.whole else shape.numel()
        return [self._split_batch(z, shape) if isinstance(z, Tensor) else [z] * count for z in given]

    def _split_batch(self, tensor: Tensor, shape: torch.Size) -> Sequence[Tensor]:
        """The entries of a tensor that has all leading dimensions, one for each problem."""
        if not shape:
            return [tensor]
        flat = tensor.reshape(shape.numel(), *tensor.shape[len(shape) :])
        return [flat] if self.whole else flat.unbind(0)

    def __call__(self, problems: list[Problem], potentials: Potentials | None = None) -> list[Transport]:
        count = len(problems)
        kind = problems[0].like.dtype
        epsilon = resolve_epsilon(self.epsilon, lambda: sum(p.mean_cost() for p in problems) / count, kind)
        starts: Sequence[Potentials | None] = [None] * count
        if potentials is not None:
            potentials = checks.require_potentials(potentials, self.shapes)
        if potentials is not None and self.whole:
            starts = [tuple(z.detach().flatten(0, -2) for z in potentials)]  # type: ignore[list-item]
        elif potentials is not None:
            starts = list(zip(*[z.detach().reshape(count, z.shape[-1]) for z in potentials]))
        return [p.solve(epsilon, self.tolerance, self.limit, start, self.attach) for p, start in zip(problems, starts)]


def _prepare_masses(name: str, weight: Tensor | None, like: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Masses in the dtype and shape of the problem, still differentiable."""
    if weight is None:
        return None
    if checks.require_tensor(name, weight).ndim and weight.shape[-1] != shape[-1]:
        raise ValueError(f"{name} has {weight.shape[-1]} masses for {shape[-1]} points")
    checks.require_shape(name, weight, shape, last=1)
    checks.require_masses(name, weight)
    return weight.to(like).expand(shape)


def _fill_uniform(weight: Tensor | None, other: Tensor | None, size: int) -> Tensor | None:
    """``weight``, or uniform masses with the sum of ``other``, through which gradients flow."""
    if weight is not None or other is None:
        return weight
    return (other.sum(-1, keepdim=True) / size).expand(*other.shape[:-1], size)


def read_clouds(x: Tensor | None, y: Tensor | None, cost: Cost) -> tuple[Tensor | None, Tensor | None]:
    """Both clouds in one floating-point type, or None for both beside a cost matrix."""
    if isinstance(cost, Tensor):
        if x is not None or y is not None:
            raise ValueError("pass either two clouds or a cost matrix, not both")
        checks.require_tensor("cost", cost)
        if cost.ndim < 2 or 0 in cost.shape[-2:]:
            raise ValueError(f"a cost matrix has shape (..., n, m) with n, m >= 1, got {tuple(cost.shape)}")
        return None, None
    if not isinstance(cost, str) and not callable(cost):
        raise TypeError(f"cost is a name, a tensor or a function of (x, y), got {type(cost).__name__}")
    if x is None or y is None:
        raise ValueError("two clouds x and y are needed, or a matrix as cost")
    checks.require_clouds(x, y)
    x, y = to_float(x), to_float(y)
    if x.dtype != y.dtype:
        x, y = x.double(), y.double()
    return x, y


def to_float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
